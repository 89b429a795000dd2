//! Pushing: the blobs that the registry does not have yet, then the manifest.
//!
//! To the cluster's registry a blob goes up in chunks, each a request of its own: it must be heard from within the idle
//! time, however slow the line. Others get it in one, as docker sends it: not all of them take chunks. Where an upload
//! breaks off the registry is asked how much of it it has, and gets the rest.

use bytes::Bytes;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RANGE};
use reqwest::{Method, Response, StatusCode, Url};
use skiff_api::Digest;

use super::artifact::Artifact;
use super::error::Error;
use super::fetch::push_scope;
use super::options::RegistryKind;
use super::remote::{Call, Client, Inner};
use crate::manifest::media;

/// A chunk takes a 2 Mbit/s line 16 seconds, half of the idle time.
const CHUNK_BYTES: usize = 4 << 20;

/// A blob on its way up.
struct Upload<'a> {
    image: &'a str,
    repository: &'a str,
    scope: String,
    digest: &'a Digest,
    bytes: &'a Bytes,
    /// Where it goes on, and how much is there.
    at: Option<(Url, usize)>,
}

impl Client {
    /// Pushes an artifact as `repository:tag` and returns its digest. `progress` is told the bytes done and the bytes
    /// in all; what the registry has already counts as done.
    pub async fn push(
        &self,
        repository: &str,
        tag: &str,
        artifact: &Artifact,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Digest, Error> {
        let image = format!("{repository}:{tag}");
        let total = artifact.blobs().iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let mut done = 0;
        progress(done, total);
        for (digest, bytes) in artifact.blobs() {
            let scope = push_scope(repository);
            let upload = Upload { image: &image, repository, scope, digest, bytes, at: None };
            let mut told = |blob_done: u64| progress(done + blob_done, total);
            self.0.push_blob(upload, &mut told).await?;
            done += bytes.len() as u64;
            progress(done, total);
        }
        self.put_manifest(repository, tag, media::OCI_MANIFEST, artifact.manifest()).await
    }

    /// Pushes a small blob unless the registry has it.
    pub async fn put_blob(&self, repository: &str, digest: &Digest, bytes: &Bytes) -> Result<(), Error> {
        let image = format!("{repository}@{digest}");
        let scope = push_scope(repository);
        let upload = Upload { image: &image, repository, scope, digest, bytes, at: None };
        self.0.push_blob(upload, &mut |_| {}).await
    }
}

impl Inner {
    /// Pushes a blob unless the registry has it. `progress` is told how much is done, never less than before.
    async fn push_blob(&self, mut upload: Upload<'_>, progress: &mut impl FnMut(u64)) -> Result<(), Error> {
        let mut attempts = self.attempts();
        let mut told = 0;
        let mut forward = |bytes: usize| {
            if bytes as u64 > told {
                told = bytes as u64;
                progress(told);
            }
        };
        loop {
            match self.attempt_to_push(&mut upload, &mut forward).await {
                Ok(()) => return Ok(()),
                Err(error) => attempts.after(error).await?,
            }
        }
    }

    async fn attempt_to_push(&self, upload: &mut Upload<'_>, progress: &mut impl FnMut(usize)) -> Result<(), Error> {
        // Asked before each attempt: the answer that got lost may have been a yes.
        if self.has_blob(upload).await? {
            return Ok(());
        }
        self.find_place(upload).await?;
        let chunk_bytes = if self.options.kind == RegistryKind::Own { CHUNK_BYTES } else { usize::MAX };
        let size = upload.bytes.len();
        while let Some((url, from)) = upload.at.clone()
            && from < size
        {
            let to = from.saturating_add(chunk_bytes).min(size);
            progress(from);
            let answer = match self.patch(upload, url.clone(), from, to).await {
                Ok(answer) => answer,
                // Where it does not know the upload, or is somewhere else in it, another one is begun.
                Err(error) => {
                    upload.at.take_if(|_| matches!(error, Error::Unavailable { status: 404 | 416, .. }));
                    return Err(error);
                }
            };
            let next = self.next_place(upload, &url, &answer).await?;
            upload.at = Some((next, to));
        }
        let Some((mut url, _)) = upload.at.take() else { return Ok(()) };
        url.query_pairs_mut().append_pair("digest", &upload.digest.to_string());
        let answer = self.send(upload.call(Method::PUT, url, length(0), Some(Bytes::new()))).await?;
        match answer.status() {
            StatusCode::CREATED | StatusCode::NO_CONTENT | StatusCode::OK => Ok(()),
            _ => Err(self.upload_failed(upload, answer).await),
        }
    }

    async fn has_blob(&self, upload: &Upload<'_>) -> Result<bool, Error> {
        let url = self.url(&format!("/v2/{}/blobs/{}", upload.repository, upload.digest)).await;
        let answer = self.send(upload.call(Method::HEAD, url, HeaderMap::new(), None)).await?;
        match answer.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.refused(upload.image, answer).await),
        }
    }

    /// Where the upload that broke off goes on, else a new one.
    async fn find_place(&self, upload: &mut Upload<'_>) -> Result<(), Error> {
        if let Some((url, _)) = upload.at.take() {
            let answer = self.send(upload.call(Method::GET, url.clone(), HeaderMap::new(), None)).await?;
            if answer.status() == StatusCode::NO_CONTENT
                && let Some(has) = received(&answer).filter(|has| *has <= upload.bytes.len())
            {
                let next = match answer.headers().contains_key(LOCATION) {
                    true => self.next_place(upload, &url, &answer).await?,
                    false => url,
                };
                upload.at = Some((next, has));
                return Ok(());
            }
        }
        let url = self.url(&format!("/v2/{}/blobs/uploads/", upload.repository)).await;
        let answer = self.send(upload.call(Method::POST, url.clone(), length(0), Some(Bytes::new()))).await?;
        if answer.status() != StatusCode::ACCEPTED {
            return Err(self.refused(upload.image, answer).await);
        }
        upload.at = Some((self.next_place(upload, &url, &answer).await?, 0));
        Ok(())
    }

    async fn patch(&self, upload: &Upload<'_>, url: Url, from: usize, to: usize) -> Result<Response, Error> {
        let mut headers = length(to - from);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        if (from, to) != (0, upload.bytes.len())
            && let Ok(range) = HeaderValue::from_str(&format!("{from}-{}", to - 1))
        {
            headers.insert(CONTENT_RANGE, range);
        }
        let answer = self.send(upload.call(Method::PATCH, url, headers, Some(upload.bytes.slice(from..to)))).await?;
        match answer.status() {
            StatusCode::ACCEPTED | StatusCode::NO_CONTENT => Ok(answer),
            _ => Err(self.upload_failed(upload, answer).await),
        }
    }

    async fn next_place(&self, upload: &Upload<'_>, url: &Url, answer: &Response) -> Result<Url, Error> {
        let Some(location) = answer.headers().get(LOCATION) else {
            return Err(self.protocol(upload.image, "it does not say where the upload goes on"));
        };
        self.led(upload.image, url, location.as_bytes()).await
    }

    /// What a failed upload means. A registry that was restarted may not know the upload any more, and one that took a
    /// chunk twice is not where we think it is: both are over with another attempt.
    async fn upload_failed(&self, upload: &Upload<'_>, answer: Response) -> Error {
        let again = [404, 416].contains(&answer.status().as_u16());
        let status = answer.status().as_u16();
        match self.refused(upload.image, answer).await {
            Error::Refused { endpoint, message, .. } if again => {
                Error::Unavailable { endpoint, status, message, retry_after: None }
            }
            error if again && error.is_not_found() => {
                let message = "it does not know the upload any more".to_owned();
                Error::Unavailable { endpoint: self.endpoint(), status, message, retry_after: None }
            }
            error => error,
        }
    }
}

impl Upload<'_> {
    fn call(&self, method: Method, url: Url, headers: HeaderMap, body: Option<Bytes>) -> Call<'_> {
        Call { image: self.image, method, url, headers, body, scope: self.scope.clone() }
    }
}

fn length(bytes: usize) -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_LENGTH, HeaderValue::from(bytes))])
}

/// How much the registry has of an upload: `0-99` are a hundred bytes. Of none it says `0-0`, as of one: then it gets the
/// first again, and refuses it if it has it.
fn received(answer: &Response) -> Option<usize> {
    let range = answer.headers().get(RANGE)?.to_str().ok()?;
    let last: usize = range.trim().trim_start_matches("bytes=").strip_prefix("0-")?.parse().ok()?;
    Some(if last == 0 { 0 } else { last + 1 })
}
