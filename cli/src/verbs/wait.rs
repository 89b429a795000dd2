//! Waiting until a service is ready, and saying why it is not.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;
use skiff_api::Name;
use skiff_api::client::{Change, Client, ListQuery, Scope};
use skiff_api::resource::{Condition, Job, Object, Service, Spec};
use tokio::time::Instant;

use crate::exit::{Exit, Failure};

/// Waits until each of the services is ready in its generation of now or later.
pub(super) async fn until_ready(client: &Client, services: &[(Name, String)], limit: Duration) -> Result<(), Failure> {
    until(is_ready, client, services, limit, &mut |_| ()).await
}

/// Waits until each of the jobs has ended; one that has failed is an error.
pub(super) async fn until_complete(client: &Client, jobs: &[(Name, String)], limit: Duration) -> Result<(), Failure> {
    let mut failed = None;
    until(has_ended, client, jobs, limit, &mut |job: &Job| {
        failed = job.status.condition("Failed").filter(|_| has_ended(job)).map(|condition| {
            let name = &job.metadata.name;
            format!("job {name} has failed: {} (hint: see `skiff logs job/{name}`)", condition.message)
        });
    })
    .await?;
    failed.map_or(Ok(()), |text| Err(Failure::message(Exit::NotReady, text)))
}

/// Ended one way or the other, in its generation of now.
pub(super) fn has_ended(job: &Job) -> bool {
    job.status.observed_generation >= job.metadata.generation && job.status.finished.is_some()
}

/// What can be waited for.
pub(super) trait Awaited: Spec {
    const WHAT: &'static str;

    fn conditions(object: &Object<Self>) -> &[Condition];
}

impl Awaited for skiff_api::resource::ServiceSpec {
    const WHAT: &'static str = "is not ready";

    fn conditions(service: &Service) -> &[Condition] {
        &service.status.conditions
    }
}

impl Awaited for skiff_api::resource::JobSpec {
    const WHAT: &'static str = "has not ended";

    fn conditions(job: &Job) -> &[Condition] {
        &job.status.conditions
    }
}

/// When a wait ends: one that is longer than a clock can count, in a year.
pub(super) fn deadline(limit: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    Instant::now() + limit.min(YEAR)
}

/// Waits until each of the objects is as `is_reached` asks, telling of each state that is seen.
pub(super) async fn until<S: Awaited>(
    is_reached: fn(&Object<S>) -> bool,
    client: &Client,
    objects: &[(Name, String)],
    limit: Duration,
    tell: &mut dyn FnMut(&Object<S>),
) -> Result<(), Failure> {
    let (kind, what) = (S::KIND.singular(), S::WHAT);
    let deadline = deadline(limit);
    for (namespace, name) in objects {
        let mut last = None;
        let mut see = |object: Object<S>| {
            tell(&object);
            last = Some(object);
        };
        let ready = tokio::time::timeout_at(deadline, one_reached(is_reached, client, namespace, name, &mut see)).await;
        match ready {
            Ok(result) => result?,
            Err(_) => {
                let why = last.as_ref().map_or_else(|| "nothing is known of it".to_owned(), reason);
                let text = format!(
                    "{kind} {namespace}/{name} {what} after {}s: {why} (hint: see `skiff describe {kind} {name} -n {namespace}`)",
                    limit.as_secs_f32()
                );
                return Err(Failure::message(Exit::NotReady, text));
            }
        }
    }
    Ok(())
}

async fn one_reached<S: Awaited>(
    is_reached: fn(&Object<S>) -> bool,
    client: &Client,
    namespace: &Name,
    name: &str,
    see: &mut impl FnMut(Object<S>),
) -> Result<(), Failure> {
    let mut changes = Box::pin(client.watch(S::KIND, Scope::Namespace(namespace.clone()), ListQuery::default()));
    while let Some(change) = changes.next().await {
        let seen: Vec<Value> = match change? {
            Change::Restarted(all) => all,
            Change::Added(one) | Change::Modified(one) => vec![one],
            Change::Deleted(one) if is_named(&one, name) => {
                let text = format!("{} {namespace}/{name} was deleted while it was waited for", S::KIND.singular());
                return Err(Failure::message(Exit::NotFound, text));
            }
            Change::Deleted(_) => continue,
        };
        for object in seen.into_iter().filter(|object| is_named(object, name)) {
            let object: Object<S> =
                serde_json::from_value(object).map_err(|error| Failure::new(Exit::Internal, error))?;
            let is_reached = is_reached(&object);
            see(object);
            if is_reached {
                return Ok(());
            }
        }
    }
    Err(Failure::message(Exit::Unreachable, "the watch ended before it was so"))
}

fn is_named(object: &Value, name: &str) -> bool {
    object.pointer("/metadata/name").and_then(Value::as_str) == Some(name)
}

pub(super) fn is_ready(service: &Service) -> bool {
    service.status.observed_generation >= service.metadata.generation
        && service.status.condition("Ready").is_some_and(|condition| condition.status)
}

/// Ready, and no replica of an older revision is left.
pub(super) fn is_rolled_out(service: &Service) -> bool {
    is_ready(service) && service.status.replicas <= service.status.updated
}

pub(super) fn reason<S: Awaited>(object: &Object<S>) -> String {
    match S::conditions(object).first() {
        Some(condition) if condition.message.is_empty() => condition.reason.clone(),
        Some(condition) => condition.message.clone(),
        None => "no controller has seen it yet".to_owned(),
    }
}
