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
use tokio::task::JoinHandle;

use super::auth::{Action, Decision};
use super::error::Failure;
use super::range;
use super::route;
use super::router::{Call, Server};
use crate::store::{self, Coming, UploadId, UploadMark};

/// How much of an upload is gathered before it is written: frames of a connection are a few kilobytes, and every write
/// is a trip to a blocking thread. While one piece is written the next is gathered, so a push holds two.
const WRITE_BYTES: usize = 256 << 10;

pub(super) async fn start(call: Call, body: Body, repository: String) -> Result<Response, Failure> {
    if call.method != Method::POST {
        return Err(Failure::unsupported("an upload is started with POST"));
    }
    if let Some(mounted) = mount(&call, &repository).await? {
        return Ok(mounted);
    }
    let digest = call.query("digest").map(route::digest).transpose()?;
    let coming = if digest.is_some() { Coming::AtOnce } else { Coming::InParts };
    let (name, client) = (repository.clone(), call.client());
    let id = call.server.blocking(move |registry| registry.start_upload_of(&name, &client, coming)).await?;
    let upload = Upload { server: call.server.clone(), repository, id };
    let Some(digest) = digest else {
        return Ok(upload.accepted(0));
    };
    // Nobody else knows of this upload, so it ends with this request, also when the client goes away.
    let mut alone = Alone(Some(upload));
    let Some(upload) = &alone.0 else { return Err(Failure::stopped()) };
    upload.append(0, Chunk::of(&call)?, body).await?;
    let created = upload.finish(digest).await?;
    alone.0 = None;
    Ok(created)
}

/// An upload that nobody can go on with.
struct Alone(Option<Upload>);

impl Drop for Alone {
    fn drop(&mut self) {
        let Some(Upload { server, repository, id }) = self.0.take() else { return };
        // One that failed is gone already.
        tokio::spawn(async move {
            let cancel = server.blocking(move |registry| registry.cancel_upload(&repository, &id));
            drop(cancel.await);
        });
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
    if call.method == Method::DELETE {
        return upload.cancel().await.map(|()| StatusCode::NO_CONTENT.into_response());
    }
    let mark = upload.mark().await?;
    match call.method {
        Method::GET | Method::HEAD => Ok((StatusCode::NO_CONTENT, upload.accepted(mark.bytes)).into_response()),
        Method::PATCH => {
            let chunk = Chunk::of(&call)?;
            match chunk.follows(mark.bytes) {
                true => upload.part(mark, chunk, body).await.map(|bytes| upload.accepted(bytes)),
                false => Ok(upload.out_of_order(mark.bytes)),
            }
        }
        Method::PUT => {
            let digest = call.query("digest").ok_or_else(|| Failure::digest_invalid("the digest is missing"))?;
            let digest = route::digest(digest)?;
            let chunk = Chunk::of(&call)?;
            if !chunk.follows(mark.bytes) {
                return Ok(upload.out_of_order(mark.bytes));
            }
            upload.part(mark, chunk, body).await?;
            upload.finish(digest).await
        }
        _ => Err(Failure::unsupported("an upload takes GET, PATCH, PUT and DELETE")),
    }
}

/// What a request says about the chunk that it carries. docker and skopeo say nothing: theirs is always the next.
#[derive(Debug, Clone, Copy)]
struct Chunk {
    /// Where it belongs.
    first: Option<u64>,
    /// How long it is, by its range, or else by its length.
    bytes: Option<u64>,
}

impl Chunk {
    fn of(call: &Call) -> Result<Self, Failure> {
        let sent: Option<u64> = call.header(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
        let Some(header) = call.header(header::CONTENT_RANGE) else { return Ok(Self { first: None, bytes: sent }) };
        let (first, bytes) =
            range::chunk(header).ok_or_else(|| size_invalid(format!("Content-Range {header:?} is not FIRST-LAST")))?;
        match sent.is_none_or(|sent| sent == bytes) {
            true => Ok(Self { first: Some(first), bytes: Some(bytes) }),
            false => Err(size_invalid(format!("Content-Range {header:?} does not fit the Content-Length"))),
        }
    }

    fn follows(self, bytes: u64) -> bool {
        self.first.is_none_or(|first| first == bytes)
    }
}

fn size_invalid(message: String) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, "SIZE_INVALID", message)
}

impl Chunk {
    fn mismatch(self, received: u64) -> Failure {
        let bytes = self.bytes.unwrap_or_default();
        let more = if received > bytes { "more" } else { "fewer" };
        size_invalid(format!("the chunk has {more} bytes than the {bytes} that were announced"))
    }
}

/// Why a body was not taken.
enum Stopped {
    /// What came so far is good.
    Broken(Failure),
    /// It is not what was announced. The upload ends at `end`.
    Mismatch { end: u64, failure: Failure },
}

impl From<Stopped> for Failure {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Broken(failure) | Stopped::Mismatch { failure, .. } => failure,
        }
    }
}

/// Waits for a piece that is being written; returns where it ends, or `otherwise`.
async fn finished(writing: &mut Option<JoinHandle<Result<u64, Failure>>>, otherwise: u64) -> Result<u64, Stopped> {
    let Some(piece) = writing.take() else { return Ok(otherwise) };
    match piece.await {
        Ok(written) => written.map_err(Stopped::Broken),
        Err(_) => Err(Stopped::Broken(Failure::stopped())),
    }
}

struct Upload {
    server: Server,
    repository: String,
    id: UploadId,
}

impl Upload {
    async fn mark(&self) -> Result<UploadMark, Failure> {
        let (name, id) = (self.repository.clone(), self.id.clone());
        self.server.blocking(move |registry| registry.mark_upload(&name, &id)).await
    }

    async fn cancel(&self) -> Result<(), Failure> {
        let (name, id) = (self.repository.clone(), self.id.clone());
        self.server.blocking(move |registry| registry.cancel_upload(&name, &id)).await
    }

    /// Takes a chunk; returns the upload's new end. Of a body that breaks off what was written stays, and the client may
    /// go on from there; of one that is not as long as was said nothing does.
    async fn part(&self, mark: UploadMark, chunk: Chunk, body: Body) -> Result<u64, Failure> {
        let taken = self.append(mark.bytes, chunk, body).await;
        let (name, id) = (self.repository.clone(), self.id.clone());
        match taken {
            Err(Stopped::Mismatch { end, failure }) => {
                self.server.blocking(move |registry| registry.rewind_upload(&name, &id, &mark, end)).await?;
                Err(failure)
            }
            Err(Stopped::Broken(failure)) => {
                // If it is gone, that failure says so.
                drop(self.server.blocking(move |registry| registry.keep_upload(&name, &id)).await);
                Err(failure)
            }
            Ok(_) => self.server.blocking(move |registry| registry.keep_upload(&name, &id)).await,
        }
    }

    /// Writes a body at `offset`, a piece at a time; returns where it ends.
    async fn append(&self, offset: u64, chunk: Chunk, body: Body) -> Result<u64, Stopped> {
        let max = self.server.limits().blob_bytes_max;
        if chunk.bytes.is_some_and(|bytes| offset.saturating_add(bytes) > max) {
            return Err(Stopped::Broken(store::Error::BlobTooLarge { max }.into()));
        }
        let mut frames = body.into_data_stream();
        let mut gathered = Vec::with_capacity(WRITE_BYTES);
        let mut writing = None;
        let mut received = 0_u64;
        let broken = |why: String| {
            let message = format!("the body broke off: {why}");
            Stopped::Broken(Failure::new(StatusCode::BAD_REQUEST, "BLOB_UPLOAD_INVALID", message))
        };
        let outcome = loop {
            let frame: Bytes = match tokio::time::timeout(self.server.body_idle, frames.next()).await {
                Err(_) => break Err(Stopped::Broken(Failure::too_slow())),
                Ok(None) => break Ok(()),
                Ok(Some(Err(e))) => break Err(broken(e.to_string())),
                Ok(Some(Ok(frame))) => frame,
            };
            received += frame.len() as u64;
            if chunk.bytes.is_some_and(|bytes| received > bytes) {
                break Err(Stopped::Mismatch { end: 0, failure: chunk.mismatch(received) });
            }
            gathered.extend_from_slice(&frame);
            if gathered.len() >= WRITE_BYTES {
                let at = finished(&mut writing, offset).await?;
                writing = Some(self.write(at, std::mem::replace(&mut gathered, Vec::with_capacity(WRITE_BYTES))));
            }
        };
        let mut end = finished(&mut writing, offset).await?;
        if !gathered.is_empty() {
            end = finished(&mut Some(self.write(end, gathered)), offset).await?;
        }
        match outcome {
            Err(Stopped::Mismatch { failure, .. }) => Err(Stopped::Mismatch { end, failure }),
            Err(broken) => Err(broken),
            Ok(()) if chunk.bytes.is_some_and(|bytes| received != bytes) => {
                Err(Stopped::Mismatch { end, failure: chunk.mismatch(received) })
            }
            Ok(()) => Ok(end),
        }
    }

    /// Starts to write a piece. It is written even if the client goes away meanwhile.
    fn write(&self, offset: u64, data: Vec<u8>) -> JoinHandle<Result<u64, Failure>> {
        let (server, name, id) = (self.server.clone(), self.repository.clone(), self.id.clone());
        tokio::spawn(
            async move { server.blocking(move |registry| registry.append_upload(&name, &id, offset, &data)).await },
        )
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
