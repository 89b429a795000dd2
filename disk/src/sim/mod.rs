//! A disk in memory that forgets what was not synced when the power goes.
//!
//! It is as hostile as POSIX permits, not as kind as any one file system: what survives a cut is
//! - of a file's data, what [`File::sync`](crate::File::sync) covered; of anything later each 512-byte sector may be there
//!   or not, in whatever order it was written, and the file may have grown without its data (zeros);
//! - of its name, what [`Disk::sync_dir`] on its directory covered; every later creation, rename and removal may have
//!   happened or not, whatever came before or after it. Only a rename is atomic: a file is never without both names.
//!
//! Everything is drawn from a seed, so that a failure can be run again. A cut keeps all, nothing or a mixture with equal
//! chances, because a missing sync shows up only if enough is lost, and a missing order only if some is kept.
//!
//! Paths have one root: `/data`, `data` and `./data` are the same directory.

mod image;
mod machine;
mod once;
mod rng;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use machine::{Machine, SimBackend};
pub use once::assert_made_once;

use crate::disk::{Disk, Site};

/// A simulated machine's disk, from one boot to the next power cut. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<Machine>>);

impl SimDisk {
    /// An empty disk. The seed decides what power cuts keep.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Machine::new(seed))))
    }

    pub fn disk(&self) -> Disk {
        Disk::new(SimBackend(self.0.clone()))
    }

    /// The disk as it is found at the next boot. Whatever still uses the old one gets I/O errors. Skipped sites and the
    /// list of sites go along; limits and failures that were asked for do not.
    pub fn power_cut(&self) -> Self {
        Self(Arc::new(Mutex::new(self.lock().power_cut())))
    }

    /// The disk as the next process finds it after this one was killed: nothing is lost, and nothing is more durable than
    /// it was. Whatever still uses the old one gets I/O errors. After [`SimDisk::cut_after`] it is a kill at that point.
    pub fn kill(&self) -> Self {
        Self(Arc::new(Mutex::new(self.lock().kill())))
    }

    /// The places in the source that synced something so far.
    pub fn sites(&self) -> BTreeSet<Site> {
        self.lock().sites.clone()
    }

    /// Syncs from that place do nothing from now on, and say that they did.
    pub fn skip_site(&self, site: Site) {
        self.lock().skipped.insert(site);
    }

    /// How many operations changed or synced something so far: the range from which to draw a cut.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// The power fails during the operation that follows the next `operations` ones, reads not counted. From then on
    /// everything fails; [`SimDisk::power_cut`] boots again.
    pub fn cut_after(&self, operations: u64) {
        let mut machine = self.lock();
        machine.cut_at = Some(machine.operations + operations);
    }

    /// There is room for this many more bytes, in blocks of 4 KiB; growing beyond fails with `StorageFull`.
    /// Overwriting needs no room, and what is removed makes some.
    pub fn fail_with_full_after(&self, bytes: u64) {
        self.lock().room = Some(bytes);
    }

    /// Undoes [`SimDisk::fail_with_full_after`].
    pub fn make_room(&self) {
        self.lock().room = None;
    }

    /// The next sync of a file fails, and what it should have kept is lost though it can still be read: so Linux does it
    /// when a disk refuses a page, and a second sync, which succeeds, changes nothing about it.
    pub fn fail_next_sync(&self) {
        self.lock().sync_fails = true;
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
