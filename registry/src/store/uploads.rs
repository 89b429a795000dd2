//! Content on its way in: one file per upload, hashed while it is written.
//!
//! Every write names the offset it belongs at, so that two writers on one upload cannot interleave and a request that
//! is dropped half way leaves a state that the client can ask for and go on from. Uploads live as long as the process:
//! after a restart a client is told that its upload is unknown, and starts again.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use skiff_api::Digest;
use skiff_api::digest::Algorithm;
use skiff_disk::{Disk, File, Mode};

use super::error::Error;
use super::open::{Inner, Registry};
use crate::hash::Hasher;

/// How many uploads may be open: each holds a file descriptor, of which a process often has 1024.
const UPLOADS_MAX: usize = 512;

/// An upload that nobody has written to for so long is given up. Longer than any pause of a client that is alive.
const IDLE_MAX: Duration = Duration::from_secs(3600);

/// How much is read at once where content is hashed again.
const READ_BYTES: usize = 1 << 20;

/// The name of an upload: 32 hexadecimal digits that cannot be guessed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UploadId(String);

#[derive(Debug, Default)]
pub(super) struct Uploads(Mutex<HashMap<UploadId, Arc<Mutex<Upload>>>>);

#[derive(Debug)]
struct Upload {
    id: UploadId,
    repository: String,
    path: PathBuf,
    file: File,
    bytes: u64,
    hasher: Hasher,
    used: Instant,
    /// Set once it is finished or given up: whoever still holds it must not write to its file.
    over: bool,
}

impl UploadId {
    fn random() -> io::Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        Ok(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// An id as a client repeats it. It is only ever looked up, never made into a path.
    pub fn from_client(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Registry {
    /// Starts an upload to a repository.
    pub fn start_upload(&self, repository: &str) -> Result<UploadId, Error> {
        let inner = &*self.0;
        let repository = inner.layout.repository(repository)?.name;
        let fail = |source| Error::UploadStart { repository: repository.clone(), source };
        inner.uploads.expire(&inner.disk);
        let mut uploads = inner.uploads.lock();
        if uploads.len() >= UPLOADS_MAX {
            return Err(Error::UploadsTooMany { max: UPLOADS_MAX });
        }
        let id = UploadId::random().map_err(fail)?;
        let path = inner.layout.uploads().join(&id.0);
        let file = inner.disk.open(&path, Mode::CreateNew).map_err(fail)?;
        let upload = Upload {
            id: id.clone(),
            repository: repository.clone(),
            path,
            file,
            bytes: 0,
            hasher: Hasher::new(Algorithm::Sha256),
            used: Instant::now(),
            over: false,
        };
        uploads.insert(id.clone(), Arc::new(Mutex::new(upload)));
        Ok(id)
    }

    /// How many bytes an upload has.
    pub fn upload_bytes(&self, repository: &str, id: &UploadId) -> Result<u64, Error> {
        self.0.with_upload(repository, id, |upload| Ok(upload.bytes))
    }

    /// Writes `data` at `offset`, which must be the upload's end; returns the new end. An upload that cannot be written
    /// is given up, so that a full disk gets its space back.
    pub fn append_upload(&self, repository: &str, id: &UploadId, offset: u64, data: &[u8]) -> Result<u64, Error> {
        let inner = &*self.0;
        inner.with_upload(repository, id, |upload| {
            if upload.bytes != offset {
                return Err(Error::UploadOffset { id: id.to_string(), has: upload.bytes, offset });
            }
            if let Err(source) = upload.file.write_at(data, offset) {
                upload.give_up(inner);
                return Err(Error::UploadWrite { repository: repository.to_owned(), id: id.to_string(), source });
            }
            upload.hasher.update(data);
            upload.bytes += data.len() as u64;
            upload.used = Instant::now();
            Ok(upload.bytes)
        })
    }

    /// Makes an upload a blob of its repository, durably. If its content has another digest it is given up.
    pub fn finish_upload(&self, repository: &str, id: &UploadId, expected: &Digest) -> Result<(), Error> {
        let inner = &*self.0;
        inner.with_upload(repository, id, |upload| {
            let fail = |source| Error::BlobStore { digest: expected.clone(), source };
            let stored =
                upload.digest(expected.algorithm()).map_err(fail).and_then(|actual| match actual == *expected {
                    true => inner.store_content(&upload.file, &upload.path, expected).map_err(fail),
                    false => Err(Error::UploadDigest { expected: expected.clone(), actual }),
                });
            match stored {
                // Its file has its final name now.
                Ok(()) => upload.end(inner),
                Err(_) => upload.give_up(inner),
            }
            stored
        })?;
        self.link_blob(repository, expected)
    }

    /// Gives an upload up.
    pub fn cancel_upload(&self, repository: &str, id: &UploadId) -> Result<(), Error> {
        self.0.with_upload(repository, id, |upload| {
            upload.give_up(&self.0);
            Ok(())
        })
    }
}

impl Inner {
    fn with_upload<T>(
        &self,
        repository: &str,
        id: &UploadId,
        act: impl FnOnce(&mut Upload) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let unknown =
            || Error::UploadUnknown { repository: repository.to_owned(), id: id.0.chars().take(40).collect() };
        let upload = self.uploads.lock().get(id).cloned().ok_or_else(unknown)?;
        let mut upload = upload.lock().unwrap_or_else(PoisonError::into_inner);
        match upload.repository == repository && !upload.over {
            true => act(&mut upload),
            false => Err(unknown()),
        }
    }

    /// Stores small content at once: the same steps as an upload.
    pub(super) fn store_bytes(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        let path = self.layout.uploads().join(UploadId::random()?.0);
        let file = self.disk.open(&path, Mode::CreateNew)?;
        let stored = file.write_at(bytes, 0).and_then(|()| self.store_content(&file, &path, digest));
        if stored.is_err() {
            drop(self.disk.remove_file(&path));
        }
        stored
    }

    /// Syncs a file and gives it its final name. Also when the content is there already: whoever stored it may not
    /// have synced it yet, and readers of the replaced file keep it open.
    fn store_content(&self, file: &File, path: &Path, digest: &Digest) -> io::Result<()> {
        file.sync()?;
        let dir = self.layout.blob_dir(digest);
        self.disk.create_dir_all(&dir)?;
        self.disk.rename(path, self.layout.blob(digest))?;
        self.disk.sync_dir(&dir)
    }
}

impl Upload {
    fn digest(&self, algorithm: Algorithm) -> io::Result<Digest> {
        // Clients hardly ever ask for anything but sha256, and only say so at the end.
        if algorithm == Algorithm::Sha256 {
            return Ok(self.hasher.clone().finish());
        }
        let mut hasher = Hasher::new(algorithm);
        let mut buffer = vec![0; READ_BYTES];
        let mut at = 0;
        loop {
            match self.file.read_at(&mut buffer, at)? {
                0 => return Ok(hasher.finish()),
                n => {
                    hasher.update(&buffer[..n]);
                    at += n as u64;
                }
            }
        }
    }

    fn give_up(&mut self, inner: &Inner) {
        // If the file cannot be removed now, it is at the next start.
        drop(inner.disk.remove_file(&self.path));
        self.end(inner);
    }

    fn end(&mut self, inner: &Inner) {
        self.over = true;
        inner.uploads.lock().remove(&self.id);
    }
}

impl Uploads {
    fn lock(&self) -> MutexGuard<'_, HashMap<UploadId, Arc<Mutex<Upload>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expire(&self, disk: &Disk) {
        self.lock().retain(|_, upload| {
            // One that is locked is being written to.
            let Ok(mut upload) = upload.try_lock() else { return true };
            let keep = upload.used.elapsed() < IDLE_MAX;
            if !keep {
                drop(disk.remove_file(&upload.path));
                upload.over = true;
            }
            keep
        });
    }
}
