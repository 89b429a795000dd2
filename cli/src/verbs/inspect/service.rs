//! `skiff inspect SERVICE`: all that the control plane knows of a service and its replicas, as docker shows a container.

use serde_json::Value;
use skiff_api::client::{Client, ListQuery, Scope};
use skiff_api::resource::{ReplicaSpec, RevisionSpec};
use skiff_api::{Kind, Name};

use crate::args::{InspectArgs, InspectFormat, InspectType, ServerArgs};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::format;

/// What is meant, if it is a service: a name alone, of one that there is, or what says that it is one.
pub(super) async fn text(server: &ServerArgs, args: &InspectArgs) -> Result<Option<String>, Failure> {
    let written = args.component.strip_prefix("service/").or_else(|| args.component.strip_prefix("svc/"));
    let (name, must_be) = match (args.r#type, written) {
        (Some(InspectType::Image), _) => return Ok(None),
        (Some(InspectType::Service), written) => (written.unwrap_or(&args.component), true),
        (None, Some(name)) => (name, true),
        (None, None) => (args.component.as_str(), false),
    };
    if !must_be && name.parse::<Name>().is_err() {
        return Ok(None);
    }
    // Without a control plane it may be an image yet, and what is missing is said there.
    let client = match Context::find(server).and_then(|context| context.client()) {
        Ok(client) => client,
        Err(failure) if must_be => return Err(failure),
        Err(_) => return Ok(None),
    };
    let namespace = &args.namespace.namespace;
    let service = match client.get_value(Kind::Service, namespace, name).await {
        Ok(service) => service,
        Err(error) if error.is_not_found() && !must_be => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let whole = with_replicas(&client, namespace, name, service).await?;
    let list = Value::Array(vec![whole]);
    let text = match args.output {
        Some(InspectFormat::Yaml) => format::yaml(&list)?,
        Some(InspectFormat::Table) => {
            let text =
                "failed to print a service as a table: it has no such form (hint: `skiff describe service NAME`)";
            return Err(Failure::message(Exit::Invalid, text));
        }
        Some(InspectFormat::Json) | None => format::json(&list)?,
    };
    Ok(Some(text))
}

/// The object, with what belongs to it beside its status.
async fn with_replicas(client: &Client, namespace: &Name, name: &str, mut service: Value) -> Result<Value, Failure> {
    let scope = Scope::Namespace(namespace.clone());
    let replicas = client.list::<ReplicaSpec>(&scope, &ListQuery::default()).await?.items;
    let replicas: Vec<_> = replicas.into_iter().filter(|replica| replica.spec.service.as_str() == name).collect();
    let used = |revision: &str| replicas.iter().any(|replica| replica.spec.revision.as_str() == revision);
    let revisions = client.list::<RevisionSpec>(&scope, &ListQuery::default()).await?.items;
    let revisions: Vec<_> = revisions.into_iter().filter(|revision| used(revision.metadata.name.as_str())).collect();
    if let Value::Object(fields) = &mut service {
        // Objects of the API always have a JSON form.
        fields.insert("revisions".to_owned(), serde_json::to_value(&revisions).unwrap_or_default());
        fields.insert("replicas".to_owned(), serde_json::to_value(&replicas).unwrap_or_default());
    }
    Ok(service)
}
