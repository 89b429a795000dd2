//! The files that hold the sets.

use std::io;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use skiff_api::id::{ReplicaKey, ServiceKey};
use skiff_api::wire::{Assignment, Fence, ServiceRoutes};
use skiff_disk::{Disk, write_atomic};

use super::set::Set;

/// Raised when an older Skiff would misread the files. Fields that it does not know it ignores anyway.
const VERSION: u32 = 1;

/// Ten thousand replicas take some 10 MiB; a larger file is no file of ours.
const BYTES_MAX: u64 = 256 << 20;

const DESIRED: &str = "desired.json";
const ROUTES: &str = "routes.json";

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("failed to read {} (hint: move it away; the control plane sends its content again)", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("failed to write {} (hint: is the disk full?)", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} was written by a newer Skiff, in version {version} (hint: update this node)", path.display())]
    Version { path: PathBuf, version: u32 },
}

/// The two files, in a folder of their own. All calls block.
#[derive(Debug, Clone)]
pub struct StateFiles {
    disk: Disk,
    dir: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored<T> {
    version: u32,
    fence: Fence,
    items: Vec<T>,
}

#[derive(Debug, Deserialize)]
struct StoredVersion {
    version: u32,
}

impl StateFiles {
    pub fn open(disk: Disk, dir: PathBuf) -> Result<Self, StateError> {
        // Also the names in it: a set that an earlier process was killed over is about to be acted on.
        let ready = disk.create_dir_all(&dir).and_then(|()| disk.sync_dir(&dir));
        ready.map_err(|source| StateError::Write { path: dir.clone(), source })?;
        Ok(Self { disk, dir })
    }

    /// The replicas that were desired last; none if there were never any.
    pub fn desired(&self) -> Result<Set<ReplicaKey, Assignment>, StateError> {
        self.read(DESIRED, |assignment: &Assignment| assignment.replica.clone())
    }

    pub fn routes(&self) -> Result<Set<ServiceKey, ServiceRoutes>, StateError> {
        self.read(ROUTES, |routes: &ServiceRoutes| routes.service.clone())
    }

    pub fn write_desired(&self, set: &Set<ReplicaKey, Assignment>) -> Result<(), StateError> {
        self.write(DESIRED, set)
    }

    pub fn write_routes(&self, set: &Set<ServiceKey, ServiceRoutes>) -> Result<(), StateError> {
        self.write(ROUTES, set)
    }

    fn read<K: Ord, V: DeserializeOwned>(&self, name: &str, key: impl Fn(&V) -> K) -> Result<Set<K, V>, StateError> {
        let path = self.dir.join(name);
        let failed = |source| StateError::Read { path: path.clone(), source };
        let text = match self.disk.read(&path, BYTES_MAX) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Ok(Set { fence: Fence::default(), items: std::collections::BTreeMap::new() });
            }
            text => text.map_err(failed)?,
        };
        let StoredVersion { version } = serde_json::from_slice(&text).map_err(|e| failed(e.into()))?;
        if version > VERSION {
            return Err(StateError::Version { path, version });
        }
        let stored: Stored<V> = serde_json::from_slice(&text).map_err(|e| failed(e.into()))?;
        let items = stored.items.into_iter().map(|item| (key(&item), item)).collect();
        Ok(Set { fence: stored.fence, items })
    }

    fn write<K, V: Serialize>(&self, name: &str, set: &Set<K, V>) -> Result<(), StateError> {
        let path = self.dir.join(name);
        let stored = Stored { version: VERSION, fence: set.fence, items: set.items.values().collect() };
        let written = serde_json::to_vec(&stored).map_err(io::Error::from);
        let written = written.and_then(|text| write_atomic(&self.disk, &path, &text));
        written.map_err(|source| StateError::Write { path, source })
    }
}

#[cfg(test)]
mod tests {
    use skiff_disk::sim::SimDisk;

    use super::*;

    fn routes(service: &str, counter: u64) -> Set<ServiceKey, ServiceRoutes> {
        let service = ServiceKey { namespace: "default".parse().unwrap(), name: service.parse().unwrap() };
        let callers = skiff_api::resource::Callers::default();
        let routes = ServiceRoutes { service: service.clone(), routes: Vec::new(), callers };
        Set { fence: Fence { epoch: 1, term: 1, counter }, items: [(service, routes)].into() }
    }

    fn store(sim: &SimDisk) -> Result<StateFiles, StateError> {
        StateFiles::open(sim.disk(), PathBuf::from("/data/state"))
    }

    #[test]
    fn a_power_cut_leaves_the_old_set_or_the_new_one() {
        for cut in 0.. {
            let sim = SimDisk::new(cut);
            sim.cut_after(cut);
            let mut acknowledged = Set::default();
            let mut finished = true;
            for counter in 1..=2 {
                let set = routes("cart", counter);
                match store(&sim).and_then(|files| files.write_routes(&set)) {
                    Ok(()) => acknowledged = set,
                    Err(_) => finished = false,
                }
            }
            let found = store(&sim.power_cut()).unwrap().routes().unwrap();
            assert!(found.fence >= acknowledged.fence, "cut {cut}: {found:?} after {acknowledged:?}");
            assert!(found == Set::default() || found == routes("cart", found.fence.counter), "cut {cut}: {found:?}");
            if finished {
                return;
            }
        }
    }

    /// Whether a process finds after a power cut what was there before: all that was written, or, with a kill after some
    /// operations, what a second process had found.
    fn keeps(sim: SimDisk, kill: Option<u64>) -> bool {
        kill.into_iter().for_each(|operations| sim.cut_after(operations));
        let written = store(&sim).and_then(|files| files.write_routes(&routes("cart", 1)));
        let (sim, known) = match kill {
            None => {
                written.unwrap();
                (sim, routes("cart", 1))
            }
            Some(_) => {
                let sim = sim.kill();
                let found = store(&sim).unwrap().routes().unwrap();
                (sim, found)
            }
        };
        let after = store(&sim.power_cut()).and_then(|files| files.routes());
        known.items.is_empty() || after.is_ok_and(|after| after == known)
    }

    #[test]
    fn what_a_killed_process_left_is_durable_before_it_is_acted_on() {
        let all = SimDisk::new(0);
        assert!(keeps(all.clone(), None));
        for kill in 0..=all.operations() {
            for seed in 0..50 {
                assert!(keeps(SimDisk::new(seed), Some(kill)), "killed after {kill} operations, seed {seed}");
            }
        }
    }

    #[test]
    fn each_sync_is_needed() {
        let all = SimDisk::new(0);
        assert!(keeps(all.clone(), None));
        let operations = all.operations();
        assert!(!all.sites().is_empty());
        for site in all.sites() {
            let lost = (0..200).any(|seed| {
                let sim = || {
                    let sim = SimDisk::new(seed);
                    sim.skip_site(site);
                    sim
                };
                !keeps(sim(), None) || !keeps(sim(), Some(seed % (operations + 1)))
            });
            assert!(lost, "nothing is lost without the sync at {site}");
        }
    }

    #[test]
    fn a_newer_file_is_not_misread() {
        let dir = tempfile::tempdir().unwrap();
        let files = StateFiles::open(Disk::real(), dir.path().to_owned()).unwrap();
        std::fs::write(dir.path().join(ROUTES), r#"{"version":2,"other":1}"#).unwrap();
        assert!(matches!(files.routes(), Err(StateError::Version { version: 2, .. })));
        std::fs::write(
            dir.path().join(ROUTES),
            r#"{"version":1,"fence":{"epoch":1,"term":1,"counter":1},"items":[],"x":1}"#,
        )
        .unwrap();
        assert!(files.routes().unwrap().items.is_empty());
        std::fs::write(dir.path().join(ROUTES), "{").unwrap();
        assert!(matches!(files.routes(), Err(StateError::Read { .. })));
    }
}
