//! Pushing: the blobs that the registry does not have yet, then the manifest.
//!
//! A blob goes up in chunks, each a request of its own: the registry must be heard from within the idle time, however
//! slow the line. Where a chunk breaks off the blob starts again, in a new upload, since `oci-client` cannot go on in an
//! old one; the registry drops what it has of that one when nobody comes back to it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::stream;
use oci_client::Reference;
use oci_client::errors::OciDistributionError;
use reqwest::header::HeaderValue;
use skiff_api::Digest;

use super::artifact::Artifact;
use super::error::Error;
use super::remote::{Client, Inner};
use crate::manifest::media;

/// A chunk takes a 2 Mbit/s line 16 seconds, half of the idle time. `oci-client` would cut larger ones to this size.
const CHUNK_BYTES: usize = 4 << 20;

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
        let inner = &*self.0;
        let image = format!("{repository}:{tag}");
        let reference = inner.reference(repository, tag).await;
        let total = artifact.blobs().iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let mut done = 0;
        progress(done, total);
        for blob in artifact.blobs() {
            let mut told = |blob_done: u64| progress(done + blob_done, total);
            inner.push_blob(&image, &reference, blob, &mut told).await?;
            done += blob.1.len() as u64;
            progress(done, total);
        }
        let put = || async {
            let media_type = HeaderValue::from_static(media::OCI_MANIFEST);
            let put = inner.oci.push_manifest_raw(&reference, artifact.manifest().clone(), media_type);
            put.await.map_err(|e| inner.failed(&image, e))
        };
        let location = inner.retried(put).await?;
        match location.rsplit('/').next().and_then(|last| last.parse::<Digest>().ok()) {
            Some(actual) if actual != *artifact.digest() => {
                Err(Error::DigestMismatch { image, expected: artifact.digest().clone(), actual })
            }
            _ => Ok(artifact.digest().clone()),
        }
    }
}

impl Inner {
    /// Pushes a blob unless the registry has it. `progress` is told how much is done, never less than before.
    async fn push_blob(
        &self,
        image: &str,
        reference: &Reference,
        blob: (&Digest, &Bytes),
        progress: &mut impl FnMut(u64),
    ) -> Result<(), Error> {
        let mut attempts = self.attempts();
        let mut told = 0;
        let mut forward = |bytes: u64| {
            if bytes > told {
                told = bytes;
                progress(bytes);
            }
        };
        loop {
            // Asked before each attempt: the answer that got lost may have been a yes.
            let error = match self.oci.blob_exists(reference, &blob.0.to_string()).await {
                Ok(true) => return Ok(()),
                Ok(false) => match self.send_blob(reference, blob, &mut forward).await {
                    Ok(()) => return Ok(()),
                    Err(e) => self.upload_failed(image, e),
                },
                Err(e) => self.failed(image, e),
            };
            attempts.after(error).await?;
        }
    }

    async fn send_blob(
        &self,
        reference: &Reference,
        (digest, bytes): (&Digest, &Bytes),
        progress: &mut impl FnMut(u64),
    ) -> Result<(), OciDistributionError> {
        let (digest, size) = (digest.to_string(), bytes.len());
        // A chunk is asked for when the registry has taken the one before.
        let taken = Arc::new(AtomicU64::new(0));
        let (counter, bytes) = (Arc::clone(&taken), bytes.clone());
        let chunks = stream::iter((0..size).step_by(CHUNK_BYTES).map(move |at| {
            counter.store(at as u64, Ordering::Relaxed);
            Ok(bytes.slice(at..size.min(at + CHUNK_BYTES)))
        }));
        let mut push = pin!(self.oci.push_blob_stream(reference, chunks, &digest, Some(size as u64)));
        let pushed = poll_fn(|context| {
            let state = push.as_mut().poll(context);
            progress(taken.load(Ordering::Relaxed));
            state
        });
        pushed.await.map(drop)
    }

    /// What a failed upload means. A registry that was restarted does not know the upload any more, and one that took a
    /// chunk twice is not where we think it is: both are over with a new upload.
    fn upload_failed(&self, image: &str, e: OciDistributionError) -> Error {
        match self.failed(image, e) {
            Error::NotFound { endpoint, .. } => {
                let message = "it does not know the upload any more".to_owned();
                Error::Unavailable { endpoint, status: 404, message }
            }
            Error::Refused { endpoint, status: 416, message, .. } => {
                Error::Unavailable { endpoint, status: 416, message }
            }
            error => error,
        }
    }
}
