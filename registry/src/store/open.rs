//! The handle on the store, and how it starts.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skiff_disk::{Disk, write_atomic};

use super::error::{Error, found};
use super::layout::{Layout, Repository};
use super::uploads::Uploads;

/// The version of the layout on disk.
const VERSION: &str = "1";

/// How many repositories can change at the same time without waiting for each other: more than there are blocking
/// writers at any moment.
const STRIPES: usize = 64;

/// The embedded registry's store. A cheap-clone handle; all calls block.
#[derive(Debug, Clone)]
pub struct Registry(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) disk: Disk,
    pub(super) layout: Layout,
    pub(super) uploads: Uploads,
    stripes: [Mutex<()>; STRIPES],
}

impl Registry {
    /// Opens the registry in `dir`, which is made if it is missing, and removes what an earlier process left behind:
    /// unfinished uploads, and content that nothing names.
    pub fn open(disk: Disk, dir: impl AsRef<Path>) -> Result<Self, Error> {
        let dir = dir.as_ref();
        let fail = |source| Error::Open { dir: dir.to_path_buf(), source };
        disk.create_dir_all(dir).map_err(fail)?;
        let layout = Layout::new(dir);
        match found(disk.read(layout.version(), 64)).map_err(fail)? {
            Some(bytes) if bytes == VERSION.as_bytes() => {}
            Some(bytes) => {
                let found = String::from_utf8_lossy(&bytes).into_owned();
                return Err(Error::Version { dir: dir.to_path_buf(), found, known: VERSION });
            }
            None => write_atomic(&disk, &layout.version(), VERSION.as_bytes()).map_err(fail)?,
        }
        for dir in [layout.uploads(), layout.blobs(), layout.repositories()] {
            disk.create_dir_all(dir).map_err(fail)?;
        }
        let stripes = std::array::from_fn(|_| Mutex::new(()));
        let registry = Self(Arc::new(Inner { disk, layout, uploads: Uploads::default(), stripes }));
        registry.sweep().map_err(fail)?;
        Ok(registry)
    }
}

impl Inner {
    /// Held while a repository's manifests or tags change, so that a check and the write that relies on it are one.
    pub(super) fn lock(&self, repository: &Repository) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        repository.name.hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % STRIPES as u64).unwrap_or(0);
        self.stripes[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
