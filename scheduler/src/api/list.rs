//! Reading: one object, or the objects of a kind in pages.
//!
//! All pages of a list show the same revision. The `continue` token names it and the last key that was looked at; it is
//! opaque to clients, and ends with [`Compacted`](skiff_api::Code::Compacted) when that revision is no longer kept.

use axum::Json;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Uri;
use serde::Deserialize;
use serde_json::{Value, json};
use skiff_api::resource::Selector;
use skiff_api::{Kind, Name};

use super::failure::{Result, invalid};
use super::selection::{Selection, to_json};
use super::target::{Target, query};
use super::{ApiState, watch};
use crate::objects::{Error, ObjectKey};
use crate::store::{List, Revision};

/// How many entries are read at once: some megabytes at most, whatever matches.
const PAGE: usize = 500;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ListQuery {
    label_selector: Option<String>,
    limit: Option<usize>,
    #[serde(rename = "continue")]
    token: Option<String>,
    resource_version: Option<String>,
    #[serde(default)]
    watch: bool,
}

/// `GET` on a collection: a list, or a watch.
pub(super) async fn list(state: ApiState, kind: Kind, target: Target, uri: Uri) -> Result<Response> {
    let query: ListQuery = query(&uri)?;
    let selection = Selection::new(kind, target.namespace, query.label_selector.as_deref())?;
    let at = query.resource_version.as_deref().filter(|text| !text.is_empty()).map(revision).transpose()?;
    if query.watch {
        if query.limit.is_some() || query.token.is_some() {
            return Err(invalid("a watch has no pages").hint("leave limit and continue out").into());
        }
        return watch::watch(&state, selection, at).await;
    }
    let limit = query.limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let (at, after) = match query.token.as_deref() {
        Some(token) => position(token, &selection).map(|(revision, key)| (Some(revision), Some(key)))?,
        None => (at, None),
    };
    let page = page(&state, &selection, at, after, limit).await?;
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    if let Some(last) = page.last {
        metadata["continue"] = URL_SAFE_NO_PAD.encode(format!("{} {last}", page.revision)).into();
    }
    Ok(Json(selection.list(metadata, page.items)).into_response())
}

/// One page of a list.
pub(super) struct Page {
    pub(super) revision: Revision,
    pub(super) items: Vec<Value>,
    /// The last key that was looked at, if there may be more behind it.
    last: Option<String>,
}

pub(super) async fn page(
    state: &ApiState,
    selection: &Selection,
    mut at: Option<Revision>,
    mut after: Option<String>,
    limit: usize,
) -> Result<Page> {
    let mut items = Vec::new();
    loop {
        let mut list = List::prefix(selection.prefix()).limit(PAGE);
        list = at.into_iter().fold(list, List::at);
        list = after.iter().fold(list, |list, key| list.after(key.as_str()));
        let listing = state.objects.store().list(list).await?;
        at = Some(listing.revision);
        let count = listing.entries.len();
        for (i, entry) in listing.entries.iter().enumerate() {
            let found = selection.read(entry)?;
            if found.is_selected {
                items.push(found.object);
            }
            let is_last = !listing.more && i + 1 == count;
            if items.len() == limit && !is_last {
                return Ok(Page { revision: listing.revision, items, last: Some(entry.key.to_string()) });
            }
        }
        match listing.entries.last() {
            Some(entry) if listing.more => after = Some(entry.key.to_string()),
            _ => return Ok(Page { revision: listing.revision, items, last: None }),
        }
    }
}

fn revision(text: &str) -> Result<Revision> {
    match text.parse() {
        Ok(number) => Ok(Revision::new(number)),
        Err(_) => Err(invalid(format!("resourceVersion {text:?} is none that this server gave out")).into()),
    }
}

fn position(token: &str, selection: &Selection) -> Result<(Revision, String)> {
    let text = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let parts = text.as_deref().and_then(|text| text.split_once(' '));
    match parts.and_then(|(number, key)| Some((number.parse().ok()?, key))) {
        Some((number, key)) if key.starts_with(&selection.prefix()) => Ok((Revision::new(number), key.to_owned())),
        _ => Err(invalid("the continue token is none that this server gave out for this list").into()),
    }
}

/// `GET` of one object.
pub(super) async fn get(state: ApiState, kind: Kind, target: Target) -> Result<Response> {
    let key = target.key(kind);
    let selection = Selection { kind, namespace: target.namespace, labels: Selector::default() };
    match state.objects.store().get(&key.object()).await? {
        Some(entry) => Ok(Json(selection.read(&entry)?.object).into_response()),
        None => Err(Error::NotFound { object: key }.into()),
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EventQuery {
    label_selector: Option<String>,
    regarding: Option<String>,
    limit: Option<usize>,
}

/// `GET` of events; with `regarding=service/cart`, those of the service, its revisions and its replicas.
pub(super) async fn events(state: ApiState, target: Target, uri: Uri) -> Result<Response> {
    let query: EventQuery = query(&uri)?;
    let selection = Selection::new(Kind::Event, target.namespace, query.label_selector.as_deref())?;
    let namespace = selection.namespace.as_ref();
    let mut events = match query.regarding.as_deref().map(|text| regarding(text, namespace)).transpose()? {
        None => state.events.list(namespace, |_| true)?,
        Some(object) => state.events.list(namespace, |key| object.covers(key))?,
    };
    events.retain(|event| selection.labels.matches(&event.metadata.labels));
    // The newest matter most.
    let surplus = events.len().saturating_sub(query.limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX));
    events.drain(..surplus);
    let items = events.iter().map(to_json).collect::<Result<Vec<_>>>()?;
    Ok(Json(selection.list(json!({"resourceVersion": ""}), items)).into_response())
}

/// One event, by its name.
pub(super) async fn event(state: ApiState, target: Target) -> Result<Response> {
    let events = state.events.list(target.namespace.as_ref(), |_| true)?;
    match events.into_iter().find(|event| event.metadata.name == target.name) {
        Some(event) => Ok(Json(event).into_response()),
        None => Err(Error::NotFound { object: target.key(Kind::Event) }.into()),
    }
}

/// Whose events are asked for.
#[derive(Debug, PartialEq, Eq)]
struct Regarding {
    kind: Kind,
    name: String,
}

impl Regarding {
    /// A service's revisions and replicas are known by their names, also when they are gone: `cart-3`, `cart-3-x7k2p`.
    fn covers(&self, key: &ObjectKey) -> bool {
        let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let rest = || key.name.strip_prefix(&self.name)?.strip_prefix('-');
        match (self.kind, key.kind) {
            (own, other) if own == other => self.name == key.name,
            (Kind::Service | Kind::Job, Kind::Revision) => rest().is_some_and(number),
            (Kind::Service | Kind::Job, Kind::Replica) => rest()
                .and_then(|rest| rest.split_once('-'))
                .is_some_and(|(n, suffix)| number(n) && !suffix.contains('-')),
            _ => false,
        }
    }
}

fn regarding(text: &str, namespace: Option<&Name>) -> Result<Regarding> {
    let Some((kind, name)) = text.split_once('/') else {
        let problem = invalid(format!("regarding {text:?} names no object"));
        return Err(problem.hint("write KIND/NAME, such as service/cart").into());
    };
    let kind: Kind = kind.parse().map_err(|error| invalid(format!("regarding: {error}")))?;
    if kind.is_namespaced() && namespace.is_none() {
        let hint = format!("ask at /v1/namespaces/NAMESPACE/events?regarding={text}");
        return Err(invalid(format!("{text} is in a namespace, and the path names none")).hint(hint).into());
    }
    Ok(Regarding { kind, name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_the_events_of_what_was_made_from_it() {
        let cart = Regarding { kind: Kind::Service, name: "cart".to_owned() };
        let covers = |kind, name: &str| cart.covers(&ObjectKey::new(kind, None, name));
        assert!(
            covers(Kind::Service, "cart") && covers(Kind::Revision, "cart-12") && covers(Kind::Replica, "cart-1-x7k2p")
        );
        for (kind, name) in [
            (Kind::Service, "cart-1"),
            (Kind::Revision, "cart"),
            (Kind::Revision, "cart-1-2"),
            (Kind::Revision, "cart-"),
            (Kind::Replica, "cart-1"),
            (Kind::Replica, "cart-a-1-x7k2p"),
            (Kind::Replica, "cart-2-1-x7k2p"),
            (Kind::Node, "cart"),
        ] {
            assert!(!covers(kind, name), "{kind} {name}");
        }
    }
}
