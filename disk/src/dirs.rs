//! Directories whose own names are durable.
//!
//! A file is only as durable as the names of the folders above it. The name of each is synced once for every process,
//! also when the folder is there already: an earlier process may have been killed between making and syncing it, and
//! then a power cut takes the folder with all that was built on it since. What this process has synced it remembers, so
//! that asking again costs nothing.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::disk::{Backend, Site};

/// The folders whose names this process knows to be durable.
#[derive(Debug, Default)]
pub(crate) struct Dirs(Mutex<HashSet<PathBuf>>);

impl Dirs {
    /// Makes `dir` and what is missing above it, and syncs the name of each. Two callers at once sync twice, which is
    /// why no lock is held over it: neither builds on a name that is not durable.
    pub(crate) fn ensure(&self, backend: &dyn Backend, dir: &Path, site: Site) -> io::Result<()> {
        let mut unsure = Vec::new();
        for at in dir.ancestors().take_while(|at| !at.as_os_str().is_empty()) {
            if self.lock().contains(at) {
                break;
            }
            unsure.push(at);
        }
        for at in unsure.into_iter().rev() {
            // The root has no name.
            let Some(parent) = at.parent() else { continue };
            let was_there = backend.stat(at).is_ok();
            if !was_there {
                backend.create_dir(at)?;
            }
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            match backend.sync_dir(parent, site) {
                // Where we may not even look, it was not us who made it.
                Err(e) if was_there && e.kind() == io::ErrorKind::PermissionDenied => {}
                synced => synced?,
            }
            self.lock().insert(at.to_path_buf());
        }
        Ok(())
    }

    /// `dir` has gone, or has another name.
    pub(crate) fn forget(&self, dir: &Path) {
        let mut known = self.lock();
        // What is above a known folder is known, so a file, which this is mostly, costs no search.
        if known.remove(dir) {
            known.retain(|known| !known.starts_with(dir));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[cfg(feature = "sim")]
mod tests {
    use crate::disk::{BackendFile, Entry, Mode, Stat};
    use crate::sim::SimDisk;
    use crate::{Disk, write_atomic};

    use super::*;

    const FILE: &str = "/data/node/state/f";
    const DIR: &str = "/data/node/state";

    fn survives(sim: &SimDisk) -> bool {
        sim.power_cut().disk().exists(FILE)
    }

    /// A process that is killed after `operations` changes, and a second one that goes on where it was.
    fn killed_and_started_again(seed: u64, operations: usize) -> bool {
        let sim = SimDisk::new(seed);
        for dir in ["/data", "/data/node", DIR].iter().take(operations) {
            sim.disk().create_dir(dir).unwrap();
        }
        let disk = sim.disk();
        disk.create_dir_all(DIR).unwrap();
        write_atomic(&disk, FILE.as_ref(), b"acknowledged").unwrap();
        survives(&sim)
    }

    #[test]
    fn a_folder_that_a_killed_process_made_is_synced_by_the_next() {
        for operations in 0..=3 {
            for seed in 0..200 {
                assert!(killed_and_started_again(seed, operations), "{operations} folders were made, seed {seed}");
            }
        }
    }

    #[test]
    fn a_folder_is_synced_once_and_again_after_it_was_removed_or_moved() {
        for seed in 0..50 {
            let sim = SimDisk::new(seed);
            let disk = sim.disk();
            disk.create_dir_all(DIR).unwrap();
            let before = sim.operations();
            disk.create_dir_all(DIR).unwrap();
            disk.create_dir_all("/data/node").unwrap();
            assert_eq!(sim.operations(), before);
            if seed % 2 == 0 {
                disk.remove_dir(DIR).unwrap();
            } else {
                disk.rename("/data", "/old").unwrap();
            }
            disk.create_dir_all(DIR).unwrap();
            write_atomic(&disk, FILE.as_ref(), b"acknowledged").unwrap();
            assert!(survives(&sim), "seed {seed}");
        }
    }

    /// The root belongs to somebody else, who lets nobody list it.
    struct ClosedRoot(Disk);

    impl Backend for ClosedRoot {
        fn open(&self, _: &Path, _: Mode) -> io::Result<Box<dyn BackendFile>> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn create_dir(&self, path: &Path) -> io::Result<()> {
            self.0.create_dir(path)
        }

        fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn remove_file(&self, _: &Path) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn remove_dir(&self, _: &Path) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn read_dir(&self, _: &Path) -> io::Result<Vec<Entry>> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn stat(&self, path: &Path) -> io::Result<Stat> {
            self.0.stat(path)
        }

        fn sync_dir(&self, path: &Path, _: Site) -> io::Result<()> {
            match path.parent() {
                Some(_) => self.0.sync_dir(path),
                None => Err(io::ErrorKind::PermissionDenied.into()),
            }
        }
    }

    #[test]
    fn folders_of_others_need_not_be_synced_but_own_ones_must() {
        let sim = SimDisk::new(1);
        sim.disk().create_dir("/data").unwrap();
        let disk = Disk::new(ClosedRoot(sim.disk()));
        disk.create_dir_all(DIR).unwrap();
        let refused = disk.create_dir_all("/new").unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    }
}
