//! Configs and Secrets: what services name is there, says each key once, and stays so while it is named.
//!
//! A service is compared with what it names when it is written, and a Config or Secret with the services that name it. Both
//! take part in one key of the store, the namespace's guard, so that neither can slip in while the other is being written.

use std::collections::BTreeMap;

use serde_json::json;
use skiff_api::manifest::{Document, Typed};
use skiff_api::resource::{ConfigSpec, JobSpec, Object, SecretSpec, Selector, Service, ServiceSpec};
use skiff_api::validate::{DATA_BYTES_MAX, is_variable};
use skiff_api::{Code, Kind, Name, Problem};

use super::ApiState;
use super::failure::{Failure, Result, invalid};
use super::write::{as_service, namespace_of};
use crate::objects::{Change, Indexed, ObjectKey, Objects};

/// How many services a refusal names.
const USERS_SHOWN_MAX: usize = 5;

/// A Config or a Secret.
pub(super) trait Source: Indexed {
    fn keys(&self) -> impl Iterator<Item = &String> + Clone;

    /// The names of those that a service reads.
    fn named(service: &ServiceSpec) -> &[Name];
}

impl Source for ConfigSpec {
    fn keys(&self) -> impl Iterator<Item = &String> + Clone {
        self.data.keys()
    }

    fn named(service: &ServiceSpec) -> &[Name] {
        &service.config
    }
}

impl Source for SecretSpec {
    fn keys(&self) -> impl Iterator<Item = &String> + Clone {
        self.data.keys()
    }

    fn named(service: &ServiceSpec) -> &[Name] {
        &service.secrets
    }
}

/// Seals what a document of a Secret has in the clear, before anything else is done with it.
pub(super) fn conceal(state: &ApiState, document: &mut Document, path: Option<&Name>) -> Result<()> {
    let Typed::Secret(secret) = &mut document.typed else { return Ok(()) };
    let named = path.cloned().or_else(|| document.namespace.clone());
    let Some(namespace) = namespace_of(Kind::Secret, named) else { return Ok(()) };
    let object = format!("secret/{namespace}/{}", secret.metadata.name);
    let refuse = |why: String, hint: &str| invalid(format!("{object}: {why}")).object(object.clone()).hint(hint);
    let bytes = state.vault.seal(&namespace, &secret.metadata.name, &mut secret.spec.data).map_err(|error| {
        let hint = "write the value itself: what is sealed belongs to one cluster, namespace, secret and key";
        refuse(error.to_string(), hint)
    })?;
    if bytes > DATA_BYTES_MAX {
        let why = format!("data: {bytes} bytes of keys and values are more than the {DATA_BYTES_MAX} that are allowed");
        return Err(refuse(why, "split it, or keep large data in an image or a bucket").into());
    }
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

/// What must hold beside a service or job for it to be written.
pub(super) async fn admit_service(
    objects: &Objects,
    kind: Kind,
    service: &Service,
    mut change: Change,
) -> Result<Change> {
    let spec = &service.spec;
    let Some(namespace) = service.metadata.namespace.as_ref().filter(|_| names_any(spec)) else { return Ok(change) };
    let mut keys = Keys::default();
    change = require::<ConfigSpec>(objects, (namespace, kind, service), &mut keys, change).await?;
    change = require::<SecretSpec>(objects, (namespace, kind, service), &mut keys, change).await?;
    let wanted = spec.keyvalue.iter().enumerate().filter_map(|(i, grant)| Some((i, grant.password_key.as_ref()?)));
    let of_secrets = format!("{} ", Kind::Secret.singular());
    let is_secret = |key: &String| keys.0.get(key).is_some_and(|from| from.starts_with(&of_secrets));
    if let Some((i, key)) = wanted.into_iter().find(|(_, key)| !is_secret(key)) {
        let object = ObjectKey::new(kind, Some(namespace), service.metadata.name.as_str()).to_string();
        let detail = format!("{object}: keyvalue[{i}].passwordKey: no secret of it has the key {key}");
        return Err(invalid(detail).object(object).hint("name the Secret that has it in secrets").into());
    }
    Ok(change.touch(namespace))
}

/// All sources of one kind that a service names must be there, get along with it, and stay as they are until it is written.
async fn require<S: Source>(
    objects: &Objects,
    (namespace, kind, service): (&Name, Kind, &Service),
    keys: &mut Keys,
    mut change: Change,
) -> Result<Change> {
    let object = ObjectKey::new(kind, Some(namespace), service.metadata.name.as_str()).to_string();
    for name in S::named(&service.spec) {
        let Some(source) = objects.get::<S>(Some(namespace), name.as_str()).await? else {
            return Err(missing(object, S::KIND, name));
        };
        fits(&object, &service.spec, keys, (S::KIND, name), source.spec.keys())?;
        change = change.require(&source);
    }
    Ok(change)
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
pub(super) async fn admit_source<S: Source>(objects: &Objects, source: &Object<S>, change: Change) -> Result<Change> {
    let key = ObjectKey::of(source);
    let (Some(namespace), Ok(name)) = (&key.namespace, key.name.parse::<Name>()) else { return Ok(change) };
    // Read before the services: whatever is written since moves it, and the commit is refused.
    let guard = objects.guard(namespace).await?;
    for (kind, service) in users::<S>(objects, namespace, &name).await? {
        let mut keys = Keys::default();
        others::<ConfigSpec>(objects, (namespace, &service), (S::KIND, &name), &mut keys).await?;
        others::<SecretSpec>(objects, (namespace, &service), (S::KIND, &name), &mut keys).await?;
        let user = ObjectKey::new(kind, Some(namespace), service.metadata.name.as_str()).to_string();
        fits(&user, &service.spec, &mut keys, (S::KIND, &name), source.spec.keys())?;
    }
    Ok(change.hold(namespace, guard.as_ref()))
}

/// The keys of what a service names beside one source. They got along when it was written.
async fn others<S: Source>(
    objects: &Objects,
    (namespace, service): (&Name, &Service),
    but: (Kind, &Name),
    keys: &mut Keys,
) -> Result<()> {
    for name in S::named(&service.spec).iter().filter(|name| (S::KIND, *name) != but) {
        if let Some(source) = objects.get::<S>(Some(namespace), name.as_str()).await? {
            keys.add(&format!("{} {name}", S::KIND.singular()), source.spec.keys());
        }
    }
    Ok(())
}

/// The services and jobs of a namespace that name a Config or Secret.
async fn users<S: Source>(objects: &Objects, namespace: &Name, name: &Name) -> Result<Vec<(Kind, Service)>> {
    let all = Selector::default();
    let services = objects.list::<ServiceSpec>(Some(namespace), &all).await?.items;
    // What has ended reads nothing any more.
    let jobs = objects.list::<JobSpec>(Some(namespace), &all).await?.items;
    let jobs = jobs.iter().filter(|job| job.status.finished.is_none()).map(|job| (Kind::Job, as_service(job)));
    let mut users: Vec<_> = services.into_iter().map(|service| (Kind::Service, service)).chain(jobs).collect();
    users.retain(|(_, service)| S::named(&service.spec).contains(name));
    Ok(users)
}

/// What must hold for a Config or Secret to be deleted: no service names it.
pub(super) async fn release<S: Source>(objects: &Objects, live: &Object<S>) -> Result<Change> {
    let key = ObjectKey::of(live);
    let (Some(namespace), Ok(name)) = (&key.namespace, key.name.parse::<Name>()) else { return Ok(Change::new()) };
    let guard = objects.guard(namespace).await?;
    let users = users::<S>(objects, namespace, &name).await?;
    if users.is_empty() {
        return Ok(Change::new().hold(namespace, guard.as_ref()));
    }
    let more = if users.len() > USERS_SHOWN_MAX { ", and more" } else { "" };
    let shown: Vec<_> = users.iter().take(USERS_SHOWN_MAX).map(|(_, service)| service.metadata.name.as_str()).collect();
    let detail = format!("{key} is in use by {}{more}", shown.join(", "));
    let hint = "take it out of these services first, or delete them";
    Err(Problem::new(Code::Conflict, detail).object(key.to_string()).hint(hint).into())
}
