//! Manifests: GET, HEAD, PUT, DELETE, by tag and by digest.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;

use super::error::Failure;
use super::route::Reference;
use super::router::Call;
use crate::manifest::MANIFEST_BYTES_MAX;
use crate::store::{PutManifest, Registry, StoredManifest};

/// How many tags a manifest may be given by one request: each is written and synced by itself.
const TAGS_MAX: usize = 64;

/// How many pauses of the longest kind a manifest may take: it is held in memory while it comes.
const READ_IDLES_MAX: u32 = 5;

pub(super) async fn manifest(
    call: Call,
    body: Body,
    repository: String,
    reference: Reference,
) -> Result<Response, Failure> {
    match call.method {
        Method::GET | Method::HEAD => get(call, repository, reference).await,
        Method::PUT => put(call, body, repository, reference).await,
        Method::DELETE => delete(call, repository, reference).await,
        _ => Err(Failure::unsupported("a manifest takes GET, PUT and DELETE")),
    }
}

fn unknown(repository: &str, reference: &Reference) -> Failure {
    let what = match reference {
        Reference::Tag(tag) => format!("tag {tag}"),
        Reference::Digest(digest) => format!("manifest {digest}"),
    };
    Failure::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", format!("repository {repository} has no {what}"))
}

async fn get(call: Call, repository: String, reference: Reference) -> Result<Response, Failure> {
    let (name, wanted) = (repository.clone(), reference.clone());
    let find = move |registry: &Registry| match wanted {
        Reference::Digest(digest) => registry.manifest(&name, &digest),
        Reference::Tag(tag) => match registry.resolve(&name, &tag)? {
            Some(digest) => registry.manifest(&name, &digest),
            None => Ok(None),
        },
    };
    // There is one form of each manifest, so it is the answer whatever Accept says.
    let found: Option<StoredManifest> = call.server.blocking(find).await?;
    let manifest = found.ok_or_else(|| unknown(&repository, &reference))?;
    let headers = [
        (header::CONTENT_TYPE, manifest.media_type),
        (header::CONTENT_LENGTH, manifest.bytes.len().to_string()),
        (header::ETAG, format!("\"{}\"", manifest.digest)),
    ];
    let digest = [("docker-content-digest", manifest.digest.to_string())];
    Ok((headers, digest, Body::from(manifest.bytes)).into_response())
}

async fn put(call: Call, body: Body, repository: String, reference: Reference) -> Result<Response, Failure> {
    let too_large = || {
        let message = format!("a manifest may have {MANIFEST_BYTES_MAX} bytes");
        Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", message)
    };
    let announced: Option<usize> = call.header(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    if announced.is_some_and(|bytes| bytes > MANIFEST_BYTES_MAX) {
        return Err(too_large());
    }
    let bytes = read(body, call.server.body_idle, too_large).await?;
    // A parameter (`; charset=…`) is no part of the type.
    let media_type = call.header(header::CONTENT_TYPE).and_then(|value| value.split(';').next()).map(str::trim);
    let media_type = media_type.filter(|value| !value.is_empty()).map(str::to_owned);
    let name = repository.clone();
    // A manifest that is pushed by its digest may be given tags at once.
    let tags: Vec<String> = match &reference {
        Reference::Digest(_) => call.queries("tag").map(str::to_owned).collect(),
        Reference::Tag(_) => Vec::new(),
    };
    if tags.len() > TAGS_MAX {
        let message = format!("a manifest may be given {TAGS_MAX} tags at once");
        return Err(Failure::new(StatusCode::BAD_REQUEST, "TAG_INVALID", message));
    }
    tags.iter().try_for_each(|tag| Reference::parse_tag(tag).map(drop))?;
    let given = tags.clone();
    let store = move |registry: &Registry| {
        let (digest, tag) = match &reference {
            Reference::Digest(digest) => (Some(digest), None),
            Reference::Tag(tag) => (None, Some(tag.as_str())),
        };
        let media_type = media_type.as_deref();
        let put = PutManifest { repository: &name, media_type, digest, tag, bytes: &bytes };
        let (digest, subject) = registry.put_manifest(&put)?;
        if !given.is_empty() {
            registry.tag(&name, &digest, &given.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        Ok((digest, subject))
    };
    let (digest, subject) = call.server.blocking(store).await?;
    let location = [(header::LOCATION, format!("/v2/{repository}/manifests/{digest}"))];
    let digest = [("docker-content-digest", digest.to_string())];
    let mut response = (StatusCode::CREATED, location, digest).into_response();
    if let Some(subject) = subject.and_then(|subject| subject.to_string().parse().ok()) {
        response.headers_mut().insert("oci-subject", subject);
    }
    for tag in tags.iter().filter_map(|tag| tag.parse().ok()) {
        response.headers_mut().append("oci-tag", tag);
    }
    Ok(response)
}

/// A body of bounded size. One that breaks off is no manifest, whatever came of it.
async fn read(body: Body, idle: Duration, too_large: impl Fn() -> Failure) -> Result<Vec<u8>, Failure> {
    let invalid = |why: String| Failure::new(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", why);
    let mut frames = body.into_data_stream();
    let mut bytes = Vec::new();
    let deadline = tokio::time::sleep(idle * READ_IDLES_MAX);
    tokio::pin!(deadline);
    loop {
        let next = tokio::select! {
            next = tokio::time::timeout(idle, frames.next()) => next.map_err(|_| Failure::too_slow())?,
            () = &mut deadline => return Err(Failure::too_slow()),
        };
        let Some(frame) = next else { return Ok(bytes) };
        let frame = frame.map_err(|e| invalid(format!("the body broke off: {e}")))?;
        if bytes.len() + frame.len() > MANIFEST_BYTES_MAX {
            return Err(too_large());
        }
        bytes.extend_from_slice(&frame);
    }
}

async fn delete(call: Call, repository: String, reference: Reference) -> Result<Response, Failure> {
    let (name, wanted) = (repository.clone(), reference.clone());
    let delete = move |registry: &Registry| match wanted {
        Reference::Digest(digest) => registry.delete_manifest(&name, &digest),
        Reference::Tag(tag) => registry.delete_tag(&name, &tag),
    };
    match call.server.blocking(delete).await? {
        true => Ok(StatusCode::ACCEPTED.into_response()),
        false => Err(unknown(&repository, &reference)),
    }
}
