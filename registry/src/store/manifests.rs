//! The manifests of a repository, kept byte for byte, with who refers to whom.

use std::io;

use serde::{Deserialize, Serialize};
use skiff_api::Digest;
use skiff_api::digest::Algorithm;
use skiff_disk::{Mode, write_atomic};

use super::error::{Error, found};
use super::layout::Repository;
use super::open::{Inner, Registry};
use crate::hash;
use crate::manifest::{Descriptor, MANIFEST_BYTES_MAX, Manifest};

/// Longer than any link: a media type has at most 255 characters.
const LINK_BYTES_MAX: u64 = 4096;

/// How much is read for one page of referrers: the list is no longer than what it is made from, but for some names.
const PAGE_READ_BYTES: usize = 2 << 20;

/// How many referrers a page has at most.
const PAGE_REFERRERS: usize = 1000;

/// A page of a list of referrers.
#[derive(Debug)]
pub struct Referrers {
    pub referrers: Vec<Descriptor>,
    /// Where the next page begins; none follows where it is missing.
    pub next_after: Option<Digest>,
}

/// What is to be stored.
#[derive(Debug, Clone)]
pub struct PutManifest<'a> {
    pub repository: &'a str,
    /// What the client says the type is; without a word, the manifest's own `mediaType`.
    pub media_type: Option<&'a str>,
    /// Checked against the bytes, if the client named one.
    pub digest: Option<&'a Digest>,
    pub tag: Option<&'a str>,
    pub bytes: &'a [u8],
}

/// A manifest as it was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredManifest {
    pub digest: Digest,
    pub media_type: String,
    pub bytes: Vec<u8>,
}

/// What a repository notes about a manifest it has.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Link {
    media_type: String,
}

impl Registry {
    /// Stores a manifest, durably, and points the tag at it. Everything it names must be there, but a subject.
    /// Returns its digest and its subject's.
    pub fn put_manifest(&self, put: &PutManifest<'_>) -> Result<(Digest, Option<Digest>), Error> {
        let inner = &*self.0;
        let repository = inner.layout.repository(put.repository)?;
        let algorithm = put.digest.map_or(Algorithm::Sha256, Digest::algorithm);
        let digest = hash::digest(algorithm, put.bytes);
        if let Some(expected) = put.digest.filter(|expected| **expected != digest) {
            return Err(Error::UploadDigest { expected: expected.clone(), actual: digest });
        }
        let (manifest, media_type) = parse(put)?;
        let _gate = inner.open_gate();
        let _lock = inner.lock(&repository);
        inner.check_named(&repository, &manifest)?;
        inner.touch_manifest(&repository, &digest);
        inner.changes.notify_one();
        let subject = manifest.subject.map(|subject| subject.digest);
        let store = || {
            inner.store_bytes(&digest, put.bytes)?;
            if let Some(subject) = &subject {
                let dir = repository.referrers(subject);
                inner.disk.create_dir_all(&dir)?;
                inner.disk.open(repository.referrer(subject, &digest), Mode::Create)?;
                inner.disk.sync_dir(&dir)?;
            }
            inner.disk.create_dir_all(repository.manifests(&digest))?;
            let link = serde_json::to_vec(&Link { media_type }).map_err(io::Error::other)?;
            write_atomic(&inner.disk, &repository.manifest(&digest), &link)
        };
        store().map_err(|source| Error::ManifestStore {
            repository: repository.name.clone(),
            digest: digest.clone(),
            source,
        })?;
        if let Some(tag) = put.tag {
            inner.set_tag(&repository, tag, &digest)?;
        }
        Ok((digest, subject))
    }

    /// A manifest, if the repository has it. Its bytes are checked against the digest: a damaged one is an error.
    pub fn manifest(&self, repository: &str, digest: &Digest) -> Result<Option<StoredManifest>, Error> {
        let inner = &*self.0;
        let repository = inner.layout.repository(repository)?;
        let _gate = inner.open_gate();
        let manifest = inner.manifest(&repository, digest)?;
        if manifest.is_some() {
            // Whoever finds it there may name it next.
            inner.touch_manifest(&repository, digest);
        }
        Ok(manifest)
    }

    /// Removes a manifest and the tags that point at it. `false`: it was not there.
    pub fn delete_manifest(&self, repository: &str, digest: &Digest) -> Result<bool, Error> {
        let inner = &*self.0;
        let repository = inner.layout.repository(repository)?;
        let _gate = inner.open_gate();
        let _lock = inner.lock(&repository);
        inner.changes.notify_one();
        if !inner.has_manifest(&repository, digest) {
            return Ok(false);
        }
        let manifest = inner.manifest(&repository, digest);
        let remove = || {
            // The tags first: a cut in between must not leave a tag that points nowhere.
            let mut untagged = false;
            for tag in inner.tags(&repository)? {
                if inner.resolve(&repository, &tag).is_ok_and(|to| to.as_ref() == Some(digest)) {
                    let path = repository.tag(&tag).map_err(io::Error::other)?;
                    inner.disk.remove_file(path)?;
                    untagged = true;
                }
            }
            if untagged {
                inner.disk.sync_dir(repository.tags())?;
            }
            inner.disk.remove_file(repository.manifest(digest))?;
            inner.disk.sync_dir(repository.manifests(digest))
        };
        remove().map_err(|source| Error::ManifestDelete {
            repository: repository.name.clone(),
            digest: digest.clone(),
            source,
        })?;
        // One that stays behind is skipped when referrers are listed.
        if let Ok(Some(manifest)) = manifest
            && let Ok(Manifest { subject: Some(subject), .. }) = Manifest::parse(&manifest.bytes)
        {
            drop(inner.disk.remove_file(repository.referrer(&subject.digest, digest)));
        }
        Ok(true)
    }

    /// The manifests that name `subject` as theirs, in the order of their digests.
    pub fn referrers(&self, repository: &str, subject: &Digest) -> Result<Vec<Descriptor>, Error> {
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let page = self.referrers_after(repository, subject, after.as_ref(), |_| true)?;
            all.extend(page.referrers);
            match page.next_after {
                None => return Ok(all),
                more => after = more,
            }
        }
    }

    /// The same, from behind a digest on, those that are `wanted`, as many as make a page.
    pub fn referrers_after(
        &self,
        repository: &str,
        subject: &Digest,
        after: Option<&Digest>,
        wanted: impl Fn(&Descriptor) -> bool,
    ) -> Result<Referrers, Error> {
        let inner = &*self.0;
        let repository = inner.layout.repository(repository)?;
        let entries = found(inner.disk.read_dir(repository.referrers(subject))).map_err(|source| Error::List {
            what: "the referrers",
            repository: repository.name.clone(),
            source,
        })?;
        let digests = entries.unwrap_or_default().into_iter().filter_map(|entry| entry.name.parse::<Digest>().ok());
        let mut page = Referrers { referrers: Vec::new(), next_after: None };
        let mut read = 0;
        for digest in digests.filter(|digest| after.is_none_or(|after| digest > after)) {
            let Some(stored) = inner.manifest(&repository, &digest)? else { continue };
            read += stored.bytes.len();
            let Ok(manifest) = Manifest::parse(&stored.bytes) else { continue };
            let mut descriptor = Descriptor::new(stored.media_type, digest.clone(), stored.bytes.len() as u64);
            descriptor.artifact_type = manifest.artifact_kind().map(str::to_owned);
            descriptor.annotations = manifest.annotations;
            if wanted(&descriptor) {
                page.referrers.push(descriptor);
            }
            // A descriptor is no longer than the manifest that its annotations are from.
            if read >= PAGE_READ_BYTES || page.referrers.len() >= PAGE_REFERRERS {
                page.next_after = Some(digest);
                break;
            }
        }
        Ok(page)
    }
}

impl Inner {
    /// Keeps a manifest, and what it names, from being collected for a while.
    pub(super) fn touch_manifest(&self, repository: &Repository, digest: &Digest) {
        self.fresh_manifests.touch(self.keys.linked(&repository.name, digest));
        self.fresh.touch(self.keys.content(digest));
    }

    pub(super) fn has_manifest(&self, repository: &Repository, digest: &Digest) -> bool {
        self.disk.exists(repository.manifest(digest)) && self.disk.exists(self.layout.blob(digest))
    }

    fn manifest(&self, repository: &Repository, digest: &Digest) -> Result<Option<StoredManifest>, Error> {
        let damaged = || Error::ManifestDamaged { repository: repository.name.clone(), digest: digest.clone() };
        let read = || {
            let Some(link) = found(self.disk.read(repository.manifest(digest), LINK_BYTES_MAX))? else {
                return Ok(None);
            };
            let bytes = found(self.disk.read(self.layout.blob(digest), MANIFEST_BYTES_MAX as u64))?;
            Ok(bytes.map(|bytes| (link, bytes)))
        };
        let read = read().map_err(|source| Error::ManifestRead {
            repository: repository.name.clone(),
            digest: digest.clone(),
            source,
        })?;
        let Some((link, bytes)) = read else { return Ok(None) };
        let link: Link = serde_json::from_slice(&link).map_err(|_| damaged())?;
        match hash::digest(digest.algorithm(), &bytes) == *digest {
            true => Ok(Some(StoredManifest { digest: digest.clone(), media_type: link.media_type, bytes })),
            false => Err(damaged()),
        }
    }

    /// Whether all that a manifest names is there, and durably so.
    fn check_named(&self, repository: &Repository, manifest: &Manifest) -> Result<(), Error> {
        let unknown = |digest: &Digest| {
            Err(Error::ManifestBlobUnknown { repository: repository.name.clone(), digest: digest.clone() })
        };
        let mut dirs = Vec::new();
        for blob in manifest.blobs() {
            if !self.has_blob(repository, &blob.digest) {
                return unknown(&blob.digest);
            }
            self.touch_blob(repository, &blob.digest);
            dirs.push(repository.blobs(&blob.digest));
        }
        for child in manifest.children() {
            if !self.has_manifest(repository, &child.digest) {
                return unknown(&child.digest);
            }
            self.touch_manifest(repository, &child.digest);
            dirs.push(repository.manifests(&child.digest));
        }
        dirs.sort();
        dirs.dedup();
        // A link is seen before it is synced: by another upload that is about to, or by a process that was killed just
        // then. A client that found the blob there relies on it from now on.
        for dir in dirs {
            self.disk.sync_dir(&dir).map_err(|source| Error::List {
                what: "the content",
                repository: repository.name.clone(),
                source,
            })?;
        }
        Ok(())
    }
}

/// Reads a manifest and settles its type.
fn parse(put: &PutManifest<'_>) -> Result<(Manifest, String), Error> {
    let invalid = |why: String| Error::ManifestInvalid { why };
    let manifest = Manifest::parse(put.bytes).map_err(|e| invalid(e.to_string()))?;
    if manifest.schema_version != 2 {
        return Err(invalid(format!("schemaVersion {} is not supported, only 2 is", manifest.schema_version)));
    }
    let media_type = put.media_type.map(str::to_owned).or_else(|| manifest.media_type.clone());
    let media_type = media_type.ok_or_else(|| invalid("there is neither a Content-Type nor a mediaType".to_owned()))?;
    if media_type.len() > 255 {
        return Err(invalid("its media type has more than 255 characters".to_owned()));
    }
    if let Some(own) = manifest.media_type.as_ref().filter(|own| **own != media_type) {
        return Err(invalid(format!("its mediaType is {own}, but it was sent as {media_type}")));
    }
    Ok((manifest, media_type))
}
