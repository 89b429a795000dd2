//! Rollouts that need no manifest: back to an earlier revision, and the same once more.
//!
//! Both change what the service's replicas are made from and nothing else, so the rollout that follows is that of any
//! other change. Going back makes a new revision: numbers tell the order of what was rolled out.

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use skiff_api::resource::{Revision, RevisionSpec, Selector, Service, ServiceSpec};
use skiff_api::rollback::{RollBack, RolledBack};
use skiff_api::{Code, Name, Problem};

use super::failure::Result;
use super::target::Target;
use super::write::{ATTEMPTS, Writable, fault_problem};
use super::{ApiState, body, policies};
use crate::objects::{Change, ObjectKey};

/// `POST` on a service's rollback.
pub(super) async fn roll_back(state: ApiState, target: Target, body: Body) -> Result<Response> {
    let RollBack { revision } = body::json(body).await?;
    let mut attempt = 1;
    loop {
        let live = state.objects.find::<ServiceSpec>(target.namespace.as_ref(), &target.name).await?;
        let back = chosen(&live, kept(&state, target.namespace.as_ref(), &live).await?, revision)?;
        let to = back.number;
        let mut wanted = live.clone();
        wanted.spec.roll_back(back.template);
        if wanted.spec == live.spec {
            return Ok(Json(RolledBack { revision: to, changed: false }).into_response());
        }
        match write(&state, &live, &wanted).await? {
            None if attempt < ATTEMPTS => attempt += 1,
            None => return Err(lost(&live)),
            Some(_) => return Ok(Json(RolledBack { revision: to, changed: true }).into_response()),
        }
    }
}

/// `POST` on a service's restart: new replicas of what it is, one after another as its `update` says.
pub(super) async fn restart(state: ApiState, target: Target) -> Result<Response> {
    let mut attempt = 1;
    loop {
        let live = state.objects.find::<ServiceSpec>(target.namespace.as_ref(), &target.name).await?;
        let mut wanted = live.clone();
        wanted.spec.restarted_at = Some(Timestamp::now());
        match write(&state, &live, &wanted).await? {
            None if attempt < ATTEMPTS => attempt += 1,
            None => return Err(lost(&live)),
            Some(service) => return Ok(Json(service).into_response()),
        }
    }
}

/// Writes `wanted` as any other writer of services has to, or answers that somebody else was faster.
async fn write(state: &ApiState, live: &Service, wanted: &Service) -> Result<Option<Service>> {
    if let Some(fault) = ServiceSpec::faults(wanted).into_iter().next() {
        return Err(fault_problem(fault).into());
    }
    policies::check(state, skiff_api::Kind::Service, wanted).await?;
    let change = ServiceSpec::admit(&state.objects, wanted, Some(live), Change::new()).await?;
    match state.objects.write_spec(live, wanted, change).await {
        Err(error) if error.is_conflict() => Ok(None),
        result => Ok(Some(result?)),
    }
}

fn lost(live: &Service) -> super::failure::Failure {
    let detail = format!("others change service {} all the time", live.metadata.name);
    Problem::new(Code::Conflict, detail).object(ObjectKey::of(live).to_string()).hint("try again").into()
}

/// The revisions of a service that are kept, the newest first.
async fn kept(state: &ApiState, namespace: Option<&Name>, service: &Service) -> Result<Vec<Revision>> {
    let mut revisions = state.objects.list::<RevisionSpec>(namespace, &Selector::default()).await?.items;
    revisions.retain(|revision| revision.spec.service.as_str() == service.metadata.name);
    revisions.sort_by_key(|revision| std::cmp::Reverse(revision.spec.number));
    Ok(revisions)
}

fn chosen(service: &Service, kept: Vec<Revision>, number: Option<u64>) -> Result<RevisionSpec> {
    let numbers = kept.iter().map(|revision| revision.spec.number.to_string()).collect::<Vec<_>>().join(", ");
    let current = service.spec.template();
    let found = match number {
        Some(number) => kept.into_iter().find(|revision| revision.spec.number == number),
        // What is newest may not have become a revision yet, or may be what failed: the one before is another template.
        None => kept.into_iter().find(|revision| revision.spec.template != current),
    };
    found.map(|revision| revision.spec).ok_or_else(|| {
        let name = &service.metadata.name;
        let detail = match number {
            Some(number) => format!("service {name} has no revision {number}"),
            None => format!("service {name} has no other revision to go back to"),
        };
        let problem = Problem::new(Code::NotFound, detail).object(ObjectKey::of(service).to_string());
        let hint = match numbers.is_empty() {
            true => "none was made yet".to_owned(),
            false => format!("these are kept: {numbers}"),
        };
        problem.hint(hint).into()
    })
}
