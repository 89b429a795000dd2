//! Content on its way in: one file per upload, hashed while it is written.
//!
//! Every write names the offset it belongs at, so that two writers on one upload cannot interleave and a request that
//! is dropped half way leaves a state that the client can ask for and go on from. An upload outlives the process: beside
//! its content is a [`session`], from which the next process finds out, when the client comes back, how far it got.
//!
//! ```text
//! start -> cold or warm -> append* -> finish (a blob)      cold: content on disk that this process has not hashed yet
//!                     \-> given up: cancelled, wrong digest, too large, idle for too long, no room
//! ```

mod session;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use session::{About, Session};
use skiff_api::Digest;
use skiff_api::digest::Algorithm;
use skiff_disk::{File, Mode};

use super::error::{Error, found};
use super::limits::Limits;
use super::open::{Inner, Registry};
use crate::hash::Hasher;

/// How much is written between two records of a session: what a kill in the middle of a long request loses at most.
const RECORD_EVERY_BYTES: u64 = 8 << 20;

/// The name of an upload: 32 hexadecimal digits that cannot be guessed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UploadId(String);

/// How an upload comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coming {
    /// In one request: nobody knows its name, so nobody can go on with it.
    AtOnce,
    /// In several, maybe to another process.
    InParts,
}

/// Where an upload stood at some moment.
#[derive(Debug, Clone)]
pub struct UploadMark {
    pub bytes: u64,
    hasher: Hasher,
}

#[derive(Debug, Default)]
pub(super) struct Uploads(Mutex<HashMap<UploadId, Entry>>);

#[derive(Debug, Clone)]
struct Entry {
    about: Arc<About>,
    upload: Arc<Mutex<Upload>>,
}

#[derive(Debug)]
struct Upload {
    id: UploadId,
    path: PathBuf,
    /// None for one that comes at once.
    session: Option<Session>,
    content: Option<Content>,
    used: Instant,
    /// Set once it is finished or given up: whoever still holds it must not write to its file.
    over: bool,
}

/// The content as far as this process knows it.
#[derive(Debug)]
struct Content {
    file: File,
    bytes: u64,
    hasher: Hasher,
    /// What the session's last record covers.
    recorded: u64,
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

    /// The upload that a session's file is of.
    fn of_session(file_name: &str) -> Option<Self> {
        let id = file_name.strip_suffix(session::SUFFIX)?;
        let is_hex = |b: u8| b.is_ascii_digit() || matches!(b, b'a'..=b'f');
        (id.len() == 32 && id.bytes().all(is_hex)).then(|| Self(id.to_owned()))
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Registry {
    /// Starts an upload to a repository by nobody in particular.
    pub fn start_upload(&self, repository: &str) -> Result<UploadId, Error> {
        self.start_upload_of(repository, "", Coming::InParts)
    }

    /// Starts an upload to a repository. `client` is whatever tells clients apart: one has a share of all uploads.
    pub fn start_upload_of(&self, repository: &str, client: &str, coming: Coming) -> Result<UploadId, Error> {
        let inner = &*self.0;
        let repository = inner.layout.repository(repository)?.name;
        let fail = |source| Error::UploadStart { repository: repository.clone(), source };
        inner.expire_uploads();
        let about = Arc::new(About { repository: repository.clone(), client: client.to_owned() });
        let mut uploads = inner.uploads.lock();
        let of_client = || uploads.values().filter(|entry| entry.about.client == client).count();
        let Limits { uploads_max, uploads_per_client_max, .. } = inner.limits;
        if uploads.len() >= uploads_max {
            return Err(Error::UploadsTooMany { max: uploads_max });
        }
        if of_client() >= uploads_per_client_max {
            return Err(Error::UploadsTooManyOfClient { max: uploads_per_client_max });
        }
        let id = UploadId::random().map_err(fail)?;
        let path = inner.layout.uploads().join(&id.0);
        let session = match coming {
            Coming::AtOnce => None,
            Coming::InParts => {
                let path = inner.layout.uploads().join(format!("{id}{}", session::SUFFIX));
                Some(Session::create(&inner.disk, path, &about).map_err(fail)?)
            }
        };
        let upload = Upload { id: id.clone(), path, session, content: None, used: Instant::now(), over: false };
        uploads.insert(id.clone(), Entry { about, upload: Arc::new(Mutex::new(upload)) });
        Ok(id)
    }

    /// How many bytes an upload has.
    pub fn upload_bytes(&self, repository: &str, id: &UploadId) -> Result<u64, Error> {
        self.mark_upload(repository, id).map(|mark| mark.bytes)
    }

    /// Where an upload stands, to come back to.
    pub fn mark_upload(&self, repository: &str, id: &UploadId) -> Result<UploadMark, Error> {
        self.0.with_content(repository, id, |upload, _| {
            let content = upload.content()?;
            Ok(UploadMark { bytes: content.bytes, hasher: content.hasher.clone() })
        })
    }

    /// Writes `data` at `offset`, which must be the upload's end; returns the new end. An upload that cannot be written
    /// or becomes larger than a blob may be is given up, so that a full disk gets its space back.
    pub fn append_upload(&self, repository: &str, id: &UploadId, offset: u64, data: &[u8]) -> Result<u64, Error> {
        self.0.with_content(repository, id, |upload, inner| {
            let max = inner.limits.blob_bytes_max;
            let content = upload.content()?;
            if content.bytes != offset {
                return Err(Error::UploadOffset { id: id.to_string(), has: content.bytes, offset });
            }
            if offset.saturating_add(data.len() as u64) > max {
                upload.give_up(inner);
                return Err(Error::BlobTooLarge { max });
            }
            if let Err(source) = content.file.write_at(data, offset) {
                upload.give_up(inner);
                return Err(Error::UploadWrite { repository: repository.to_owned(), id: id.to_string(), source });
            }
            content.hasher.update(data);
            content.bytes += data.len() as u64;
            let bytes = content.bytes;
            if bytes - content.recorded >= RECORD_EVERY_BYTES {
                upload.record(inner);
            }
            Ok(bytes)
        })
    }

    /// Ends a part: from now on another process would go on here.
    pub fn keep_upload(&self, repository: &str, id: &UploadId) -> Result<u64, Error> {
        self.0.with_content(repository, id, |upload, inner| {
            upload.record(inner);
            Ok(upload.content()?.bytes)
        })
    }

    /// Takes back what was written since `mark`, which somebody else's write since then forbids: what is there is theirs
    /// too. `end` is where the caller's own writes ended.
    pub fn rewind_upload(&self, repository: &str, id: &UploadId, mark: &UploadMark, end: u64) -> Result<(), Error> {
        self.0.with_content(repository, id, |upload, inner| {
            let content = upload.content()?;
            if content.bytes != end {
                return Err(Error::UploadOffset { id: id.to_string(), has: content.bytes, offset: end });
            }
            if let Err(source) = content.file.set_bytes(mark.bytes) {
                upload.give_up(inner);
                return Err(Error::UploadWrite { repository: repository.to_owned(), id: id.to_string(), source });
            }
            content.bytes = mark.bytes;
            content.hasher = mark.hasher.clone();
            content.recorded = content.recorded.min(mark.bytes);
            Ok(())
        })
    }

    /// Makes an upload a blob of its repository, durably. If its content has another digest it is given up.
    pub fn finish_upload(&self, repository: &str, id: &UploadId, expected: &Digest) -> Result<(), Error> {
        let to = self.0.layout.repository(repository)?;
        self.0.with_content(repository, id, |upload, inner| {
            let fail = |source| Error::BlobStore { digest: expected.clone(), source };
            let content = upload.content()?;
            let stored =
                content.digest(expected.algorithm()).map_err(fail).and_then(|actual| match actual == *expected {
                    true => content.file.sync().map_err(fail),
                    false => Err(Error::UploadDigest { expected: expected.clone(), actual }),
                });
            if stored.is_err() {
                upload.give_up(inner);
                return stored;
            }
            // Not before: syncing a large file takes its time, and whoever collects waits for the gate.
            let _gate = inner.open_gate();
            if let Err(source) = inner.name_content(&upload.path, expected) {
                upload.give_up(inner);
                return Err(fail(source));
            }
            // Its file has its final name now.
            upload.end(inner);
            inner.link_blob(&to, expected)
        })
    }

    /// Gives an upload up.
    pub fn cancel_upload(&self, repository: &str, id: &UploadId) -> Result<(), Error> {
        self.0.with_upload(repository, id, |upload, inner| {
            upload.give_up(inner);
            Ok(())
        })
    }

    /// How many uploads are under way.
    pub fn uploads(&self) -> usize {
        self.0.uploads.lock().len()
    }
}

impl Inner {
    /// Finds the uploads of earlier processes, and removes what belongs to none.
    pub(super) fn recover_uploads(&self) -> io::Result<()> {
        let dir = self.layout.uploads();
        let mut uploads = self.uploads.lock();
        let names: Vec<String> = self.disk.read_dir(&dir)?.into_iter().map(|entry| entry.name).collect();
        for (id, name) in names.iter().filter_map(|name| Some((UploadId::of_session(name)?, name))) {
            if uploads.len() >= self.limits.uploads_max {
                break;
            }
            let Some((session, about)) = Session::found(&self.disk, dir.join(name))? else { continue };
            let path = dir.join(&id.0);
            // What was written has its final name already, and only the session is left.
            if session.has_records(&self.disk)? && !self.disk.exists(&path) {
                continue;
            }
            let upload = Upload {
                id: id.clone(),
                path,
                session: Some(session),
                content: None,
                used: Instant::now(),
                over: false,
            };
            uploads.insert(id, Entry { about: Arc::new(about), upload: Arc::new(Mutex::new(upload)) });
        }
        for name in names {
            let id = UploadId::of_session(&name).unwrap_or_else(|| UploadId(name.clone()));
            if !uploads.contains_key(&id) {
                self.disk.remove_file(dir.join(name))?;
            }
        }
        Ok(())
    }

    /// Gives up what nobody has written to for too long.
    pub(super) fn expire_uploads(&self) {
        let entries: Vec<Entry> = self.uploads.lock().values().cloned().collect();
        for entry in entries {
            // One that is locked is being written to.
            let Ok(mut upload) = entry.upload.try_lock() else { continue };
            if !upload.over && upload.used.elapsed() >= self.limits.upload_idle {
                upload.give_up(self);
            }
        }
    }

    /// Whether somebody may be about to push a manifest, and sends what is not there yet.
    pub(super) fn is_uploaded_to(&self, repository: &str) -> bool {
        self.uploads.lock().values().any(|entry| entry.about.repository == repository)
    }

    fn with_upload<T>(
        &self,
        repository: &str,
        id: &UploadId,
        act: impl FnOnce(&mut Upload, &Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let unknown =
            || Error::UploadUnknown { repository: repository.to_owned(), id: id.0.chars().take(40).collect() };
        let entry = self.uploads.lock().get(id).cloned().ok_or_else(unknown)?;
        let mut upload = entry.upload.lock().unwrap_or_else(PoisonError::into_inner);
        match entry.about.repository == repository && !upload.over {
            true => {
                upload.used = Instant::now();
                act(&mut upload, self)
            }
            false => Err(unknown()),
        }
    }

    /// The same, once the content is known.
    fn with_content<T>(
        &self,
        repository: &str,
        id: &UploadId,
        act: impl FnOnce(&mut Upload, &Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.with_upload(repository, id, |upload, inner| {
            if upload.content.is_none()
                && let Err(source) = upload.warm(inner)
            {
                upload.give_up(inner);
                return Err(Error::UploadWrite { repository: repository.to_owned(), id: id.to_string(), source });
            }
            act(upload, inner)
        })
    }

    /// Stores small content at once: the same steps as an upload.
    pub(super) fn store_bytes(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        let path = self.layout.uploads().join(UploadId::random()?.0);
        let file = self.disk.open(&path, Mode::CreateNew)?;
        let stored = file.write_at(bytes, 0).and_then(|()| file.sync()).and_then(|()| self.name_content(&path, digest));
        if stored.is_err() {
            drop(self.disk.remove_file(&path));
        }
        stored
    }

    /// Gives a synced file its final name; the caller holds the gate. Also when the content is there already: whoever stored it may not have synced
    /// it yet, and readers of the replaced file keep it open.
    fn name_content(&self, path: &std::path::Path, digest: &Digest) -> io::Result<()> {
        self.fresh.touch(self.keys.content(digest));
        let dir = self.layout.blob_dir(digest);
        self.disk.create_dir_all(&dir)?;
        self.disk.rename(path, self.layout.blob(digest))?;
        self.disk.sync_dir(&dir)
    }
}

impl Upload {
    fn content(&mut self) -> Result<&mut Content, Error> {
        self.content.as_mut().ok_or_else(|| Error::UploadUnknown { repository: String::new(), id: self.id.to_string() })
    }

    /// Opens the content; what another process wrote of it is hashed again.
    fn warm(&mut self, inner: &Inner) -> io::Result<()> {
        let file = inner.disk.open(&self.path, Mode::Create)?;
        let verified = match (&mut self.session, file.bytes()?) {
            (Some(session), 1..) => session.verify(&inner.disk, &file)?,
            _ => None,
        };
        let (bytes, hasher) = verified.unwrap_or_else(|| (0, Hasher::new(Algorithm::Sha256)));
        file.set_bytes(bytes)?;
        self.content = Some(Content { file, bytes, hasher, recorded: bytes });
        Ok(())
    }

    /// A record that cannot be written costs a client that comes back after a restart some time, and nothing else.
    fn record(&mut self, inner: &Inner) {
        let (Some(session), Some(content)) = (&mut self.session, &mut self.content) else { return };
        if content.recorded != content.bytes && session.record(&inner.disk, content.bytes, &content.hasher).is_ok() {
            content.recorded = content.bytes;
        }
    }

    fn give_up(&mut self, inner: &Inner) {
        // If a file cannot be removed now, it is at the next start.
        drop(found(inner.disk.remove_file(&self.path)));
        self.end(inner);
    }

    fn end(&mut self, inner: &Inner) {
        if let Some(session) = &self.session {
            drop(inner.disk.remove_file(session.path()));
        }
        self.over = true;
        self.content = None;
        inner.uploads.lock().remove(&self.id);
    }
}

impl Content {
    fn digest(&self, algorithm: Algorithm) -> io::Result<Digest> {
        // Clients hardly ever ask for anything but sha256, and only say so at the end.
        if algorithm == Algorithm::Sha256 {
            return Ok(self.hasher.clone().finish());
        }
        let mut hasher = Hasher::new(algorithm);
        session::hash_up_to(&self.file, &mut hasher, &mut 0, u64::MAX)?;
        Ok(hasher.finish())
    }
}

impl Uploads {
    fn lock(&self) -> MutexGuard<'_, HashMap<UploadId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
