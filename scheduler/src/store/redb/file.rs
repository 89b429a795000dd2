//! The database's file on a [`Disk`], and how it is opened.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{Database, ReadableDatabase, StorageBackend};
use skiff_disk::{Disk, File, Mode};

use super::tables::{EVENTS, LOG, META, META_FORMAT, VERSIONS};
use crate::store::Error;

/// The layout of the tables. A reader refuses a newer one.
const FORMAT: u64 = 1;

/// The pages that are read again and again: what is live in a large fleet is about this much. redb's default is 1 GiB.
const CACHE_BYTES: usize = 16 << 20;

/// Where the database is, and whether a sync of it ever failed.
pub(super) struct Place {
    disk: Disk,
    path: PathBuf,
    sync_failed: Arc<AtomicBool>,
}

/// How much of the file to read before trusting it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Verify every page: the file comes from another life, and redb may panic on a page that was altered since.
    Verify,
    /// This process wrote it a moment ago.
    Known,
}

impl Place {
    pub(super) fn new(disk: Disk, path: &Path) -> Self {
        Self { disk, path: path.to_owned(), sync_failed: Arc::default() }
    }

    /// After that the page cache may differ from the disk, and nothing that is read can be believed to be durable.
    pub(super) fn sync_failed(&self) -> bool {
        self.sync_failed.load(Ordering::Acquire)
    }

    /// Opens the database, making it if it is missing.
    pub(super) fn open(&self, trust: Trust) -> Result<Database, Error> {
        if !self.disk.exists(&self.path) {
            self.create()?;
        }
        // Also when the file was there: its name may come from a process that was killed before this.
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.disk.sync_dir(parent).map_err(|e| self.open_failed(e))?;
        let file = self.disk.open(&self.path, Mode::Write).map_err(|e| self.open_failed(e))?;
        let (db, format) = self.load(file, trust, |db| {
            let meta = db.begin_read()?.open_table(META)?;
            let format = meta.get(META_FORMAT)?.map(|format| format.value());
            format.ok_or_else(|| redb::Error::Corrupted("no format is noted in it".to_owned()))
        })?;
        if format != FORMAT {
            return Err(Error::NewerFormat { path: self.display(), found: format, known: FORMAT });
        }
        Ok(db)
    }

    /// Under another name until it is whole: after a power cut redb does not know a file that it had begun.
    fn create(&self) -> Result<(), Error> {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".new");
        let file = self.disk.open(&name, Mode::Create).map_err(|e| self.open_failed(e))?;
        file.set_bytes(0).map_err(|e| self.open_failed(e))?;
        let (db, ()) = self.load(file, Trust::Known, |db| {
            let mut write = db.begin_write()?;
            write.set_quick_repair(true);
            write.open_table(META)?.insert(META_FORMAT, FORMAT)?;
            write.open_table(VERSIONS)?;
            write.open_table(LOG)?;
            write.open_table(EVENTS)?;
            Ok(write.commit()?)
        })?;
        db.close().map_err(|e| self.open_failed_in(e.into()))?;
        self.disk.rename(&name, &self.path).map_err(|e| self.open_failed(e))
    }

    fn load<T>(
        &self,
        file: File,
        trust: Trust,
        first: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<(Database, T), Error> {
        let backend = Backend { file, sync_failed: self.sync_failed.clone() };
        let loading = || {
            let db = redb::Builder::new()
                .set_cache_size(CACHE_BYTES)
                .set_check_integrity_on_open(trust == Trust::Verify)
                .create_with_backend(backend)?;
            let first = first(&db)?;
            Ok((db, first))
        };
        loading().map_err(|e| self.open_failed_in(e))
    }

    pub(super) fn open_failed(&self, source: io::Error) -> Error {
        Error::Open { path: self.display(), source: Arc::new(source) }
    }

    pub(super) fn open_failed_in(&self, e: redb::Error) -> Error {
        match e {
            // This is how redb says that the file is none of its own.
            redb::Error::Io(source) if source.kind() != io::ErrorKind::InvalidData => self.open_failed(source),
            other => Error::Corrupt { path: self.display(), source: Arc::new(other) },
        }
    }

    fn display(&self) -> String {
        self.path.display().to_string()
    }
}

struct Backend {
    file: File,
    sync_failed: Arc<AtomicBool>,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.bytes()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < out.len() {
            match self.file.read_at(&mut out[filled..], offset + filled as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_bytes(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync().inspect_err(|_| self.sync_failed.store(true, Ordering::Release))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(data, offset)
    }
}
