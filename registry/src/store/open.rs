//! The handle on the store, and how it starts.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use skiff_disk::{Disk, write_atomic};
use tokio::sync::Notify;

use super::error::{Error, found};
use super::fresh::{Fresh, Keys};
use super::layout::{Layout, Repository};
use super::limits::Limits;
use super::metrics::Metrics;
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
    pub(super) limits: Limits,
    pub(super) uploads: Uploads,
    pub(super) keys: Keys,
    /// Blobs, as repositories have them, and content.
    pub(super) fresh: Fresh,
    pub(super) fresh_manifests: Fresh,
    /// Wakes whoever collects.
    pub(super) changes: Notify,
    pub(super) metrics: Metrics,
    gate: RwLock<()>,
    stripes: [Mutex<()>; STRIPES],
}

impl Registry {
    /// Opens the registry in `dir` with the default limits.
    pub fn open(disk: Disk, dir: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_with(disk, dir, Limits::default())
    }

    /// Opens the registry in `dir`, which is made if it is missing. Uploads of an earlier process can go on; what else it
    /// left behind, half-written files and content that nothing names, is for [`Registry::collect`].
    pub fn open_with(disk: Disk, dir: impl AsRef<Path>, limits: Limits) -> Result<Self, Error> {
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
        let registry = Self(Arc::new(Inner {
            disk,
            layout,
            uploads: Uploads::default(),
            keys: Keys::default(),
            fresh: Fresh::new(limits.grace),
            fresh_manifests: Fresh::new(limits.untagged),
            changes: Notify::new(),
            metrics: Metrics::default(),
            gate: RwLock::default(),
            stripes,
            limits,
        }));
        registry.0.recover_uploads().map_err(fail)?;
        Ok(registry)
    }

    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }
}

impl Inner {
    /// Held by everything that reads something in order to rely on it, or changes anything: before [`Inner::lock`], and not
    /// twice by one thread. Nothing is collected meanwhile.
    pub(super) fn open_gate(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held alone by whoever collects, for one small thing at a time.
    pub(super) fn close_gate(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held while a repository's manifests or tags change, so that a check and the write that relies on it are one.
    pub(super) fn lock(&self, repository: &Repository) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        repository.name.hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % STRIPES as u64).unwrap_or(0);
        self.stripes[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
