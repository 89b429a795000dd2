//! The signatures of an image, in the embedded registry: read in-process, and copied from another registry.

use bytes::Bytes;
use skiff_api::Digest;

use crate::client::Client;
use crate::copy::CopyError;
use crate::manifest::{Manifest, media};
use crate::sign::{Attached, Carrier, SIGNATURES_MAX, bundle, simple};
use crate::store::{Error, PutManifest, Registry, StoredManifest};

/// The signatures that a repository has of an image, not checked in any way. Blocks.
pub fn signatures(registry: &Registry, repository: &str, digest: &Digest) -> Result<Attached, Error> {
    let mut attached = Attached::default();
    let mut carriers = Vec::new();
    if let Some(tag) = simple::tag(digest)
        && let Some(found) = registry.resolve(repository, &tag)?
        && let Some(stored) = registry.manifest(repository, &found)?
    {
        carriers.extend(carrier(Some(tag), stored));
    }
    let mut after = None;
    'pages: loop {
        let is_bundle =
            |referrer: &crate::manifest::Descriptor| referrer.artifact_type.as_deref() == Some(bundle::BUNDLE_TYPE);
        let page = registry.referrers_after(repository, digest, after.as_ref(), is_bundle)?;
        for referrer in page.referrers {
            if carriers.len() > SIGNATURES_MAX {
                attached.skip(format!("more than the {SIGNATURES_MAX} bundles that are looked at"));
                break 'pages;
            }
            let stored = registry.manifest(repository, &referrer.digest)?;
            carriers.extend(stored.and_then(|stored| carrier(None, stored)));
        }
        match page.next_after {
            None => break,
            more => after = more,
        }
    }
    for piece in attached.pieces(&carriers, digest) {
        let Some(blob) = registry.blob(repository, &piece.blob.digest)? else {
            attached.skip(format!("one whose content {} is missing", piece.blob.digest));
            continue;
        };
        let read = blob.file.read_all(piece.blob.size);
        match read.ok().filter(|bytes| crate::hash::digest(piece.blob.digest.algorithm(), bytes) == piece.blob.digest) {
            Some(bytes) => attached.signatures.push(piece.with(Bytes::from(bytes))),
            None => attached.skip(format!("one whose content {} is damaged", piece.blob.digest)),
        }
    }
    Ok(attached)
}

fn carrier(tag: Option<String>, stored: StoredManifest) -> Option<Carrier> {
    let StoredManifest { media_type, bytes, .. } = stored;
    let manifest = Manifest::parse(&bytes).ok()?;
    Some(Carrier { tag, media_type, bytes: Bytes::from(bytes), manifest })
}

/// Signatures under a tag share one manifest: those that are here go into what is stored, behind those that come.
fn merge(
    registry: &Registry,
    repository: &str,
    carrier: &mut Carrier,
    blobs: &mut Vec<(Digest, Bytes)>,
) -> Result<(), Error> {
    let Some(tag) = &carrier.tag else { return Ok(()) };
    let Some(here) = registry.resolve(repository, tag)? else { return Ok(()) };
    let Some(StoredManifest { bytes, .. }) = registry.manifest(repository, &here)? else { return Ok(()) };
    let Ok(here) = Manifest::parse(&bytes) else { return Ok(()) };
    for (layer, signature) in simple::layers(&here).take(SIGNATURES_MAX) {
        let is_known = simple::layers(&carrier.manifest).any(|(other, it)| (other, it) == (layer, signature));
        let blob = registry.blob(repository, &layer.digest)?.filter(|_| !is_known);
        let Some(payload) = blob.and_then(|blob| blob.file.read_all(layer.size).ok()).map(Bytes::from) else {
            continue;
        };
        let merged = simple::image(Some(&carrier.manifest), &payload, signature);
        blobs.extend(merged.blobs.iter().map(|blob| (crate::hash::sha256(blob), blob.clone())));
        if let Ok(manifest) = Manifest::parse(&merged.manifest) {
            *carrier = Carrier {
                tag: carrier.tag.take(),
                media_type: media::OCI_MANIFEST.to_owned(),
                bytes: merged.manifest,
                manifest,
            };
        }
    }
    Ok(())
}

/// Where signatures are copied from and to.
#[derive(Debug, Clone, Copy)]
pub struct CopySignatures<'a> {
    pub client: &'a Client,
    pub from: &'a str,
    pub registry: &'a Registry,
    pub to: &'a str,
}

impl CopySignatures<'_> {
    /// Copies an image's signatures, byte for byte. What is there of another time stays: it may be all that still counts.
    pub async fn run(&self, digest: &Digest) -> Result<(), CopyError> {
        let (carriers, mut attached) = self.client.carriers(self.from, digest).await?;
        // Each alone, so that one that cannot be copied whole is left out alone.
        for carrier in &carriers {
            let pieces = attached.pieces(std::slice::from_ref(carrier), digest);
            let named: Vec<_> = carrier.manifest.blobs().cloned().collect();
            // It must be nothing but signatures: a stranger's manifest is not a way to fill a disk.
            let is_small = named.len() <= SIGNATURES_MAX + 1
                && named.iter().all(|blob| blob.size <= crate::sign::BUNDLE_BYTES_MAX);
            if pieces.is_empty() || !is_small {
                continue;
            }
            let mut blobs = Vec::new();
            for blob in named {
                let image = format!("{}@{digest}", self.from);
                let bytes = self.client.small_blob(&image, self.from, &blob).await?;
                blobs.push((blob.digest, bytes));
            }
            self.store(carrier.clone(), blobs).await?;
        }
        Ok(())
    }

    async fn store(&self, mut carrier: Carrier, mut blobs: Vec<(Digest, Bytes)>) -> Result<(), CopyError> {
        let (registry, to) = (self.registry.clone(), self.to.to_owned());
        let store = move || -> Result<(), Error> {
            merge(&registry, &to, &mut carrier, &mut blobs)?;
            for (digest, bytes) in blobs {
                if registry.blob(&to, &digest)?.is_none() {
                    let upload = registry.start_upload(&to)?;
                    registry.append_upload(&to, &upload, 0, &bytes)?;
                    registry.finish_upload(&to, &upload, &digest)?;
                }
            }
            registry.put_manifest(&PutManifest {
                repository: &to,
                media_type: Some(carrier.media_type.as_str()).filter(|media_type| !media_type.is_empty()),
                digest: None,
                tag: carrier.tag.as_deref(),
                bytes: &carrier.bytes,
            })?;
            Ok(())
        };
        let stored = tokio::task::spawn_blocking(store).await;
        Ok(stored
            .map_err(|error| CopyError::Scratch { path: self.to.to_owned(), source: std::io::Error::other(error) })??)
    }
}
