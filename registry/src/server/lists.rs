//! Lists: tags, repositories, referrers.

use axum::Json;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use skiff_api::Digest;

use super::auth::{Action, Decision};
use super::error::Failure;
use super::router::Call;
use crate::manifest::{Manifest, media};

/// That this is a registry, and that whoever asks may be here.
pub(super) fn base(call: &Call) -> Result<Response, Failure> {
    only_get(call)?;
    Ok(Json(json!({})).into_response())
}

pub(super) async fn tags(call: Call, repository: String) -> Result<Response, Failure> {
    only_get(&call)?;
    let name = repository.clone();
    let tags = call.server.blocking(move |registry| registry.tags(&name)).await?;
    let tags = tags.ok_or_else(|| {
        Failure::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", format!("there is no repository {repository}"))
    })?;
    let page = Page::cut(&call, tags, |tag| tag.to_ascii_lowercase())?;
    let link = page.link(&format!("/v2/{repository}/tags/list"));
    Ok((link, Json(json!({ "name": repository, "tags": page.items }))).into_response())
}

pub(super) async fn catalog(call: Call) -> Result<Response, Failure> {
    only_get(&call)?;
    let mut names = call.server.blocking(|registry| registry.repositories()).await?;
    names.retain(|name| call.server.decide(&call.headers, Action::Pull, Some(name)) == Decision::Allowed);
    let page = Page::cut(&call, names, str::to_owned)?;
    Ok((page.link("/v2/_catalog"), Json(json!({ "repositories": page.items }))).into_response())
}

pub(super) async fn referrers(call: Call, repository: String, digest: Digest) -> Result<Response, Failure> {
    only_get(&call)?;
    let mut referrers = call.server.blocking(move |registry| registry.referrers(&repository, &digest)).await?;
    let filter = call.query("artifactType");
    if let Some(kind) = filter {
        referrers.retain(|referrer| referrer.artifact_type.as_deref() == Some(kind));
    }
    let index = Manifest {
        schema_version: 2,
        media_type: Some(media::OCI_INDEX.to_owned()),
        manifests: Some(referrers),
        ..Manifest::default()
    };
    let mut response = Json(index).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media::OCI_INDEX));
    if filter.is_some() {
        response.headers_mut().insert("oci-filters-applied", HeaderValue::from_static("artifactType"));
    }
    Ok(response)
}

fn only_get(call: &Call) -> Result<(), Failure> {
    match call.method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Failure::unsupported("this path takes GET")),
    }
}

/// A part of a sorted list: what comes after `last`, at most `n` items.
struct Page {
    items: Vec<String>,
    /// `n`, if items are left after this page.
    more: Option<usize>,
}

impl Page {
    fn cut(call: &Call, items: Vec<String>, key: impl Fn(&str) -> String) -> Result<Self, Failure> {
        let invalid = |_| Failure::new(StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID", "n is not a number");
        let n: Option<usize> = call.query("n").map(str::parse).transpose().map_err(invalid)?;
        let last = call.query("last").map(|last| (key(last), last));
        let mut items: Vec<String> = items
            .into_iter()
            .filter(|item| last.as_ref().is_none_or(|(at, last)| (key(item), item.as_str()) > (at.clone(), *last)))
            .collect();
        let more = n.filter(|n| *n > 0 && *n < items.len());
        items.truncate(n.unwrap_or(usize::MAX));
        Ok(Self { items, more })
    }

    fn link(&self, path: &str) -> Option<[(header::HeaderName, String); 1]> {
        // Tags and repository names need no escaping in a query.
        let (n, last) = (self.more?, self.items.last()?);
        Some([(header::LINK, format!("<{path}?n={n}&last={last}>; rel=\"next\""))])
    }
}
