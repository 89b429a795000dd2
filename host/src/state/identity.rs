//! Who the node is.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use skiff_api::id::Uid;
use skiff_disk::{Disk, write_atomic};

use super::file::StateError;

const NAME: &str = "node.json";
const VERSION: u32 = 1;
const BYTES_MAX: u64 = 64 << 10;

/// The node's id, which survives restarts, and the id of this run of its process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub uid: Uid,
    pub incarnation: Uid,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    version: u32,
    uid: Uid,
}

impl Identity {
    /// The id that the cluster gave; without one, that in the node's data folder, which is made if there is none. Blocks.
    pub fn open(disk: &Disk, data: &Path, uid: Option<Uid>) -> Result<Self, StateError> {
        let path = data.join(NAME);
        if let Some(uid) = uid {
            let incarnation = random().map_err(|source| StateError::Read { path, source })?;
            return Ok(Self { uid, incarnation });
        }
        let stored = match disk.read(&path, BYTES_MAX) {
            // Its name may not be durable: an earlier process may have been killed before it had synced it.
            Ok(text) => disk.sync_dir(data).and_then(|()| Ok(serde_json::from_slice::<Stored>(&text)?)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => random().and_then(|uid| {
                let stored = Stored { version: VERSION, uid };
                write_atomic(disk, &path, &serde_json::to_vec(&stored)?)?;
                Ok(stored)
            }),
            Err(e) => Err(e),
        };
        let identity = stored.and_then(|stored| Ok(Self { uid: stored.uid, incarnation: random()? }));
        identity.map_err(|source| StateError::Read { path, source })
    }
}

fn random() -> io::Result<Uid> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::from)?;
    Ok(Uid::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use skiff_disk::sim::SimDisk;

    use super::*;

    const DATA: &str = "/data";

    fn open(sim: &SimDisk) -> Option<Uid> {
        sim.disk().create_dir_all(DATA).ok()?;
        Identity::open(&sim.disk(), DATA.as_ref(), None).ok().map(|identity| identity.uid)
    }

    /// Whether every process has the same id: one that is killed, the next, and one after a power cut.
    fn stays(sim: SimDisk, kill: u64) -> bool {
        sim.cut_after(kill);
        let first = open(&sim);
        let sim = sim.kill();
        let second = open(&sim);
        let third = open(&sim.power_cut());
        third.is_some() && second == third && (first.is_none() || first == third)
    }

    #[test]
    fn the_id_survives_kills_and_power_cuts_and_needs_each_sync() {
        let all = SimDisk::new(0);
        assert_eq!(open(&all), open(&all));
        let runs = || (0..=all.operations()).flat_map(|kill| (0..40).map(move |seed| (kill, SimDisk::new(seed))));
        for (kill, sim) in runs() {
            assert!(stays(sim, kill), "killed after {kill} operations");
        }
        for site in all.sites() {
            let mut runs = runs();
            let lost = runs.any(|(kill, sim)| {
                sim.skip_site(site);
                !stays(sim, kill)
            });
            assert!(lost, "nothing is lost without the sync at {site}");
        }
    }

    #[test]
    fn the_id_stays_and_the_incarnation_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let [one, two] = [(); 2].map(|()| Identity::open(&Disk::real(), dir.path(), None).unwrap());
        assert_eq!(one.uid, two.uid);
        assert_ne!(one.incarnation, two.incarnation);
    }
}
