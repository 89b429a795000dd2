//! The handle that durable code holds, and the trait behind it.

use std::fmt;
use std::io;
use std::panic::Location;
use std::path::Path;
use std::sync::Arc;

use crate::dirs::Dirs;
use crate::real::RealDisk;

/// Where in the source a sync was asked for.
pub type Site = &'static Location<'static>;

/// How [`Disk::open`] opens a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// Made when it is missing, kept when it is there; for reading and writing. Readable by its owner only.
    Create,
    /// Must not exist yet; for reading and writing. Readable by its owner only.
    CreateNew,
}

/// What a directory holds under one name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub name: String,
    pub is_dir: bool,
}

/// What is known of a path without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    pub bytes: u64,
    pub is_dir: bool,
}

/// A file system. Implemented by the operating system and by the simulated disk; code uses [`Disk`].
pub trait Backend: Send + Sync + 'static {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn BackendFile>>;
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>>;
    fn stat(&self, path: &Path) -> io::Result<Stat>;
    fn sync_dir(&self, path: &Path, site: Site) -> io::Result<()>;
}

/// An open file of a [`Backend`]. Positions are explicit, so that one handle serves several readers.
pub trait BackendFile: Send + Sync + fmt::Debug + 'static {
    /// Reads at most `buf.len()` bytes at `offset`; 0 at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `buf` at `offset`, growing the file as needed.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    fn bytes(&self) -> io::Result<u64>;
    fn set_bytes(&self, bytes: u64) -> io::Result<()>;
    fn sync(&self, site: Site) -> io::Result<()>;
}

/// A cheap-clone handle on a file system.
#[derive(Clone)]
pub struct Disk {
    backend: Arc<dyn Backend>,
    dirs: Arc<Dirs>,
}

impl Disk {
    /// The operating system's file system.
    pub fn real() -> Self {
        Self::new(RealDisk)
    }

    pub fn new(backend: impl Backend) -> Self {
        Self { backend: Arc::new(backend), dirs: Arc::default() }
    }

    pub fn open(&self, path: impl AsRef<Path>, mode: Mode) -> io::Result<File> {
        self.backend.open(path.as_ref(), mode).map(|inner| File { inner })
    }

    /// Makes one directory; its parent must exist. Not an error when it is there already.
    pub fn create_dir(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.backend.create_dir(path.as_ref())
    }

    /// Makes a directory and the missing ones above it, and makes the name of each durable, whoever made it. Free when
    /// this handle or a clone of it has done so before.
    #[track_caller]
    pub fn create_dir_all(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.dirs.ensure(&*self.backend, path.as_ref(), Location::caller())
    }

    /// Replaces `to` if it exists. Durable only after [`Disk::sync_dir`] on the directory of `to`.
    pub fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
        let renamed = self.backend.rename(from.as_ref(), to.as_ref());
        self.dirs.forget(from.as_ref());
        self.dirs.forget(to.as_ref());
        renamed
    }

    pub fn remove_file(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.backend.remove_file(path.as_ref())
    }

    /// Removes an empty directory.
    pub fn remove_dir(&self, path: impl AsRef<Path>) -> io::Result<()> {
        let removed = self.backend.remove_dir(path.as_ref());
        self.dirs.forget(path.as_ref());
        removed
    }

    /// The entries of a directory, sorted by name; names that are not UTF-8 are left out.
    pub fn read_dir(&self, path: impl AsRef<Path>) -> io::Result<Vec<Entry>> {
        let mut entries = self.backend.read_dir(path.as_ref())?;
        entries.sort();
        Ok(entries)
    }

    pub fn stat(&self, path: impl AsRef<Path>) -> io::Result<Stat> {
        self.backend.stat(path.as_ref())
    }

    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.stat(path).is_ok()
    }

    /// Makes the names in a directory durable: what was created, renamed into or removed from it.
    #[track_caller]
    pub fn sync_dir(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.backend.sync_dir(path.as_ref(), Location::caller())
    }

    /// A whole file; refused beyond `bytes_max`, so that a foreign file cannot fill the memory.
    pub fn read(&self, path: impl AsRef<Path>, bytes_max: u64) -> io::Result<Vec<u8>> {
        let path = path.as_ref();
        let file = self.open(path, Mode::Read)?;
        file.read_all(bytes_max).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disk")
    }
}

/// An open file.
#[derive(Debug)]
pub struct File {
    inner: Box<dyn BackendFile>,
}

impl File {
    /// Reads at most `buf.len()` bytes at `offset`; 0 at the end of the file.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buf, offset)
    }

    /// Writes all of `buf` at `offset`, growing the file as needed.
    pub fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_at(buf, offset)
    }

    /// The whole file; refused beyond `bytes_max`.
    pub fn read_all(&self, bytes_max: u64) -> io::Result<Vec<u8>> {
        let bytes = self.bytes()?;
        if bytes > bytes_max {
            let message = format!("it has {bytes} bytes, more than {bytes_max}");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        let mut data = vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)];
        let mut filled = 0;
        while filled < data.len() {
            match self.read_at(&mut data[filled..], filled as u64)? {
                0 => break,
                n => filled += n,
            }
        }
        data.truncate(filled);
        Ok(data)
    }

    pub fn bytes(&self) -> io::Result<u64> {
        self.inner.bytes()
    }

    pub fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        self.inner.set_bytes(bytes)
    }

    /// Makes the file's data durable; its name is durable only after [`Disk::sync_dir`].
    #[track_caller]
    pub fn sync(&self) -> io::Result<()> {
        self.inner.sync(Location::caller())
    }
}
