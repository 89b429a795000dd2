//! Blobs: GET, HEAD, DELETE.

use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use skiff_api::Digest;
use skiff_disk::File;

use super::error::Failure;
use super::range::Part;
use super::router::Call;

/// How much of a blob is in memory per download.
const READ_BYTES: usize = 256 << 10;

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

/// A file's bytes from `at` on, read one buffer at a time as the client takes them.
fn content(file: File, at: u64, bytes: u64) -> impl stream::Stream<Item = io::Result<Bytes>> {
    stream::try_unfold((Arc::new(file), at, bytes), |(file, at, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let reader = Arc::clone(&file);
        let wanted = usize::try_from(left).unwrap_or(READ_BYTES).min(READ_BYTES);
        let read = tokio::task::spawn_blocking(move || {
            let mut buffer = vec![0; wanted];
            let read = reader.read_at(&mut buffer, at)?;
            buffer.truncate(read);
            Ok::<_, io::Error>(buffer)
        });
        let buffer = read.await.map_err(io::Error::other)??;
        if buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the blob is shorter than it was"));
        }
        let read = buffer.len() as u64;
        Ok(Some((Bytes::from(buffer), (file, at + read, left - read))))
    })
}

async fn delete(call: Call, repository: String, digest: Digest) -> Result<Response, Failure> {
    let (name, wanted) = (repository.clone(), digest.clone());
    match call.server.blocking(move |registry| registry.delete_blob(&name, &wanted)).await? {
        true => Ok(StatusCode::ACCEPTED.into_response()),
        false => Err(unknown(&repository, &digest)),
    }
}
