//! Tags: one small file each, replaced as a whole.

use std::io;

use skiff_api::Digest;
use skiff_disk::write_atomic;

use super::error::{Error, found};
use super::layout::{Repository, tag_of};
use super::open::{Inner, Registry};

/// Longer than any digest.
const TAG_FILE_BYTES_MAX: u64 = 256;

impl Registry {
    /// The digest that a tag stands for.
    pub fn resolve(&self, repository: &str, tag: &str) -> Result<Option<Digest>, Error> {
        let repository = self.0.layout.repository(repository)?;
        self.0.resolve(&repository, tag)
    }

    /// Points tags at a manifest that is there. `false`: it is not.
    pub fn tag(&self, repository: &str, digest: &Digest, tags: &[&str]) -> Result<bool, Error> {
        let inner = &*self.0;
        let repository = inner.layout.repository(repository)?;
        let _gate = inner.open_gate();
        let _lock = inner.lock(&repository);
        if !inner.has_manifest(&repository, digest) {
            return Ok(false);
        }
        inner.touch_manifest(&repository, digest);
        inner.changes.notify_one();
        tags.iter().try_for_each(|tag| inner.set_tag(&repository, tag, digest))?;
        Ok(true)
    }

    /// Removes a tag; its manifest stays. `false`: it was not there.
    pub fn delete_tag(&self, repository: &str, tag: &str) -> Result<bool, Error> {
        let inner = &*self.0;
        let repository = inner.layout.repository(repository)?;
        let path = repository.tag(tag)?;
        let _gate = inner.open_gate();
        let _lock = inner.lock(&repository);
        inner.changes.notify_one();
        let remove = || match found(inner.disk.remove_file(path))? {
            Some(()) => inner.disk.sync_dir(repository.tags()).map(|()| true),
            None => Ok(false),
        };
        remove().map_err(|source| Error::TagDelete { repository: repository.name.clone(), tag: tag.to_owned(), source })
    }
}

impl Inner {
    pub(super) fn resolve(&self, repository: &Repository, tag: &str) -> Result<Option<Digest>, Error> {
        let path = repository.tag(tag)?;
        let read = || {
            let Some(bytes) = found(self.disk.read(path, TAG_FILE_BYTES_MAX))? else { return Ok(None) };
            let text = std::str::from_utf8(&bytes).map_err(io::Error::other)?;
            text.parse().map(Some).map_err(io::Error::other)
        };
        read().map_err(|source| Error::TagRead { repository: repository.name.clone(), tag: tag.to_owned(), source })
    }

    /// Points a tag at a manifest that is there. The caller holds the gate and the repository's lock.
    pub(super) fn set_tag(&self, repository: &Repository, tag: &str, digest: &Digest) -> Result<(), Error> {
        let path = repository.tag(tag)?;
        // What the tag leaves behind can be gone back to for a while.
        if let Some(before) = self.resolve(repository, tag)? {
            self.touch_manifest(repository, &before);
        }
        self.disk
            .create_dir_all(repository.tags())
            .and_then(|()| write_atomic(&self.disk, &path, digest.to_string().as_bytes()))
            .map_err(|source| Error::TagStore { repository: repository.name.clone(), tag: tag.to_owned(), source })
    }

    /// All tags, in the order the distribution specification asks for: regardless of case.
    pub(super) fn tags(&self, repository: &Repository) -> io::Result<Vec<String>> {
        let entries = found(self.disk.read_dir(repository.tags()))?.unwrap_or_default();
        let mut tags: Vec<String> = entries.iter().filter_map(|entry| tag_of(&entry.name)).map(str::to_owned).collect();
        tags.sort_by_cached_key(|tag| (tag.to_ascii_lowercase(), tag.clone()));
        Ok(tags)
    }
}
