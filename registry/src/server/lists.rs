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
use crate::store::Registry;

/// How many items a page has at most, whatever is asked for: a megabyte of the longest tags.
const PAGE_MAX: usize = 10_000;

/// That this is a registry, and that whoever asks may be here.
pub(super) fn base(call: &Call) -> Result<Response, Failure> {
    only_get(call)?;
    Ok(Json(json!({})).into_response())
}

pub(super) async fn tags(call: Call, repository: String) -> Result<Response, Failure> {
    only_get(&call)?;
    let n = Page::size(&call)?;
    let (name, last) = (repository.clone(), call.query("last").map(str::to_owned));
    let _turn = call.server.turn().await;
    let tags = call.server.blocking(move |registry| registry.tags_after(&name, last.as_deref(), n)).await?;
    let (items, more) = tags.ok_or_else(|| {
        Failure::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", format!("there is no repository {repository}"))
    })?;
    let page = Page { items, more: Some(n).filter(|n| more && *n > 0) };
    let link = page.link(&format!("/v2/{repository}/tags/list"));
    Ok((link, Json(json!({ "name": repository, "tags": page.items }))).into_response())
}

pub(super) async fn catalog(call: Call) -> Result<Response, Failure> {
    only_get(&call)?;
    let _turn = call.server.turn().await;
    let mut names = call.server.blocking(|registry| registry.repositories()).await?;
    names.retain(|name| call.server.decide(&call.headers, Action::Pull, Some(name)) == Decision::Allowed);
    let page = Page::cut(&call, names)?;
    Ok((page.link("/v2/_catalog"), Json(json!({ "repositories": page.items }))).into_response())
}

pub(super) async fn referrers(call: Call, repository: String, digest: Digest) -> Result<Response, Failure> {
    only_get(&call)?;
    let filter = call.query("artifactType").map(str::to_owned);
    let after = call.query("last").map(super::route::digest).transpose()?;
    let path = format!("/v2/{repository}/referrers/{digest}");
    let _turn = call.server.turn().await;
    let kind = filter.clone();
    let read = move |registry: &Registry| {
        registry.referrers_after(&repository, &digest, after.as_ref(), |referrer| {
            kind.is_none() || referrer.artifact_type == kind
        })
    };
    let page = call.server.blocking(read).await?;
    let index = Manifest {
        schema_version: 2,
        media_type: Some(media::OCI_INDEX.to_owned()),
        manifests: Some(page.referrers),
        ..Manifest::default()
    };
    let mut response = Json(index).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media::OCI_INDEX));
    if filter.is_some() {
        headers.insert("oci-filters-applied", HeaderValue::from_static("artifactType"));
    }
    if let Some(last) = page.next_after {
        let filter = filter.map(|filter| format!("&artifactType={}", escaped(&filter))).unwrap_or_default();
        if let Ok(link) = format!("<{path}?last={last}{filter}>; rel=\"next\"").parse() {
            headers.insert(header::LINK, link);
        }
    }
    Ok(response)
}

/// A text as a value in a query.
fn escaped(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/');
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match is_plain(byte) {
            true => escaped.push(char::from(byte)),
            false => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
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
    /// How many items are asked for, within bounds.
    fn size(call: &Call) -> Result<usize, Failure> {
        let invalid = |_| Failure::new(StatusCode::BAD_REQUEST, "PAGINATION_NUMBER_INVALID", "n is not a number");
        let n: Option<usize> = call.query("n").map(str::parse).transpose().map_err(invalid)?;
        Ok(n.unwrap_or(PAGE_MAX).min(PAGE_MAX))
    }

    fn cut(call: &Call, mut items: Vec<String>) -> Result<Self, Failure> {
        let n = Self::size(call)?;
        if let Some(last) = call.query("last") {
            items.retain(|item| item.as_str() > last);
        }
        let more = Some(n).filter(|n| *n > 0 && *n < items.len());
        items.truncate(n);
        Ok(Self { items, more })
    }

    fn link(&self, path: &str) -> Option<[(header::HeaderName, String); 1]> {
        // Tags and repository names need no escaping in a query.
        let (n, last) = (self.more?, self.items.last()?);
        Some([(header::LINK, format!("<{path}?n={n}&last={last}>; rel=\"next\""))])
    }
}
