//! Reading a manifest, of any type and no longer than allowed.
//!
//! The one request that `oci-client` does not make: it holds a manifest of any length in memory, and keeps its
//! `Content-Type` to itself.

use bytes::Bytes;
use reqwest::Response;
use reqwest::header::{ACCEPT, CONTENT_TYPE};

use super::error::Error;
use super::remote::{Inner, USER};
use crate::manifest::{MANIFEST_BYTES_MAX, media};

/// How much of an error's body is read.
const ERROR_BYTES_MAX: usize = 16 << 10;

/// Every form of manifest that is understood.
const ACCEPTED: [&str; 5] =
    [media::OCI_MANIFEST, media::OCI_INDEX, media::DOCKER_MANIFEST, media::DOCKER_LIST, "application/json;q=0.1"];

impl Inner {
    /// A manifest's type and bytes; `reference` is a tag or a digest. Nothing is checked but the length.
    pub(super) async fn fetch(&self, image: &str, repository: &str, reference: &str) -> Result<(String, Bytes), Error> {
        let mut url = self.base.clone();
        url.set_path(&format!("/v2/{repository}/manifests/{reference}"));
        let mut request = self.http.get(url).header(ACCEPT, ACCEPTED.join(", "));
        if let Some(token) = &self.options.token {
            request = request.basic_auth(USER, Some(token));
        }
        let mut answer = request.send().await.map_err(|e| self.broke_off(image, e))?;
        let status = answer.status();
        if status != reqwest::StatusCode::OK {
            let mut body = Vec::new();
            // An error whose text breaks off is still that error.
            drop(collect(&mut answer, ERROR_BYTES_MAX, &mut body).await);
            return Err(self.refused(image, status.as_u16(), &String::from_utf8_lossy(&body)));
        }
        let media_type = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = media_type.unwrap_or_default().to_owned();
        let mut bytes = Vec::new();
        collect(&mut answer, MANIFEST_BYTES_MAX, &mut bytes).await.map_err(|e| self.broke_off(image, e))?;
        if bytes.len() > MANIFEST_BYTES_MAX {
            let (what, bytes_max) = ("the manifest", MANIFEST_BYTES_MAX as u64);
            return Err(Error::TooLarge { image: image.to_owned(), what, bytes: bytes.len() as u64, bytes_max });
        }
        Ok((media_type, bytes.into()))
    }
}

/// Reads a body to its end, or a little beyond `bytes_max`.
async fn collect(answer: &mut Response, bytes_max: usize, into: &mut Vec<u8>) -> Result<(), reqwest::Error> {
    while into.len() <= bytes_max
        && let Some(chunk) = answer.chunk().await?
    {
        into.extend_from_slice(&chunk);
    }
    Ok(())
}
