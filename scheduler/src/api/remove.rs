//! `DELETE` of one object. The answer is the object as it was last.

use axum::Json;
use axum::response::{IntoResponse, Response};
use skiff_api::resource::{
    ConfigSpec, DEFAULT_NAMESPACE, ImagePolicySpec, JobSpec, Liveness, NamespaceSpec, NodeSpec, Replica, ReplicaSpec,
    RevisionSpec, SecretSpec, ServiceSpec,
};
use skiff_api::{Code, Kind, Problem};

use super::ApiState;
use super::failure::Result;
use super::settings;
use super::target::Target;
use super::write::{ATTEMPTS, read_only};
use crate::objects::{Change, Indexed};

pub(super) async fn remove(state: ApiState, kind: Kind, target: Target) -> Result<Response> {
    match kind {
        // What was made from it goes away with it: the controllers see to that.
        Kind::Service => remove_typed::<ServiceSpec>(&state, &target).await,
        Kind::Job => remove_typed::<JobSpec>(&state, &target).await,
        // Its service's controller starts another one in its place.
        Kind::Replica => remove_replica(&state, &target).await,
        Kind::ImagePolicy => remove_typed::<ImagePolicySpec>(&state, &target).await,
        Kind::Config => remove_source::<ConfigSpec>(&state, &target).await,
        Kind::Secret => remove_source::<SecretSpec>(&state, &target).await,
        Kind::Namespace => remove_namespace(&state, &target).await,
        Kind::Node => remove_node(&state, &target).await,
        Kind::Revision | Kind::Event | Kind::Token => Err(read_only(kind).into()),
    }
}

async fn remove_typed<S: Indexed>(state: &ApiState, target: &Target) -> Result<Response> {
    let mut attempt = 1;
    loop {
        let live = state.objects.find::<S>(target.namespace.as_ref(), &target.name).await?;
        match state.objects.commit(Change::new().delete(&live)).await {
            Err(error) if error.is_conflict() && attempt < ATTEMPTS => attempt += 1,
            result => {
                result?;
                return Ok(Json(live).into_response());
            }
        }
    }
}

/// Another takes its place. That of a task, or of what may run in one place only, may not begin before this one has ended: it
/// is told to stop, and goes then.
async fn remove_replica(state: &ApiState, target: &Target) -> Result<Response> {
    let mut attempt = 1;
    loop {
        let mut live = state.objects.find::<ReplicaSpec>(target.namespace.as_ref(), &target.name).await?;
        let ends_first = live.is_task() || is_exclusive(state, &live).await?;
        let may_run = ends_first && live.spec.node.is_some() && !live.status.ended;
        let change = match may_run {
            false => Change::new().delete(&live),
            true if live.spec.stop => return Ok(Json(live).into_response()),
            true => {
                live.spec.stop = true;
                live.metadata.generation += 1;
                let status = live.status.clone();
                Change::new().write_status(&live, status)
            }
        };
        match state.objects.commit(change).await {
            Err(error) if error.is_conflict() && attempt < ATTEMPTS => attempt += 1,
            result => {
                result?;
                return Ok(Json(live).into_response());
            }
        }
    }
}

/// Whether it may run in one place only: what it was made from says so, which is there as long as it is.
async fn is_exclusive(state: &ApiState, replica: &Replica) -> Result<bool> {
    let (namespace, revision) = (replica.metadata.namespace.as_ref(), replica.spec.revision.as_str());
    let revision = state.objects.get::<RevisionSpec>(namespace, revision).await?;
    Ok(revision.is_some_and(|revision| revision.spec.template.is_exclusive()))
}

/// What services are told goes only when none of them asks for it.
async fn remove_source<S: settings::Source>(state: &ApiState, target: &Target) -> Result<Response> {
    let mut attempt = 1;
    loop {
        let live = state.objects.find::<S>(target.namespace.as_ref(), &target.name).await?;
        let change = settings::release(&state.objects, &live).await?;
        match state.objects.commit(change.delete(&live)).await {
            Err(error) if error.is_conflict() && attempt < ATTEMPTS => attempt += 1,
            result => {
                result?;
                return Ok(Json(live).into_response());
            }
        }
    }
}

/// Its machine is let in no more, its links end, and what it had is placed elsewhere.
async fn remove_node(state: &ApiState, target: &Target) -> Result<Response> {
    let mut attempt = 1;
    loop {
        let live = state.objects.find::<NodeSpec>(None, &target.name).await?;
        let (uid, name) = (&live.metadata.uid, &live.metadata.name);
        if state.fleet.is_none() && live.status.liveness == Liveness::Alive {
            let problem = Problem::new(Code::Forbidden, format!("node {name} is this process itself"));
            return Err(problem.object(format!("node/{name}")).into());
        }
        let change = Change::new().delete(&live);
        let change = if state.fleet.is_some() { change.revoke(uid, name) } else { change };
        match state.objects.commit(change).await {
            Err(error) if error.is_conflict() && attempt < ATTEMPTS => attempt += 1,
            result => {
                result?;
                if let Some(fleet) = &state.fleet {
                    fleet.gate().revoke(uid);
                }
                tracing::info!(node = name, %uid, "a node was removed");
                return Ok(Json(live).into_response());
            }
        }
    }
}

async fn remove_namespace(state: &ApiState, target: &Target) -> Result<Response> {
    if target.name == DEFAULT_NAMESPACE {
        let problem = Problem::new(Code::Forbidden, "namespace default cannot be deleted");
        return Err(problem.object("namespace/default").hint("delete what is in it instead").into());
    }
    let live = state.objects.find::<NamespaceSpec>(None, &target.name).await?;
    state.objects.delete_namespace(&live).await?;
    // Nobody could name them any more: whoever makes a namespace of that name begins with empty ones.
    if let Err(error) = state.buckets.clear(&format!("{}/", live.metadata.name)).await {
        tracing::error!(%error, namespace = live.metadata.name, "the buckets of a deleted namespace were not emptied");
    }
    Ok(Json(live).into_response())
}
