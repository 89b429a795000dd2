//! `POST /v1/apply`: what a file says, merged into what is there.
//!
//! The body is one object with only the fields that the file names. It is remembered with the object, so that the next
//! apply can tell a field that was taken out of the file (its default holds again) from one that the file never named
//! (it stays as whoever wrote it left it). See [`merge`](super::merge). Server fields in the body (uid, resource version,
//! status) are ignored, so that what `get` prints can be applied.

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::Uri;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use skiff_api::Kind;
use skiff_api::manifest::Document;
use skiff_api::resource::{ConfigSpec, ImagePolicySpec, JobSpec, NamespaceSpec, Object, SecretSpec, ServiceSpec};
use utoipa::ToSchema;

use super::failure::{Result, invalid};
use super::images::Moved;
use super::merge::merge;
use super::selection::to_json;
use super::target::query;
use super::write::{ATTEMPTS, Writable, fault_problem, is_same, namespace_of, read_only};
use super::{ApiState, body, settings};
use crate::objects::{Change, Error, ObjectKey, Objects};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ApplyQuery {
    #[serde(default)]
    dry_run: bool,
}

/// What an apply did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    Created,
    Configured,
    Unchanged,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Applied {
    action: Action,
    /// The object as it is now.
    object: Value,
    /// Set if the image's tag leads elsewhere than when it was last applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    moved: Option<Moved>,
    /// What whoever applied it should know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

pub(super) async fn apply(state: ApiState, uri: Uri, body: Body) -> Result<Response> {
    let query: ApplyQuery = query(&uri)?;
    let mut document = body::document(body).await?;
    settings::conceal(&state, &mut document, None)?;
    let objects = if query.dry_run { state.objects.dry_run() } else { state.objects.clone() };
    let applied = match document.kind {
        Kind::Service => apply_typed::<ServiceSpec>(&state, &objects, document).await?,
        Kind::Job => apply_typed::<JobSpec>(&state, &objects, document).await?,
        Kind::Namespace => apply_typed::<NamespaceSpec>(&state, &objects, document).await?,
        Kind::ImagePolicy => apply_typed::<ImagePolicySpec>(&state, &objects, document).await?,
        Kind::Config => apply_typed::<ConfigSpec>(&state, &objects, document).await?,
        Kind::Secret => apply_typed::<SecretSpec>(&state, &objects, document).await?,
        kind => return Err(read_only(kind).into()),
    };
    Ok(Json(applied).into_response())
}

async fn apply_typed<S: Writable>(state: &ApiState, objects: &Objects, document: Document) -> Result<Applied> {
    let Document { sparse, typed, kind, .. } = document;
    let mismatch = || invalid(format!("the body says {kind} and is none"));
    let mut object: Object<S> = S::of(typed).ok_or_else(mismatch)?;
    object.metadata.namespace = namespace_of(S::KIND, object.metadata.namespace);
    let mut attempt = 1;
    loop {
        match attempt_to_apply(state, objects, &object, &sparse).await? {
            Ok(applied) => return Ok(applied),
            Err(error) if error.is_conflict() && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Applies over what is there now. The inner error is the store's: on a conflict, somebody was faster.
async fn attempt_to_apply<S: Writable>(
    state: &ApiState,
    objects: &Objects,
    object: &Object<S>,
    sparse: &Value,
) -> Result<std::result::Result<Applied, Error>> {
    let key = ObjectKey::of(object);
    let change = Change::new().applied(&key, sparse);
    let Some(live) = objects.get::<S>(key.namespace.as_ref(), &key.name).await? else {
        objects.require_namespace(key.namespace.as_ref()).await?;
        let mut object = object.clone();
        S::prepare(state, &mut object, None).await?;
        let change = S::admit(objects, &object, None, change).await?;
        return outcome(Action::Created, objects.create_with(object, change).await, None);
    };
    let last = last_applied(objects, &key).await?;
    let mut wanted = merged(&live, &last, sparse)?;
    let moved = S::prepare(state, &mut wanted, Some(&live)).await?;
    if !is_same(&live, &wanted) {
        let change = S::admit(objects, &wanted, Some(&live), change).await?;
        return outcome(Action::Configured, objects.write_spec(&live, &wanted, change).await, moved);
    }
    if last == *sparse {
        return outcome(Action::Unchanged, Ok(live), None);
    }
    // The file says less or more than before of what holds anyway: that decides what the next apply takes out.
    let remembered = objects.commit(change.require(&live)).await;
    outcome(Action::Unchanged, remembered.map(|_| live), None)
}

fn outcome<S: Writable>(
    action: Action,
    result: std::result::Result<Object<S>, Error>,
    moved: Option<Moved>,
) -> Result<std::result::Result<Applied, Error>> {
    match result {
        Ok(object) => {
            // Who applies what is there already has read it before.
            let notes = if action == Action::Unchanged { Vec::new() } else { S::notes(&object) };
            Ok(Ok(Applied { action, object: to_json(&object)?, moved, notes }))
        }
        Err(error) => Ok(Err(error)),
    }
}

async fn last_applied(objects: &Objects, key: &ObjectKey) -> Result<Value> {
    let path = key.applied();
    match objects.store().get(&path).await? {
        Some(entry) => {
            serde_json::from_slice(&entry.value).map_err(|source| Error::Damaged { key: path, source }.into())
        }
        None => Ok(Value::Null),
    }
}

/// The live object with what the file says.
fn merged<S: Writable>(live: &Object<S>, last: &Value, sparse: &Value) -> Result<Object<S>> {
    let mut wanted = to_json(live)?;
    let empty = Value::Object(serde_json::Map::new());
    for path in ["/spec", "/metadata/labels", "/metadata/annotations"] {
        let part = |document: &Value| document.pointer(path).unwrap_or(&empty).clone();
        let merged = merge(&part(last), &part(&wanted), &part(sparse));
        let (parent, field) = path.rsplit_once('/').unwrap_or_default();
        if let Some(Value::Object(parent)) = wanted.pointer_mut(parent) {
            parent.insert(field.to_owned(), merged);
        }
    }
    let wanted: Object<S> = serde_json::from_value(wanted).map_err(|error| invalid(error.to_string()))?;
    match S::faults(&wanted).into_iter().next() {
        Some(fault) => Err(fault_problem(fault).into()),
        None => Ok(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_leaves_the_file_has_its_default_again() {
        let live: skiff_api::resource::Service = serde_json::from_value(serde_json::json!({
            "apiVersion": "skiff/v1", "kind": "Service",
            "metadata": {"name": "cart", "labels": {"tier": "backend", "team": "shop"}},
            "spec": {"image": "cart:1", "replicas": 5, "http": {"inFlight": 7, "timeout": {"idle": "9s"}}},
        }))
        .unwrap();
        let last = serde_json::json!({"spec": {"replicas": 3, "http": {"inFlight": 7}}, "metadata": {"labels": {"tier": "x"}}});
        let sparse = serde_json::json!({"spec": {"image": "cart:2"}, "metadata": {}});
        let wanted = merged(&live, &last, &sparse).unwrap();
        assert_eq!(wanted.spec.image.to_string(), "cart:2");
        assert_eq!((wanted.spec.replicas, wanted.spec.http.in_flight), (1.into(), 64));
        assert_eq!(wanted.spec.http.timeout.idle, "9s".parse().unwrap(), "the file never named it");
        assert_eq!(wanted.metadata.labels.into_iter().collect::<Vec<_>>(), [("team".to_owned(), "shop".to_owned())]);
    }
}
