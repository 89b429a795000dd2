//! Writing whole objects: `POST` creates, `PUT` replaces.
//!
//! `PUT` with a `metadata.resourceVersion` writes only if the object is at that version; without one, the last write
//! wins. Both leave status, uid and all else that is the server's as it is.

use std::future::Future;

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use skiff_api::manifest::{Document, Typed};
use skiff_api::resource::{
    BucketGrant, Config, ConfigSpec, DEFAULT_NAMESPACE, ImagePolicy, ImagePolicySpec, Job, JobSpec, Metadata,
    Namespace, NamespaceSpec, Object, Secret, SecretSpec, Service, ServiceSpec,
};
use skiff_api::validate::{self, Fault};
use skiff_api::{Code, Kind, Name, Problem};

use super::failure::{Result, invalid};
use super::images::{self, Moved};
use super::target::Target;
use super::{ApiState, body, grants, policies, settings};
use crate::objects::{Change, Error, Indexed, ObjectKey, Objects};

/// How often a write that lost a race against another is tried again. Controllers write a status a few times in a
/// service's life; who loses that often is not in a race but in a fight.
pub(crate) const ATTEMPTS: usize = 16;

/// A kind that people write.
pub(super) trait Writable: Indexed {
    fn of(typed: Typed) -> Option<Object<Self>>;

    /// What the types alone cannot say.
    fn faults(object: &Object<Self>) -> Vec<Fault>;

    /// What whoever writes it should know.
    fn notes(_: &Object<Self>) -> Vec<String> {
        Vec::new()
    }

    /// Completes an object from what the cluster has, before it is written over `live`, and checks what it then is.
    fn prepare(
        state: &ApiState,
        object: &mut Object<Self>,
        live: Option<&Object<Self>>,
    ) -> impl Future<Output = Result<Option<Moved>>> + Send;

    /// Checks an object against others, before it is written over `live`; the change then holds only while they are so.
    fn admit(
        objects: &Objects,
        object: &Object<Self>,
        live: Option<&Object<Self>>,
        change: Change,
    ) -> impl Future<Output = Result<Change>> + Send;
}

impl Writable for ServiceSpec {
    fn of(typed: Typed) -> Option<Service> {
        match typed {
            Typed::Service(service) => Some(*service),
            _ => None,
        }
    }

    fn faults(service: &Service) -> Vec<Fault> {
        validate::service(service)
    }

    fn notes(service: &Service) -> Vec<String> {
        bucket_notes(&service.spec.keyvalue)
    }

    async fn prepare(state: &ApiState, service: &mut Service, live: Option<&Service>) -> Result<Option<Moved>> {
        let moved = images::pin(&*state.images, Kind::Service, service, live.map(|live| &live.spec)).await?;
        // Also where nothing is new: whoever applies learns that it would not start again.
        policies::check(state, Kind::Service, service).await?;
        Ok(moved)
    }

    async fn admit(objects: &Objects, service: &Service, live: Option<&Service>, change: Change) -> Result<Change> {
        let change = grants::admit_service(objects, Kind::Service, service, change).await?;
        let change = settings::admit_service(objects, Kind::Service, service, change).await?;
        Ok(alone(Kind::Job, &service.metadata, live.is_none(), change))
    }
}

/// Services and jobs are told apart by their names alone, as those that call and may be called.
fn alone(other: Kind, metadata: &Metadata, is_new: bool, change: Change) -> Change {
    match is_new {
        true => change.require_none(&ObjectKey::new(other, metadata.namespace.as_ref(), metadata.name.as_str())),
        false => change,
    }
}

fn bucket_notes(grants: &[BucketGrant]) -> Vec<String> {
    let shared = grants.iter().filter(|grant| grant.is_clusters());
    let note = |grant: &BucketGrant| {
        format!(
            "the bucket {} is kept by the control plane: while a node cannot reach it, its values cannot be read or set there (hint: scope: node keeps one on each node)",
            grant.bucket
        )
    };
    shared.map(note).collect()
}

impl Writable for JobSpec {
    fn of(typed: Typed) -> Option<Job> {
        match typed {
            Typed::Job(job) => Some(*job),
            _ => None,
        }
    }

    fn faults(job: &Job) -> Vec<Fault> {
        validate::job(job)
    }

    fn notes(job: &Job) -> Vec<String> {
        bucket_notes(&job.spec.keyvalue)
    }

    /// What is asked of a service's image and fields is asked of a job's.
    async fn prepare(state: &ApiState, job: &mut Job, live: Option<&Job>) -> Result<Option<Moved>> {
        let mut service = as_service(job);
        let live = live.map(|live| live.spec.as_service());
        let moved = images::pin(&*state.images, Kind::Job, &mut service, live.as_ref()).await?;
        policies::check(state, Kind::Job, &service).await?;
        job.spec.image = service.spec.image;
        Ok(moved)
    }

    async fn admit(objects: &Objects, job: &Job, live: Option<&Job>, change: Change) -> Result<Change> {
        let service = as_service(job);
        let change = grants::admit_service(objects, Kind::Job, &service, change).await?;
        let change = settings::admit_service(objects, Kind::Job, &service, change).await?;
        Ok(alone(Kind::Service, &job.metadata, live.is_none(), change))
    }
}

pub(super) fn as_service(job: &Job) -> Service {
    Service::new(job.metadata.clone(), job.spec.as_service())
}

impl Writable for NamespaceSpec {
    fn of(typed: Typed) -> Option<Namespace> {
        match typed {
            Typed::Namespace(namespace) => Some(*namespace),
            _ => None,
        }
    }

    fn faults(namespace: &Namespace) -> Vec<Fault> {
        validate::namespace(namespace)
    }

    async fn prepare(_: &ApiState, _: &mut Namespace, _: Option<&Namespace>) -> Result<Option<Moved>> {
        Ok(None)
    }

    async fn admit(
        objects: &Objects,
        namespace: &Namespace,
        live: Option<&Namespace>,
        change: Change,
    ) -> Result<Change> {
        grants::admit_namespace(objects, namespace, live, change).await
    }
}

impl Writable for ImagePolicySpec {
    fn of(typed: Typed) -> Option<ImagePolicy> {
        match typed {
            Typed::ImagePolicy(policy) => Some(*policy),
            _ => None,
        }
    }

    fn faults(policy: &ImagePolicy) -> Vec<Fault> {
        validate::image_policy(policy)
    }

    async fn prepare(_: &ApiState, _: &mut ImagePolicy, _: Option<&ImagePolicy>) -> Result<Option<Moved>> {
        Ok(None)
    }

    /// What runs goes on running: nodes ask for signatures before they start something.
    async fn admit(_: &Objects, _: &ImagePolicy, _: Option<&ImagePolicy>, change: Change) -> Result<Change> {
        Ok(change)
    }
}

impl Writable for ConfigSpec {
    fn of(typed: Typed) -> Option<Config> {
        match typed {
            Typed::Config(config) => Some(*config),
            _ => None,
        }
    }

    fn faults(config: &Config) -> Vec<Fault> {
        validate::config(config)
    }

    async fn prepare(_: &ApiState, _: &mut Config, _: Option<&Config>) -> Result<Option<Moved>> {
        Ok(None)
    }

    async fn admit(objects: &Objects, config: &Config, _: Option<&Config>, change: Change) -> Result<Change> {
        settings::admit_source(objects, config, change).await
    }
}

impl Writable for SecretSpec {
    fn of(typed: Typed) -> Option<Secret> {
        match typed {
            Typed::Secret(secret) => Some(*secret),
            _ => None,
        }
    }

    fn faults(secret: &Secret) -> Vec<Fault> {
        validate::secret(secret)
    }

    async fn prepare(_: &ApiState, _: &mut Secret, _: Option<&Secret>) -> Result<Option<Moved>> {
        Ok(None)
    }

    async fn admit(objects: &Objects, secret: &Secret, _: Option<&Secret>, change: Change) -> Result<Change> {
        settings::admit_source(objects, secret, change).await
    }
}

/// `POST` on a collection.
pub(super) async fn create(state: ApiState, kind: Kind, target: Target, body: Body) -> Result<Response> {
    let mut document = body::document(body).await?;
    settings::conceal(&state, &mut document, target.namespace.as_ref())?;
    match kind {
        Kind::Service => create_typed::<ServiceSpec>(&state, &target, document).await,
        Kind::Job => create_typed::<JobSpec>(&state, &target, document).await,
        Kind::Namespace => create_typed::<NamespaceSpec>(&state, &target, document).await,
        Kind::ImagePolicy => create_typed::<ImagePolicySpec>(&state, &target, document).await,
        Kind::Config => create_typed::<ConfigSpec>(&state, &target, document).await,
        Kind::Secret => create_typed::<SecretSpec>(&state, &target, document).await,
        _ => Err(read_only(kind).into()),
    }
}

async fn create_typed<S: Writable>(state: &ApiState, target: &Target, document: Document) -> Result<Response> {
    let mut object: Object<S> = placed(target, document)?.object;
    state.objects.require_namespace(object.metadata.namespace.as_ref()).await?;
    S::prepare(state, &mut object, None).await?;
    let change = S::admit(&state.objects, &object, None, Change::new()).await?;
    let object = state.objects.create_with(object, change).await?;
    Ok((StatusCode::CREATED, Json(object)).into_response())
}

/// `PUT` on an object.
pub(super) async fn replace(state: ApiState, kind: Kind, target: Target, body: Body) -> Result<Response> {
    let mut document = body::document(body).await?;
    settings::conceal(&state, &mut document, target.namespace.as_ref())?;
    match kind {
        Kind::Service => replace_typed::<ServiceSpec>(&state, &target, document).await,
        Kind::Job => replace_typed::<JobSpec>(&state, &target, document).await,
        Kind::Namespace => replace_typed::<NamespaceSpec>(&state, &target, document).await,
        Kind::ImagePolicy => replace_typed::<ImagePolicySpec>(&state, &target, document).await,
        Kind::Config => replace_typed::<ConfigSpec>(&state, &target, document).await,
        Kind::Secret => replace_typed::<SecretSpec>(&state, &target, document).await,
        _ => Err(read_only(kind).into()),
    }
}

async fn replace_typed<S: Writable>(state: &ApiState, target: &Target, document: Document) -> Result<Response> {
    let Placed { object: wanted, resource_version } = placed::<S>(target, document)?;
    let mut attempt = 1;
    loop {
        let live: Object<S> = state.objects.find(target.namespace.as_ref(), &target.name).await?;
        if let Some(seen) = resource_version.as_ref().filter(|seen| **seen != live.metadata.resource_version) {
            let (object, now) = (ObjectKey::of(&live), live.metadata.resource_version);
            return Err(Error::Conflict { object, seen: seen.clone(), now }.into());
        }
        let mut wanted = wanted.clone();
        S::prepare(state, &mut wanted, Some(&live)).await?;
        if is_same(&live, &wanted) {
            return Ok(Json(live).into_response());
        }
        let change = S::admit(&state.objects, &wanted, Some(&live), Change::new()).await?;
        match state.objects.write_spec(&live, &wanted, change).await {
            Err(error) if error.is_conflict() && resource_version.is_none() && attempt < ATTEMPTS => attempt += 1,
            result => return Ok(Json(result?).into_response()),
        }
    }
}

/// Whether writing `wanted` over `live` would change nothing.
pub(super) fn is_same<S: Indexed>(live: &Object<S>, wanted: &Object<S>) -> bool {
    live.spec == wanted.spec
        && live.metadata.labels == wanted.metadata.labels
        && live.metadata.annotations == wanted.metadata.annotations
}

/// An object that is where the path says.
struct Placed<S: Writable> {
    object: Object<S>,
    resource_version: Option<String>,
}

fn placed<S: Writable>(target: &Target, document: Document) -> Result<Placed<S>> {
    let (kind, named) = (document.kind, document.namespace.clone());
    let resource_version = document.resource_version;
    let Some(mut object) = S::of(document.typed) else {
        return Err(invalid(format!("the body is a {kind}, the path is for a {}", S::KIND)).into());
    };
    if let (Some(path), Some(body)) = (&target.namespace, &named)
        && path != body
    {
        return Err(invalid(format!("the body is for namespace {body}, the path for {path}")).into());
    }
    if !target.name.is_empty() && object.metadata.name != target.name {
        let detail = format!("the body is for {}, the path for {}", object.metadata.name, target.name);
        return Err(invalid(detail).into());
    }
    object.metadata.namespace = namespace_of(S::KIND, target.namespace.clone().or(named));
    if let Some(fault) = S::faults(&object).into_iter().next() {
        return Err(fault_problem(fault).into());
    }
    Ok(Placed { object, resource_version })
}

/// The namespace that an object is written to: `default` if none is named.
pub(super) fn namespace_of(kind: Kind, named: Option<Name>) -> Option<Name> {
    match kind.is_namespaced() {
        true => named.or_else(|| DEFAULT_NAMESPACE.parse().ok()),
        false => None,
    }
}

pub(super) fn fault_problem(fault: Fault) -> Problem {
    let problem = invalid(format!("{}: {}", fault.field, fault.message));
    fault.hint.into_iter().fold(problem, Problem::hint)
}

pub(super) fn read_only(kind: Kind) -> Problem {
    let problem = Problem::new(Code::Forbidden, format!("a {kind} is written by Skiff itself"));
    match kind {
        Kind::Revision | Kind::Replica => problem.hint("change the Service or Job that it belongs to"),
        Kind::Token => problem.hint("make one with `skiff token create --node`, end it with `skiff token revoke`"),
        _ => problem,
    }
}
