//! Blobs: GET, HEAD, DELETE.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt as _};
use skiff_api::Digest;
use skiff_disk::File;

use super::error::Failure;
use super::range::Part;
use super::router::Call;

/// How much of a blob is read at once.
const READ_BYTES: usize = 256 << 10;

/// How many pieces of a blob a download has in memory, the one that is sent not counted.
const READ_AHEAD: usize = 2;

pub(super) async fn blob(call: Call, repository: String, digest: Digest) -> Result<Response, Failure> {
    match call.method {
        Method::GET | Method::HEAD => get(call, repository, digest).await,
        Method::DELETE => delete(call, repository, digest).await,
        _ => Err(Failure::unsupported("blobs are pushed to blobs/uploads/")),
    }
}

fn unknown(repository: &str, digest: &Digest) -> Failure {
    Failure::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", format!("repository {repository} has no blob {digest}"))
}

async fn get(call: Call, repository: String, digest: Digest) -> Result<Response, Failure> {
    let (name, wanted) = (repository.clone(), digest.clone());
    let blob = call.server.blocking(move |registry| registry.blob(&name, &wanted)).await?;
    let blob = blob.ok_or_else(|| unknown(&repository, &digest))?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::ETAG, format!("\"{digest}\"")),
        // Content under a digest never changes.
        (header::CACHE_CONTROL, "max-age=31536000, immutable".to_owned()),
    ];
    let digest_header = [("docker-content-digest", digest.to_string())];
    let range = match call.method {
        Method::GET => call.header(header::RANGE),
        _ => None,
    };
    let (status, first, bytes, range) = match Part::parse(range, blob.bytes) {
        Part::Whole => (StatusCode::OK, 0, blob.bytes, None),
        Part::Some { first, last } => {
            let range = format!("bytes {first}-{last}/{}", blob.bytes);
            (StatusCode::PARTIAL_CONTENT, first, last - first + 1, Some(range))
        }
        Part::None => {
            let range = [(header::CONTENT_RANGE, format!("bytes */{}", blob.bytes))];
            let message = format!("blob {digest} has {} bytes", blob.bytes);
            let failure = Failure::new(StatusCode::RANGE_NOT_SATISFIABLE, "SIZE_INVALID", message);
            return Ok((range, failure).into_response());
        }
    };
    let body = match call.method {
        Method::HEAD => Body::empty(),
        _ => Body::from_stream(content(blob.file, first, bytes)),
    };
    let length = [(header::CONTENT_LENGTH, bytes.to_string())];
    let range = range.map(|range| [(header::CONTENT_RANGE, range)]);
    let mut response = (status, headers, digest_header, length, body).into_response();
    for (name, value) in range.into_iter().flatten() {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

/// A file's bytes from `at` on. While the client takes one piece the next is read.
fn content(file: File, at: u64, bytes: u64) -> impl Stream<Item = io::Result<Bytes>> {
    let file = Arc::new(file);
    let pieces = stream::iter((0..bytes).step_by(READ_BYTES)).map(move |offset| {
        let file = Arc::clone(&file);
        let wanted = usize::try_from(bytes - offset).unwrap_or(READ_BYTES).min(READ_BYTES);
        async move {
            let read = tokio::task::spawn_blocking(move || read_piece(&file, at + offset, wanted));
            read.await.map_err(io::Error::other)?
        }
    });
    pieces.buffered(READ_AHEAD)
}

fn read_piece(file: &File, at: u64, bytes: usize) -> io::Result<Bytes> {
    let mut buffer = vec![0; bytes];
    let mut filled = 0;
    while filled < bytes {
        match file.read_at(&mut buffer[filled..], at + filled as u64)? {
            0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the blob is shorter than it was")),
            n => filled += n,
        }
    }
    Ok(Bytes::from(buffer))
}

async fn delete(call: Call, repository: String, digest: Digest) -> Result<Response, Failure> {
    let (name, wanted) = (repository.clone(), digest.clone());
    match call.server.blocking(move |registry| registry.delete_blob(&name, &wanted)).await? {
        true => Ok(StatusCode::ACCEPTED.into_response()),
        false => Err(unknown(&repository, &digest)),
    }
}
