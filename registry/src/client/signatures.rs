//! An image's signatures in a registry: found, read and attached.
//!
//! A registry that does not know who refers to an image (the 1.1 specification's list of referrers) has them under a tag
//! that is made from the digest: read where the list is missing, and kept up by whoever attaches.

use std::time::SystemTime;

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue, LINK};
use reqwest::{Method, StatusCode};
use skiff_api::Digest;

use super::error::Error;
use super::fetch::{collect, pull_scope};
use super::remote::{Call, Client, Inner};
use crate::manifest::{Descriptor, MANIFEST_BYTES_MAX, Manifest, media};
use crate::sign::bundle::BUNDLE_TYPE;
use crate::sign::{Attached, Carrier, SIGNATURES_MAX, Signature, bundle, simple};

/// How many pages of referrers are read: other tools may attach thousands of other things.
const PAGES_MAX: usize = 16;

impl Client {
    /// The manifests that carry signatures of an image, as many as are looked at. Those that are damaged, or are something
    /// else, are left out.
    pub async fn carriers(&self, repository: &str, digest: &Digest) -> Result<(Vec<Carrier>, Attached), Error> {
        let (mut carriers, mut attached) = (Vec::new(), Attached::default());
        if let Some(tag) = simple::tag(digest) {
            let carrier = self.carrier(repository, &tag, Some(tag.clone()), &mut attached).await?;
            carriers.extend(carrier);
        }
        let referrers = self.referrers(repository, digest).await?;
        let bundles = referrers.into_iter().filter(|it| it.artifact_type.as_deref() == Some(BUNDLE_TYPE));
        for (n, referrer) in bundles.enumerate() {
            if n == SIGNATURES_MAX {
                attached.skip(format!("more than the {SIGNATURES_MAX} bundles that are looked at"));
                break;
            }
            let reference = referrer.digest.to_string();
            carriers.extend(self.carrier(repository, &reference, None, &mut attached).await?);
        }
        Ok((carriers, attached))
    }

    async fn carrier(
        &self,
        repository: &str,
        reference: &str,
        tag: Option<String>,
        attached: &mut Attached,
    ) -> Result<Option<Carrier>, Error> {
        let pulled = match self.pull_manifest(repository, reference).await {
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error @ (Error::TooLarge { .. } | Error::DigestMismatch { .. })) => {
                attached.skip(error.to_string());
                return Ok(None);
            }
            pulled => pulled?,
        };
        match Manifest::parse(&pulled.bytes) {
            Ok(manifest) => Ok(Some(Carrier { tag, media_type: pulled.media_type, bytes: pulled.bytes, manifest })),
            Err(_) => {
                attached.skip(format!("{reference}, which cannot be read"));
                Ok(None)
            }
        }
    }

    /// The signatures of an image, not checked in any way.
    pub async fn signatures(&self, repository: &str, digest: &Digest) -> Result<Attached, Error> {
        let (carriers, mut attached) = self.carriers(repository, digest).await?;
        for piece in attached.pieces(&carriers, digest) {
            let image = format!("{repository}@{digest}");
            match self.small_blob(&image, repository, &piece.blob).await {
                Ok(bytes) => attached.signatures.push(piece.with(bytes)),
                Err(error) if error.is_not_found() || matches!(error, Error::DigestMismatch { .. }) => {
                    attached.skip(error.to_string());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(attached)
    }

    /// Who refers to a manifest, as far as it is read.
    async fn referrers(&self, repository: &str, digest: &Digest) -> Result<Vec<Descriptor>, Error> {
        let Some((mut all, mut next)) = self.0.referrers_page(repository, digest, None).await? else {
            return match self.pull_manifest(repository, &fallback_tag(digest)).await {
                Ok(pulled) => {
                    Ok(Manifest::parse(&pulled.bytes).ok().and_then(|index| index.manifests).unwrap_or_default())
                }
                Err(error) if error.is_not_found() => Ok(Vec::new()),
                Err(error) => Err(error),
            };
        };
        for _ in 1..PAGES_MAX {
            let Some(url) = next.take() else { break };
            let Some((more, then)) = self.0.referrers_page(repository, digest, Some(url)).await? else { break };
            all.extend(more);
            next = then;
        }
        Ok(all)
    }

    /// Attaches a signature to an image, beside those that it has.
    pub async fn attach(&self, repository: &str, digest: &Digest, signature: &Signature) -> Result<(), Error> {
        match signature {
            Signature::Simple { payload, signature } => {
                let Some(tag) = simple::tag(digest) else { return Ok(()) };
                let mut ignored = Attached::default();
                let before = self.carrier(repository, &tag, Some(tag.clone()), &mut ignored).await?;
                let image = simple::image(before.map(|before| before.manifest).as_ref(), payload, signature);
                self.put_blobs(repository, &image.blobs).await?;
                self.put_manifest(repository, &tag, media::OCI_MANIFEST, &image.manifest).await?;
            }
            Signature::Bundle(bytes) => {
                let subject = self.pull_manifest(repository, &digest.to_string()).await?;
                let subject = Descriptor::new(subject.media_type, digest.clone(), subject.bytes.len() as u64);
                let created = Timestamp::try_from(SystemTime::now()).unwrap_or_default();
                let created = created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
                let (manifest, blobs) = bundle::image(bytes, subject, &created);
                self.put_blobs(repository, &blobs).await?;
                let reference = crate::hash::sha256(&manifest);
                self.put_manifest(repository, &reference.to_string(), media::OCI_MANIFEST, &manifest).await?;
                self.list_referrer(repository, digest, &manifest, reference).await?;
            }
        }
        Ok(())
    }

    async fn put_blobs(&self, repository: &str, blobs: &[Bytes]) -> Result<(), Error> {
        for blob in blobs {
            self.put_blob(repository, &crate::hash::sha256(blob), blob).await?;
        }
        Ok(())
    }

    /// Adds a manifest to the list under the tag, where the registry has no list of its own.
    async fn list_referrer(
        &self,
        repository: &str,
        subject: &Digest,
        bytes: &Bytes,
        digest: Digest,
    ) -> Result<(), Error> {
        if self.0.referrers_page(repository, subject, None).await?.is_some() {
            return Ok(());
        }
        let tag = fallback_tag(subject);
        let mut index = match self.pull_manifest(repository, &tag).await {
            Ok(pulled) => Manifest::parse(&pulled.bytes).unwrap_or_default(),
            Err(error) if error.is_not_found() => Manifest::default(),
            Err(error) => return Err(error),
        };
        let Ok(manifest) = Manifest::parse(bytes) else { return Ok(()) };
        let mut entry = Descriptor::new(media::OCI_MANIFEST, digest, bytes.len() as u64);
        (entry.artifact_type, entry.annotations) = (manifest.artifact_type, manifest.annotations);
        index.schema_version = 2;
        index.media_type = Some(media::OCI_INDEX.to_owned());
        index.manifests.get_or_insert_default().push(entry);
        let index = Bytes::from(serde_json::to_vec(&index).unwrap_or_default());
        self.put_manifest(repository, &tag, media::OCI_INDEX, &index).await?;
        Ok(())
    }
}

fn fallback_tag(digest: &Digest) -> String {
    let mut tag = format!("{}-{}", digest.algorithm().name(), digest.hex());
    tag.truncate(128);
    tag
}

impl Inner {
    /// One page, and where the next is. `None`: the registry has no such list.
    async fn referrers_page(
        &self,
        repository: &str,
        digest: &Digest,
        url: Option<reqwest::Url>,
    ) -> Result<Option<(Vec<Descriptor>, Option<reqwest::Url>)>, Error> {
        let image = format!("{repository}@{digest}");
        let url = match url {
            Some(url) => url,
            None => {
                let mut url = self.url(&format!("/v2/{repository}/referrers/{digest}")).await;
                url.query_pairs_mut().append_pair("artifactType", BUNDLE_TYPE);
                url
            }
        };
        let read = || async {
            let call = Call {
                image: &image,
                method: Method::GET,
                url: url.clone(),
                headers: HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(media::OCI_INDEX))]),
                body: None,
                scope: pull_scope(repository),
            };
            let mut answer = self.send(call).await?;
            if [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED].contains(&answer.status()) {
                return Ok(None);
            }
            if answer.status() != StatusCode::OK {
                return Err(self.refused(&image, answer).await);
            }
            let next = answer.headers().get(LINK).and_then(|link| link.to_str().ok()).and_then(super::fetch::next_in);
            let mut page = Vec::new();
            collect(&mut answer, MANIFEST_BYTES_MAX, &mut page).await.map_err(|e| self.broke_off(&image, e))?;
            Ok(Some((page, next)))
        };
        let Some((page, next)) = self.retried(read).await? else { return Ok(None) };
        let index = Manifest::parse(&page).ok().filter(|index| index.manifests.is_some());
        let Some(index) = index else {
            return Err(self.protocol(&image, "its list of referrers cannot be read"));
        };
        let next = match next {
            Some(next) => Some(self.led(&image, &url, next.as_bytes()).await?),
            None => None,
        };
        Ok(Some((index.manifests.unwrap_or_default(), next)))
    }
}
