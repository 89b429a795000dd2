//! Configs and Secrets: what services name is there, says each key once, and stays so while it is named.
//!
//! A service is compared with what it names when it is written, and a Config or Secret with the services that name it. Both
//! take part in one key of the store, the namespace's guard, so that neither can slip in while the other is being written.

use std::collections::BTreeMap;

use serde_json::json;
use skiff_api::manifest::{Document, Typed};
use skiff_api::resource::{Config, ConfigSpec, Object, Secret, SecretSpec, Selector, Service, ServiceSpec};
use skiff_api::validate::is_variable;
use skiff_api::{Code, Kind, Name, Problem};

use super::ApiState;
use super::failure::{Failure, Result, invalid};
use super::write::namespace_of;
use crate::objects::{Change, Indexed, ObjectKey, Objects};

/// How many services a refusal names.
const USERS_SHOWN_MAX: usize = 5;

/// Seals what a document of a Secret has in the clear, before anything else is done with it.
pub(super) fn conceal(state: &ApiState, document: &mut Document, path: Option<&Name>) -> Result<()> {
    let Typed::Secret(secret) = &mut document.typed else { return Ok(()) };
    let named = path.cloned().or_else(|| document.namespace.clone());
    let Some(namespace) = namespace_of(Kind::Secret, named) else { return Ok(()) };
    let object = format!("secret/{namespace}/{}", secret.metadata.name);
    state.vault.seal(&namespace, &secret.metadata.name, &mut secret.spec.data).map_err(|error| {
        let problem = invalid(format!("{object}: {error}")).object(object);
        problem.hint("write the value itself: what is sealed belongs to one cluster, namespace, secret and key")
    })?;
    if let Some(data) = document.sparse.pointer_mut("/spec/data") {
        *data = json!(secret.spec.data);
    }
    Ok(())
}

/// The keys of what a service names, each with where it is from.
#[derive(Default)]
struct Keys(BTreeMap<String, String>);

impl Keys {
    /// Takes in the keys of one more source; the first that is there already, with where it is from.
    fn add<'a>(&mut self, from: &str, keys: impl IntoIterator<Item = &'a String>) -> Option<(String, String)> {
        for key in keys {
            if let Some(other) = self.0.insert(key.clone(), from.to_owned()) {
                return Some((key.clone(), other));
            }
        }
        None
    }
}

/// What must hold beside a service for it to be written.
pub(super) async fn admit_service(objects: &Objects, service: &Service, mut change: Change) -> Result<Change> {
    let spec = &service.spec;
    let Some(namespace) = service.metadata.namespace.as_ref().filter(|_| names_any(spec)) else { return Ok(change) };
    let object = ObjectKey::of(service).to_string();
    let mut keys = Keys::default();
    for name in &spec.config {
        let Some(config) = objects.get::<ConfigSpec>(Some(namespace), name.as_str()).await? else {
            return Err(missing(object, Kind::Config, name));
        };
        fits(&object, spec, &mut keys, (Kind::Config, name), config.spec.data.keys())?;
        change = change.require(&config);
    }
    for name in &spec.secrets {
        let Some(secret) = objects.get::<SecretSpec>(Some(namespace), name.as_str()).await? else {
            return Err(missing(object, Kind::Secret, name));
        };
        fits(&object, spec, &mut keys, (Kind::Secret, name), secret.spec.data.keys())?;
        change = change.require(&secret);
    }
    Ok(change.touch(namespace))
}

fn names_any(spec: &ServiceSpec) -> bool {
    !spec.config.is_empty() || !spec.secrets.is_empty()
}

fn missing(object: String, kind: Kind, name: &Name) -> Failure {
    let (field, kind) = (if kind == Kind::Config { "config" } else { "secrets" }, kind.singular());
    let detail = format!("{object}: {field}: there is no {kind} {name} in its namespace");
    let hint = match field {
        "config" => format!("apply it first, or in the same file: kind: Config, name: {name}, data: {{KEY: value}}"),
        _ => format!("make it first: skiff create secret {name} --from-literal KEY=-"),
    };
    Problem::new(Code::NotFound, detail).object(object).hint(hint).into()
}

fn fits<'a>(
    object: &str,
    spec: &ServiceSpec,
    keys: &mut Keys,
    (kind, name): (Kind, &Name),
    own: impl Iterator<Item = &'a String> + Clone,
) -> Result<()> {
    let from = format!("{} {name}", kind.singular());
    let refuse =
        |detail: String, hint: &str| Err(invalid(format!("{object}: {detail}")).object(object).hint(hint).into());
    if let Some((key, other)) = keys.add(&from, own.clone()) {
        return refuse(
            format!("{from} and {other} both define {key}"),
            "each key has one value: rename one of the two",
        );
    }
    if spec.env_from.contains(name) {
        for key in own {
            if !is_variable(key) {
                let hint = "letters, digits and '_', not starting with a digit; or take it out of envFrom";
                return refuse(format!("envFrom: {key:?} of {from} is not a variable's name"), hint);
            }
            if spec.env.contains_key(key) {
                let hint = "each variable has one value: rename one of the two, or take it out of env";
                return refuse(format!("env and {from} both define {key}"), hint);
            }
        }
    }
    Ok(())
}

/// What must hold beside a Config or Secret for it to be written: the services that name it get along with its keys.
async fn admit_source<'a>(
    objects: &Objects,
    key: &ObjectKey,
    own: impl Iterator<Item = &'a String> + Clone,
    change: Change,
) -> Result<Change> {
    let Some(namespace) = &key.namespace else { return Ok(change) };
    let Ok(name) = key.name.parse::<Name>() else { return Ok(change) };
    // Read before the services: whatever is written since moves it, and the commit is refused.
    let guard = objects.guard(namespace).await?;
    for service in users(objects, namespace, key.kind, &name).await? {
        let object = ObjectKey::of(&service).to_string();
        let mut keys = Keys::default();
        for (kind, names) in [(Kind::Config, &service.spec.config), (Kind::Secret, &service.spec.secrets)] {
            for other in names.iter().filter(|other| (kind, *other) != (key.kind, &name)) {
                let others = keys_of(objects, namespace, kind, other).await?;
                let _ = keys.add(&format!("{} {other}", kind.singular()), &others);
            }
        }
        fits(&object, &service.spec, &mut keys, (key.kind, &name), own.clone())?;
    }
    Ok(change.hold(namespace, guard.as_ref()))
}

async fn keys_of(objects: &Objects, namespace: &Name, kind: Kind, name: &Name) -> Result<Vec<String>> {
    Ok(match kind {
        Kind::Config => {
            let config = objects.get::<ConfigSpec>(Some(namespace), name.as_str()).await?;
            config.map_or_else(Vec::new, |config| config.spec.data.into_keys().collect())
        }
        _ => {
            let secret = objects.get::<SecretSpec>(Some(namespace), name.as_str()).await?;
            secret.map_or_else(Vec::new, |secret| secret.spec.data.into_keys().collect())
        }
    })
}

pub(super) async fn admit_config(objects: &Objects, config: &Config, change: Change) -> Result<Change> {
    admit_source(objects, &ObjectKey::of(config), config.spec.data.keys(), change).await
}

pub(super) async fn admit_secret(objects: &Objects, secret: &Secret, change: Change) -> Result<Change> {
    admit_source(objects, &ObjectKey::of(secret), secret.spec.data.keys(), change).await
}

/// The services of a namespace that name a Config or Secret.
async fn users(objects: &Objects, namespace: &Name, kind: Kind, name: &Name) -> Result<Vec<Service>> {
    let mut services = objects.list::<ServiceSpec>(Some(namespace), &Selector::default()).await?.items;
    services.retain(|service| match kind {
        Kind::Config => service.spec.config.contains(name),
        _ => service.spec.secrets.contains(name),
    });
    Ok(services)
}

/// What must hold for a Config or Secret to be deleted: no service names it.
pub(super) async fn release<S: Indexed>(objects: &Objects, live: &Object<S>) -> Result<Change> {
    let key = ObjectKey::of(live);
    let (Some(namespace), Ok(name)) = (&key.namespace, key.name.parse::<Name>()) else { return Ok(Change::new()) };
    let guard = objects.guard(namespace).await?;
    let users = users(objects, namespace, key.kind, &name).await?;
    if users.is_empty() {
        return Ok(Change::new().hold(namespace, guard.as_ref()));
    }
    let more = if users.len() > USERS_SHOWN_MAX { ", and more" } else { "" };
    let shown: Vec<_> = users.iter().take(USERS_SHOWN_MAX).map(|service| service.metadata.name.as_str()).collect();
    let detail = format!("{key} is in use by {}{more}", shown.join(", "));
    let hint = "take it out of these services first, or delete them";
    Err(Problem::new(Code::Conflict, detail).object(key.to_string()).hint(hint).into())
}
