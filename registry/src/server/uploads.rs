//! Uploads: POST, PATCH, PUT, GET, DELETE, in one piece or in chunks.
//!
//! ```text
//! POST uploads/                    202 Location      then PATCH*, PUT ?digest
//! POST uploads/ ?digest  + body    201               all at once
//! POST uploads/ ?mount&from        201, or 202 and an upload where that is not possible
//! PATCH ID               + body    202 Range         out of order: 416 with where it stands
//! PUT ID ?digest         (+ body)  201
//! ```

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use skiff_api::Digest;
use skiff_api::image::is_repository;

use super::auth::{Action, Decision};
use super::error::Failure;
use super::range;
use super::route;
use super::router::{Call, Server};
use crate::store::UploadId;

/// How much of an upload is gathered before it is written: frames of a connection are a few kilobytes, and every write
/// is a trip to a blocking thread.
const WRITE_BYTES: usize = 512 << 10;

pub(super) async fn start(call: Call, body: Body, repository: String) -> Result<Response, Failure> {
    if call.method != Method::POST {
        return Err(Failure::unsupported("an upload is started with POST"));
    }
    if let Some(mounted) = mount(&call, &repository).await? {
        return Ok(mounted);
    }
    let digest = call.query("digest").map(route::digest).transpose()?;
    let name = repository.clone();
    let id = call.server.blocking(move |registry| registry.start_upload(&name)).await?;
    let upload = Upload { server: call.server, repository, id };
    let Some(digest) = digest else {
        return Ok(upload.accepted(0));
    };
    match upload.append(0, body).await {
        Ok(_) => upload.finish(digest).await,
        // Nobody else knows of this upload.
        Err(failure) => {
            drop(upload.cancel().await);
            Err(failure)
        }
    }
}

/// Links a blob that another repository has, if the client asks for that and may read it there.
async fn mount(call: &Call, repository: &str) -> Result<Option<Response>, Failure> {
    let (Some(digest), Some(from)) = (call.query("mount"), call.query("from")) else { return Ok(None) };
    let digest = route::digest(digest)?;
    if !is_repository(from) || call.server.decide(&call.headers, Action::Pull, Some(from)) != Decision::Allowed {
        return Ok(None);
    }
    let (to, from, wanted) = (repository.to_owned(), from.to_owned(), digest.clone());
    let mounted = call.server.blocking(move |registry| registry.mount_blob(&to, &from, &wanted)).await?;
    Ok(mounted.then(|| created(repository, &digest)))
}

pub(super) async fn upload(call: Call, body: Body, repository: String, id: String) -> Result<Response, Failure> {
    let upload = Upload { server: call.server.clone(), repository, id: UploadId::from_client(&id) };
    let bytes = upload.bytes().await?;
    match call.method {
        Method::GET | Method::HEAD => Ok((StatusCode::NO_CONTENT, upload.accepted(bytes)).into_response()),
        Method::DELETE => upload.cancel().await.map(|()| StatusCode::NO_CONTENT.into_response()),
        Method::PATCH => match in_order(&call, bytes)? {
            true => upload.append(bytes, body).await.map(|bytes| upload.accepted(bytes)),
            false => Ok(upload.out_of_order(bytes)),
        },
        Method::PUT => {
            let digest = call.query("digest").ok_or_else(|| Failure::digest_invalid("the digest is missing"))?;
            let digest = route::digest(digest)?;
            if !in_order(&call, bytes)? {
                return Ok(upload.out_of_order(bytes));
            }
            upload.append(bytes, body).await?;
            upload.finish(digest).await
        }
        _ => Err(Failure::unsupported("an upload takes GET, PATCH, PUT and DELETE")),
    }
}

/// Whether a chunk starts where the upload ends. docker and skopeo send no `Content-Range`: theirs is always next.
fn in_order(call: &Call, bytes: u64) -> Result<bool, Failure> {
    let Some(header) = call.header(header::CONTENT_RANGE) else { return Ok(true) };
    let invalid =
        |why: &str| Failure::new(StatusCode::BAD_REQUEST, "SIZE_INVALID", format!("Content-Range {header:?} {why}"));
    let (first, length) = range::chunk(header).ok_or_else(|| invalid("is not FIRST-LAST"))?;
    let sent: Option<u64> = call.header(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    match sent.is_none_or(|sent| sent == length) {
        true => Ok(first == bytes),
        false => Err(invalid("does not fit the Content-Length")),
    }
}

struct Upload {
    server: Server,
    repository: String,
    id: UploadId,
}

impl Upload {
    async fn bytes(&self) -> Result<u64, Failure> {
        let (name, id) = (self.repository.clone(), self.id.clone());
        self.server.blocking(move |registry| registry.upload_bytes(&name, &id)).await
    }

    async fn cancel(&self) -> Result<(), Failure> {
        let (name, id) = (self.repository.clone(), self.id.clone());
        self.server.blocking(move |registry| registry.cancel_upload(&name, &id)).await
    }

    /// Writes a body at `offset`, a buffer at a time; returns the upload's new end. A body that breaks off leaves what
    /// was written, and the client may go on from there.
    async fn append(&self, mut offset: u64, body: Body) -> Result<u64, Failure> {
        let mut frames = body.into_data_stream();
        let mut gathered = Vec::new();
        while let Some(frame) = frames.next().await {
            let frame: Bytes = frame.map_err(|e| {
                Failure::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", format!("the body broke off: {e}"))
            })?;
            gathered.extend_from_slice(&frame);
            if gathered.len() >= WRITE_BYTES {
                offset = self.write(offset, std::mem::take(&mut gathered)).await?;
            }
        }
        match gathered.is_empty() {
            true => Ok(offset),
            false => self.write(offset, gathered).await,
        }
    }

    async fn write(&self, offset: u64, data: Vec<u8>) -> Result<u64, Failure> {
        let (name, id) = (self.repository.clone(), self.id.clone());
        self.server.blocking(move |registry| registry.append_upload(&name, &id, offset, &data)).await
    }

    async fn finish(&self, digest: Digest) -> Result<Response, Failure> {
        let (name, id, expected) = (self.repository.clone(), self.id.clone(), digest.clone());
        self.server.blocking(move |registry| registry.finish_upload(&name, &id, &expected)).await?;
        Ok(created(&self.repository, &digest))
    }

    /// Where the upload stands and where it goes on.
    fn accepted(&self, bytes: u64) -> Response {
        let Self { repository, id, .. } = self;
        let headers = [
            (header::LOCATION, format!("/v2/{repository}/blobs/uploads/{id}")),
            (header::RANGE, format!("0-{}", bytes.saturating_sub(1))),
        ];
        (StatusCode::ACCEPTED, headers, [("docker-upload-uuid", id.to_string())]).into_response()
    }

    fn out_of_order(&self, bytes: u64) -> Response {
        let message = format!("the chunk is out of order: the upload has {bytes} bytes");
        let failure = Failure::new(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", message);
        let mut response = failure.into_response();
        let accepted = self.accepted(bytes);
        for name in [header::LOCATION, header::RANGE] {
            if let Some(value) = accepted.headers().get(&name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        response
    }
}

fn created(repository: &str, digest: &Digest) -> Response {
    let headers = [(header::LOCATION, format!("/v2/{repository}/blobs/{digest}"))];
    let mut response = (StatusCode::CREATED, headers, [("docker-content-digest", digest.to_string())]).into_response();
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    response
}
