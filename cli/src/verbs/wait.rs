//! Waiting until a service is ready, and saying why it is not.

use std::time::Duration;

use futures_util::StreamExt;
use serde_json::Value;
use skiff_api::client::{Change, Client, ListQuery, Scope};
use skiff_api::resource::Service;
use skiff_api::{Kind, Name};

use crate::exit::{Exit, Failure};

/// Waits until each of the services is ready in its generation of now or later.
pub(super) async fn until_ready(client: &Client, services: &[(Name, String)], limit: Duration) -> Result<(), Failure> {
    until(is_ready, client, services, limit, &mut |_| ()).await
}

/// Waits until each of the services is as `is_reached` asks, telling of each state that is seen.
pub(super) async fn until(
    is_reached: fn(&Service) -> bool,
    client: &Client,
    services: &[(Name, String)],
    limit: Duration,
    tell: &mut dyn FnMut(&Service),
) -> Result<(), Failure> {
    let deadline = tokio::time::Instant::now() + limit;
    for (namespace, name) in services {
        let mut last = None;
        let mut see = |service: Service| {
            tell(&service);
            last = Some(service);
        };
        let ready = tokio::time::timeout_at(deadline, one_reached(is_reached, client, namespace, name, &mut see)).await;
        match ready {
            Ok(result) => result?,
            Err(_) => {
                let why = last.as_ref().map_or_else(|| "nothing is known of it".to_owned(), reason);
                let text = format!(
                    "service {namespace}/{name} is not ready after {}s: {why} (hint: see `skiff describe service {name} -n {namespace}`)",
                    limit.as_secs_f32()
                );
                return Err(Failure::message(Exit::NotReady, text));
            }
        }
    }
    Ok(())
}

async fn one_reached(
    is_reached: fn(&Service) -> bool,
    client: &Client,
    namespace: &Name,
    name: &str,
    see: &mut impl FnMut(Service),
) -> Result<(), Failure> {
    let mut changes = Box::pin(client.watch(Kind::Service, Scope::Namespace(namespace.clone()), ListQuery::default()));
    while let Some(change) = changes.next().await {
        let seen: Vec<Value> = match change? {
            Change::Restarted(all) => all,
            Change::Added(one) | Change::Modified(one) => vec![one],
            Change::Deleted(one) if is_named(&one, name) => {
                let text = format!("service {namespace}/{name} was deleted while it was waited for");
                return Err(Failure::message(Exit::NotFound, text));
            }
            Change::Deleted(_) => continue,
        };
        for object in seen.into_iter().filter(|object| is_named(object, name)) {
            let service: Service =
                serde_json::from_value(object).map_err(|error| Failure::new(Exit::Internal, error))?;
            let is_reached = is_reached(&service);
            see(service);
            if is_reached {
                return Ok(());
            }
        }
    }
    Err(Failure::message(Exit::Unreachable, "the watch ended before the service was ready"))
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

pub(super) fn reason(service: &Service) -> String {
    match service.status.condition("Ready") {
        Some(condition) if condition.message.is_empty() => condition.reason.clone(),
        Some(condition) => condition.message.clone(),
        None => "no controller has seen it yet".to_owned(),
    }
}
