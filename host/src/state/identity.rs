//! Who the node is.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use skiff_api::id::Uid;
use skiff_disk::{Disk, read_kept, write_atomic};

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
        let stored = read_kept(disk, &path, BYTES_MAX).and_then(|kept| match kept {
            Some(text) => Ok(serde_json::from_slice::<Stored>(&text)?),
            None => {
                let stored = Stored { version: VERSION, uid: random()? };
                write_atomic(disk, &path, &serde_json::to_vec(&stored)?)?;
                Ok(stored)
            }
        });
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
    use skiff_disk::sim::{SimDisk, assert_made_once};

    use super::*;

    const DATA: &str = "/data";

    fn open(sim: &SimDisk) -> Option<Uid> {
        sim.disk().create_dir_all(DATA).ok()?;
        Identity::open(&sim.disk(), DATA.as_ref(), None).ok().map(|identity| identity.uid)
    }

    #[test]
    fn the_id_survives_kills_and_power_cuts_and_needs_each_sync() {
        assert_made_once(|sim, _| open(sim));
    }

    #[test]
    fn the_id_stays_and_the_incarnation_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let [one, two] = [(); 2].map(|()| Identity::open(&Disk::real(), dir.path(), None).unwrap());
        assert_eq!(one.uid, two.uid);
        assert_ne!(one.incarnation, two.incarnation);
    }
}
