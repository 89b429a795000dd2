//! `skiff rollout`: how far a change is, what was rolled out before, and back to it.

use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::Value;
use skiff_api::client::{Client, ListQuery, Scope};
use skiff_api::resource::{Revision, Service, ServiceSpec};
use skiff_api::rollback::RollBack;
use skiff_api::{Kind, Name};

use crate::Outcome;
use crate::args::{RolloutHistoryArgs, RolloutRestartArgs, RolloutStatusArgs, RolloutUndoArgs, RolloutVerb};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::{describe, row, table};
use crate::verbs::wait;

pub(super) async fn run(context: &Context, verb: RolloutVerb) -> Outcome {
    let client = context.client()?;
    match verb {
        RolloutVerb::Status(args) => status(&client, args).await,
        RolloutVerb::History(args) => history(&client, args).await,
        RolloutVerb::Undo(args) => undo(&client, args).await,
        RolloutVerb::Restart(args) => restart(&client, args).await,
    }
}

async fn status(client: &Client, args: RolloutStatusArgs) -> Outcome {
    let (namespace, name) = (args.namespace.namespace, args.service.0);
    // Waiting for what is not there would wait for somebody to make it.
    let now: Service = client.get::<ServiceSpec>(&namespace, name.as_str()).await?;
    if args.no_wait {
        println!("{}", progress(&now));
        return Ok(ExitCode::SUCCESS);
    }
    let mut said = String::new();
    let mut tell = |service: &Service| {
        let line = progress(service);
        if !wait::is_rolled_out(service) && line != said {
            println!("{line}");
            said = line;
        }
    };
    let services = [(namespace, name.as_str().to_owned())];
    wait::until(wait::is_rolled_out, client, &services, args.timeout.as_duration(), &mut tell).await?;
    println!("service/{name} is rolled out");
    Ok(ExitCode::SUCCESS)
}

fn progress(service: &Service) -> String {
    let name = &service.metadata.name;
    let status = &service.status;
    if wait::is_rolled_out(service) {
        return format!("service/{name} is rolled out");
    }
    if wait::is_ready(service) {
        let old = status.replicas.saturating_sub(status.updated);
        return format!("service/{name}: {} replicas updated, {old} of older revisions to stop", status.updated);
    }
    let wanted = match service.spec.replicas.count() {
        Some(count) => count.to_string(),
        None => "every node's".to_owned(),
    };
    let counts = format!("{} of {wanted} replicas updated, {} ready", status.updated, status.ready);
    format!("service/{name}: {counts}: {}", wait::reason(service))
}

async fn history(client: &Client, args: RolloutHistoryArgs) -> Outcome {
    let (namespace, name) = (args.namespace.namespace, args.service.0);
    // A service that is not there has no history, which is something else than an empty one.
    client.get_value(Kind::Service, &namespace, name.as_str()).await?;
    let revisions = revisions(client, &namespace, &name).await?;
    if let Some(number) = args.revision {
        let Some((_, revision)) = revisions.iter().find(|(at, _)| *at == number) else {
            let text = format!(
                "service/{name} has no revision {number} (hint: those that are kept: `skiff rollout history {name}`)"
            );
            return Err(Failure::message(Exit::NotFound, text));
        };
        print!("{}", describe::render(Kind::Revision, revision, &[], &[], Timestamp::now()));
        return Ok(ExitCode::SUCCESS);
    }
    let now = Timestamp::now();
    let mut rows = Vec::new();
    let mut before: Option<&Value> = None;
    for (number, revision) in &revisions {
        let template = revision.pointer("/spec/template").unwrap_or(&Value::Null);
        let changed = match before {
            None => String::new(),
            Some(before) => changed_fields(before, template).join(", "),
        };
        before = Some(template);
        let image = row::image(&row::text(template.get("image")));
        let age = row::age(&row::text(revision.pointer("/metadata/created")), now);
        rows.push(vec![number.to_string(), image, age, changed]);
    }
    print!("{}", table::render(&["REVISION", "IMAGE", "AGE", "CHANGED"], rows));
    Ok(ExitCode::SUCCESS)
}

/// The kept revisions of a service with their numbers, the oldest first.
async fn revisions(client: &Client, namespace: &Name, service: &Name) -> Result<Vec<(u64, Value)>, Failure> {
    let scope = Scope::Namespace(namespace.clone());
    let all = client.list_values(Kind::Revision, &scope, &ListQuery::default()).await?.items;
    let mut own = Vec::new();
    for value in all {
        let revision: Revision =
            serde_json::from_value(value.clone()).map_err(|error| Failure::new(Exit::Internal, error))?;
        if revision.spec.service == *service {
            own.push((revision.spec.number, value));
        }
    }
    own.sort_by_key(|(number, _)| *number);
    Ok(own)
}

/// Which fields of two templates differ; of a map, which of its keys.
fn changed_fields(before: &Value, after: &Value) -> Vec<String> {
    let (Some(old), Some(new)) = (before.as_object(), after.as_object()) else { return Vec::new() };
    let mut fields = Vec::new();
    for key in old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))) {
        let (was, is) = (old.get(key), new.get(key));
        if was == is {
            continue;
        }
        let empty = Value::Object(serde_json::Map::new());
        let both = (was.unwrap_or(&empty), is.unwrap_or(&empty));
        match (both.0.is_object(), both.1.is_object()) {
            (true, true) => fields.extend(changed_fields(both.0, both.1).into_iter().map(|of| format!("{key}.{of}"))),
            _ => fields.push(key.clone()),
        }
    }
    fields
}

async fn undo(client: &Client, args: RolloutUndoArgs) -> Outcome {
    let name = args.service.0;
    let back = RollBack { revision: args.to_revision };
    let done = client.roll_back(&args.namespace.namespace, name.as_str(), back).await?;
    match done.changed {
        true => println!("service/{name} rolled back to revision {}", done.revision),
        false => println!("service/{name} unchanged: it is as revision {} was", done.revision),
    }
    Ok(ExitCode::SUCCESS)
}

async fn restart(client: &Client, args: RolloutRestartArgs) -> Outcome {
    let name = args.service.0;
    client.restart(&args.namespace.namespace, name.as_str()).await?;
    println!("service/{name} restarted");
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_changed_is_named_by_field_and_key() {
        let before = json!({"image": "a@1", "inFlight": 64, "env": {"LOG": "info", "OLD": "1"}});
        let after = json!({"image": "a@2", "inFlight": 64, "env": {"LOG": "debug"}, "limits": {"cpu": "1"}});
        assert_eq!(changed_fields(&before, &after), ["image", "env.LOG", "env.OLD", "limits.cpu"]);
        assert_eq!(changed_fields(&before, &before), [""; 0]);
    }
}
