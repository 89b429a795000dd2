//! The blobs of a repository: links to shared content.

use skiff_api::Digest;
use skiff_disk::{File, Mode};

use super::error::{Error, found};
use super::layout::Repository;
use super::open::{Inner, Registry};

/// An open blob. Stays readable when it is deleted meanwhile.
#[derive(Debug)]
pub struct Blob {
    pub file: File,
    pub bytes: u64,
}

impl Registry {
    /// Opens a blob, if the repository has it.
    pub fn blob(&self, repository: &str, digest: &Digest) -> Result<Option<Blob>, Error> {
        let inner = &*self.0;
        let repository = inner.layout.repository(repository)?;
        let _gate = inner.open_gate();
        let open = || {
            if !inner.disk.exists(repository.blob(digest)) {
                return Ok(None);
            }
            let Some(file) = found(inner.disk.open(inner.layout.blob(digest), Mode::Read))? else { return Ok(None) };
            let bytes = file.bytes()?;
            // Whoever finds it there need not push it.
            inner.touch_blob(&repository, digest);
            Ok(Some(Blob { file, bytes }))
        };
        open().map_err(|source| Error::BlobRead { repository: repository.name.clone(), digest: digest.clone(), source })
    }

    /// Gives `to` a blob that `from` has, without moving a byte. `false`: `from` does not have it.
    pub fn mount_blob(&self, to: &str, from: &str, digest: &Digest) -> Result<bool, Error> {
        let inner = &*self.0;
        let (to, from) = (inner.layout.repository(to)?, inner.layout.repository(from)?);
        let _gate = inner.open_gate();
        match inner.has_blob(&from, digest) {
            true => inner.link_blob(&to, digest).map(|()| true),
            false => Ok(false),
        }
    }

    /// Takes a blob from a repository. `false`: it was not there. The content is collected, if nothing else names it.
    pub fn delete_blob(&self, repository: &str, digest: &Digest) -> Result<bool, Error> {
        let inner = &*self.0;
        let repository = inner.layout.repository(repository)?;
        let _gate = inner.open_gate();
        // A manifest that is being stored has seen that the blob is there.
        let _lock = inner.lock(&repository);
        inner.changes.notify_one();
        let remove = || match found(inner.disk.remove_file(repository.blob(digest)))? {
            Some(()) => inner.disk.sync_dir(repository.blobs(digest)).map(|()| true),
            None => Ok(false),
        };
        remove().map_err(|source| Error::BlobDelete {
            repository: repository.name.clone(),
            digest: digest.clone(),
            source,
        })
    }
}

impl Inner {
    /// Makes stored content a blob of the repository, durably. The caller holds the gate.
    pub(super) fn link_blob(&self, repository: &Repository, digest: &Digest) -> Result<(), Error> {
        self.touch_blob(repository, digest);
        self.changes.notify_one();
        let link = || {
            self.disk.create_dir_all(repository.blobs(digest))?;
            self.disk.open(repository.blob(digest), Mode::Create)?;
            self.disk.sync_dir(repository.blobs(digest))
        };
        link().map_err(|source| Error::BlobLink { repository: repository.name.clone(), digest: digest.clone(), source })
    }

    /// Keeps a blob, and its content, from being collected for a while.
    pub(super) fn touch_blob(&self, repository: &Repository, digest: &Digest) {
        self.fresh.touch(self.keys.linked(&repository.name, digest));
        self.fresh.touch(self.keys.content(digest));
    }

    pub(super) fn has_blob(&self, repository: &Repository, digest: &Digest) -> bool {
        self.disk.exists(repository.blob(digest)) && self.disk.exists(self.layout.blob(digest))
    }
}
