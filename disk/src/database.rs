//! A redb database in one file of a [`Disk`] (feature `database`): made whole or not at all, read in full before it is
//! trusted, and known to have lost something when a sync of it failed.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{Database, ReadableDatabase, StorageBackend, TableDefinition, WriteTransaction};

use crate::disk::{Disk, File, Mode};

/// Numbers about a database, of which one is the format of its tables.
pub const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const META_FORMAT: &str = "format";

/// What is in a database.
#[derive(Clone, Copy)]
pub struct Layout {
    /// A reader refuses another one.
    pub format: u64,
    /// The pages that are read again and again. redb's default is 1 GiB.
    pub cache_bytes: usize,
    /// Makes the tables of a new one.
    pub make: fn(&WriteTransaction) -> Result<(), redb::Error>,
}

/// Why a database cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    Io(io::Error),
    /// It is damaged, or none of redb's.
    Corrupt(redb::Error),
    /// Its tables have another format.
    Format {
        found: u64,
    },
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<redb::Error> for OpenError {
    fn from(error: redb::Error) -> Self {
        match error {
            // This is how redb says that the file is none of its own.
            redb::Error::Io(source) if source.kind() != io::ErrorKind::InvalidData => Self::Io(source),
            other => Self::Corrupt(other),
        }
    }
}

/// Where a database is, and whether a sync of it ever failed.
pub struct Place {
    disk: Disk,
    path: PathBuf,
    layout: Layout,
    sync_failed: Arc<AtomicBool>,
}

/// How much of the file to read before trusting it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Verify every page: the file comes from another life, and redb may panic on a page that was altered since.
    Verify,
    /// This process wrote it a moment ago.
    Known,
}

impl Place {
    pub fn new(disk: Disk, path: impl Into<PathBuf>, layout: Layout) -> Self {
        Self { disk, path: path.into(), layout, sync_failed: Arc::default() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// After that the page cache may differ from the disk, and nothing that is read can be believed to be durable.
    pub fn sync_failed(&self) -> bool {
        self.sync_failed.load(Ordering::Acquire)
    }

    /// Opens the database, making it if it is missing. Blocks.
    pub fn open(&self, trust: Trust) -> Result<Database, OpenError> {
        if !self.disk.exists(&self.path) {
            self.create()?;
        }
        // Also when the file was there: its name may come from a process that was killed before this.
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        self.disk.sync_dir(parent)?;
        let file = self.disk.open(&self.path, Mode::Write)?;
        let (db, found) = self.load(file, trust, |db| {
            let meta = db.begin_read()?.open_table(META)?;
            let format = meta.get(META_FORMAT)?.map(|format| format.value());
            format.ok_or_else(|| redb::Error::Corrupted("no format is noted in it".to_owned()))
        })?;
        match found == self.layout.format {
            true => Ok(db),
            false => Err(OpenError::Format { found }),
        }
    }

    /// Under another name until it is whole: after a power cut redb does not know a file that it had begun.
    fn create(&self) -> Result<(), OpenError> {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".new");
        let file = self.disk.open(&name, Mode::Create)?;
        file.set_bytes(0)?;
        let (db, ()) = self.load(file, Trust::Known, |db| {
            let mut write = db.begin_write()?;
            write.set_quick_repair(true);
            write.open_table(META)?.insert(META_FORMAT, self.layout.format)?;
            (self.layout.make)(&write)?;
            Ok(write.commit()?)
        })?;
        db.close().map_err(redb::Error::from)?;
        Ok(self.disk.rename(&name, &self.path)?)
    }

    fn load<T>(
        &self,
        file: File,
        trust: Trust,
        first: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<(Database, T), OpenError> {
        let backend = Backend { file, sync_failed: self.sync_failed.clone() };
        let loading = || -> Result<(Database, T), redb::Error> {
            let db = redb::Builder::new()
                .set_cache_size(self.layout.cache_bytes)
                .set_check_integrity_on_open(trust == Trust::Verify)
                .create_with_backend(backend)?;
            let first = first(&db)?;
            Ok((db, first))
        };
        Ok(loading()?)
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
