//! The files that hold the sets.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use skiff_api::id::{ReplicaKey, ServiceKey, Uid};
use skiff_api::resource::SecretText;
use skiff_api::settings::Settings;
use skiff_api::wire::{Assignment, ServiceRoutes};
use skiff_disk::{Disk, Place, SealKey, write_atomic};

use super::kept::{Kept, Veil};

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

/// Both sets on disk, in a folder of their own. All calls block; clones are the same files.
#[derive(Debug, Clone)]
pub struct StateFiles {
    /// The replicas that were desired last.
    pub desired: Kept<ReplicaKey, Assignment>,
    pub routes: Kept<ServiceKey, ServiceRoutes>,
    disk: Disk,
    removed: PathBuf,
}

const VERSION: u32 = 1;
/// What secrets are sealed with: the key of this node alone.
const KEY: &str = "seal.key";
/// More than any cluster removes nodes.
const REMOVED_BYTES_MAX: u64 = 64 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Removed {
    version: u32,
    nodes: Vec<Uid>,
}

impl StateFiles {
    pub fn open(disk: Disk, dir: PathBuf) -> Result<Self, StateError> {
        disk.create_dir_all(&dir).map_err(|source| StateError::Write { path: dir.clone(), source })?;
        // It makes all names in the folder durable: a set that an earlier process was killed over is about to be acted on.
        let path = dir.join(KEY);
        let key = SealKey::open(&disk, &path).map_err(|source| StateError::Read { path, source })?;
        let desired =
            Kept::new(&disk, &dir, "desired", |assignment: &Assignment| assignment.replica.clone(), veil(key));
        let routes = Kept::new(&disk, &dir, "routes", |routes: &ServiceRoutes| routes.service.clone(), Veil::none());
        Ok(Self { desired, routes, disk, removed: dir.join("removed.json") })
    }

    /// Nodes that were removed from the cluster.
    pub fn read_removed(&self) -> Result<Vec<Uid>, StateError> {
        let read = match self.disk.read(&self.removed, REMOVED_BYTES_MAX) {
            Ok(text) => serde_json::from_slice::<Removed>(&text).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => Err(error),
        };
        let Removed { version, nodes } =
            read.map_err(|source| StateError::Read { path: self.removed.clone(), source })?;
        match version {
            VERSION => Ok(nodes),
            version => Err(StateError::Version { path: self.removed.clone(), version }),
        }
    }

    pub fn write_removed(&self, nodes: &[Uid]) -> Result<(), StateError> {
        let text = serde_json::to_vec(&Removed { version: VERSION, nodes: nodes.to_vec() }).map_err(io::Error::from);
        let written = text.and_then(|text| write_atomic(&self.disk, &self.removed, &text));
        written.map_err(|source| StateError::Write { path: self.removed.clone(), source })
    }
}

/// Assignments with their secrets sealed. What does not open is missing, until the control plane sends it again.
fn veil(key: SealKey) -> Veil<Assignment> {
    let of_show = key.clone();
    Veil {
        hide: Box::new(move |assignment| {
            let settings = assignment.settings.as_ref().filter(|settings| !settings.secrets.is_empty())?;
            let mut sealed = Settings::clone(settings);
            for (name, value) in &mut sealed.secrets {
                *value = SecretText::new(key.seal(&place(assignment, name), value.reveal()));
            }
            Some(Assignment { settings: Some(Arc::new(sealed)), ..assignment.clone() })
        }),
        show: Box::new(move |mut assignment| {
            let Some(sealed) = assignment.settings.as_ref().filter(|settings| !settings.secrets.is_empty()) else {
                return assignment;
            };
            let mut settings = Settings::clone(sealed);
            let mut lost = BTreeSet::new();
            for (name, value) in &mut settings.secrets {
                match of_show.unseal(&place(&assignment, name), value.reveal()) {
                    Ok(opened) => *value = SecretText::new(opened),
                    Err(error) => {
                        tracing::warn!(%error, replica = %assignment.replica.name, name, "a secret that was kept does not open");
                        lost.insert(name.clone());
                    }
                }
            }
            settings.secrets.retain(|name, _| !lost.contains(name));
            settings.missing.extend(lost.into_iter().map(|name| format!("secret value {name}")));
            assignment.settings = Some(Arc::new(settings));
            assignment
        }),
    }
}

fn place<'a>(assignment: &'a Assignment, name: &'a str) -> Place<'a> {
    [assignment.uid.as_str(), assignment.replica.name.as_str(), name]
}

#[cfg(test)]
mod tests {
    use skiff_disk::sim::SimDisk;

    use super::*;
    use crate::state::Set;
    use crate::state::kept::{Appended, Change};
    use skiff_api::wire::Fence;

    fn routes(service: &str, counter: u64) -> Set<ServiceKey, ServiceRoutes> {
        let service = ServiceKey { namespace: "default".parse().unwrap(), name: service.parse().unwrap() };
        let callers = skiff_api::resource::Callers::default();
        let routes = ServiceRoutes { service: service.clone(), routes: Vec::new(), callers, endpoints: Vec::new() };
        Set { fence: Fence { epoch: 1, term: 1, counter }, items: [(service, routes)].into() }
    }

    fn store(sim: &SimDisk) -> Result<StateFiles, StateError> {
        StateFiles::open(sim.disk(), PathBuf::from("/data/state"))
    }

    fn change(service: &str, counter: u64) -> Change<ServiceKey, ServiceRoutes> {
        let Set { fence, items } = routes(service, counter);
        let after = Fence { counter: counter - 1, ..fence };
        Change { fence, after, upsert: items.into_values().collect(), remove: Vec::new() }
    }

    /// What a node does: changes go to the journal, unless the whole is wanted.
    fn save(files: &StateFiles, set: &Set<ServiceKey, ServiceRoutes>) -> Result<(), StateError> {
        let change = Change {
            fence: set.fence,
            after: Fence { counter: set.fence.counter - 1, ..set.fence },
            upsert: set.items.values().cloned().collect(),
            remove: Vec::new(),
        };
        match files.routes.append(&[change])? {
            Appended::Durable => Ok(()),
            Appended::WholeWanted => files.routes.write(set),
        }
    }

    /// One after the other, from an empty folder: the whole, and then so many changes.
    fn save_all(files: &StateFiles, changes: u64) -> Result<(), StateError> {
        files.routes.read()?;
        files.routes.write(&routes("cart", 1))?;
        (2..2 + changes).try_for_each(|counter| save(files, &routes("cart", counter)))
    }

    #[test]
    fn a_power_cut_leaves_the_old_set_or_the_new_one() {
        for cut in 0.. {
            let sim = SimDisk::new(cut);
            sim.cut_after(cut);
            let mut acknowledged = Set::default();
            let mut finished = true;
            // Every third is of the whole, after which the journal is emptied.
            for counter in 1..=6 {
                let set = routes("cart", counter);
                let saved = store(&sim).and_then(|files| {
                    files.routes.read()?;
                    if counter % 3 == 1 { files.routes.write(&set) } else { save(&files, &set) }
                });
                match saved {
                    Ok(()) => acknowledged = set,
                    Err(_) => finished = false,
                }
            }
            let found = store(&sim.power_cut()).unwrap().routes.read().unwrap();
            assert!(found.fence >= acknowledged.fence, "cut {cut}: {found:?} after {acknowledged:?}");
            assert!(found == Set::default() || found == routes("cart", found.fence.counter), "cut {cut}: {found:?}");
            if finished {
                return;
            }
        }
    }

    /// Whether a process finds after a power cut what was there before: all that was written, or, with a kill after some
    /// operations, what a second process had found.
    fn keeps(sim: SimDisk, changes: u64, kill: Option<u64>) -> bool {
        kill.into_iter().for_each(|operations| sim.cut_after(operations));
        let written = store(&sim).and_then(|files| save_all(&files, changes));
        let (sim, known) = match kill {
            None => {
                written.unwrap();
                (sim, routes("cart", 1 + changes))
            }
            Some(_) => {
                let sim = sim.kill();
                let found = store(&sim).unwrap().routes.read().unwrap();
                (sim, found)
            }
        };
        let after = store(&sim.power_cut()).and_then(|files| files.routes.read());
        known.items.is_empty() || after.is_ok_and(|after| after == known)
    }

    /// The whole and nothing else, and the whole with changes: the last write is one of either kind.
    const HISTORIES: [u64; 2] = [0, 2];

    #[test]
    fn what_a_killed_process_left_is_durable_before_it_is_acted_on() {
        for changes in HISTORIES {
            let all = SimDisk::new(0);
            assert!(keeps(all.clone(), changes, None));
            for kill in 0..=all.operations() {
                for seed in 0..50 {
                    let kept = keeps(SimDisk::new(seed), changes, Some(kill));
                    assert!(kept, "{changes} changes, killed after {kill} operations, seed {seed}");
                }
            }
        }
    }

    #[test]
    fn each_sync_is_needed() {
        let all = HISTORIES.map(|changes| {
            let sim = SimDisk::new(0);
            assert!(keeps(sim.clone(), changes, None));
            sim
        });
        let operations = all.iter().map(SimDisk::operations).max().unwrap();
        let sites: BTreeSet<_> = all.iter().flat_map(SimDisk::sites).collect();
        assert!(!sites.is_empty());
        for site in sites {
            let lost = (0..400).any(|seed| {
                let sim = || {
                    let sim = SimDisk::new(seed);
                    sim.skip_site(site);
                    sim
                };
                let kept = |changes: &u64| {
                    keeps(sim(), *changes, None) && keeps(sim(), *changes, Some(seed % (operations + 1)))
                };
                !HISTORIES.iter().all(kept)
            });
            assert!(lost, "nothing is lost without the sync at {site}");
        }
    }

    #[test]
    fn a_newer_file_is_not_misread() {
        let dir = tempfile::tempdir().unwrap();
        let files = StateFiles::open(Disk::real(), dir.path().to_owned()).unwrap();
        std::fs::write(dir.path().join("routes.json"), r#"{"version":2,"other":1}"#).unwrap();
        assert!(matches!(files.routes.read(), Err(StateError::Version { version: 2, .. })));
        std::fs::write(
            dir.path().join("routes.json"),
            r#"{"version":1,"fence":{"epoch":1,"term":1,"counter":1},"items":[],"x":1}"#,
        )
        .unwrap();
        assert!(files.routes.read().unwrap().items.is_empty());
        std::fs::write(dir.path().join("routes.json"), "{").unwrap();
        assert!(matches!(files.routes.read(), Err(StateError::Read { .. })));
    }

    #[test]
    fn a_change_writes_itself_and_not_the_set() {
        let dir = tempfile::tempdir().unwrap();
        let open = || StateFiles::open(Disk::real(), dir.path().to_owned()).unwrap().routes;
        let bytes = |name: &str| std::fs::metadata(dir.path().join(name)).map_or(0, |meta| meta.len());
        let kept = open();
        let mut set = kept.read().unwrap();
        set.fence = Fence { epoch: 1, term: 1, counter: 1 };
        for number in 0..5000 {
            set.items.extend(routes(&format!("s{number}"), 1).items);
        }
        kept.write(&set).unwrap();
        let whole = bytes("routes.json");
        let mut counter = 1;
        while bytes("routes.journal") <= whole {
            counter += 1;
            let next = Change { remove: vec![], ..change("cart", counter) };
            assert_eq!(kept.append(&[next]).unwrap(), Appended::Durable);
            assert!(bytes("routes.journal") < counter * 1000, "a line is as long as its change");
        }
        let found = open().read().unwrap();
        assert_eq!((found.items.len(), found.fence.counter), (5001, counter));
        // As long as the whole: now it is the whole's turn, and the journal is empty again.
        assert_eq!(kept.append(&[change("cart", counter + 1)]).unwrap(), Appended::WholeWanted);
        let kept = open();
        let set = kept.read().unwrap();
        assert_eq!(kept.append(&[change("cart", counter + 1)]).unwrap(), Appended::WholeWanted);
        kept.write(&set).unwrap();
        assert_eq!(bytes("routes.journal"), 0);
        assert_eq!(kept.append(&[change("cart", counter + 1)]).unwrap(), Appended::Durable);
        assert_eq!(open().read().unwrap().fence.counter, counter + 1);
    }

    #[test]
    fn what_is_removed_stays_removed() {
        let dir = tempfile::tempdir().unwrap();
        let kept = StateFiles::open(Disk::real(), dir.path().to_owned()).unwrap().routes;
        kept.write(&routes("cart", 1)).unwrap();
        let removed: Vec<ServiceKey> = routes("cart", 1).items.into_keys().collect();
        let change = Change { upsert: Vec::new(), remove: removed, ..change("cart", 2) };
        assert_eq!(kept.append(&[change]).unwrap(), Appended::Durable);
        let found = kept.read().unwrap();
        assert!(found.items.is_empty() && found.fence.counter == 2, "{found:?}");
    }

    #[test]
    fn a_torn_or_foreign_line_ends_the_journal_and_is_overwritten_by_the_whole() {
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("routes.journal");
        for tear in ["0123456789abcdef {\"version\":1}\n", "half a li", "\0\0\0\0\n"] {
            let open = || StateFiles::open(Disk::real(), dir.path().to_owned()).unwrap().routes;
            let kept = open();
            kept.write(&routes("cart", 1)).unwrap();
            assert_eq!(kept.append(&[change("shop", 2)]).unwrap(), Appended::Durable);
            let sound = std::fs::read(&journal).unwrap();
            std::fs::write(&journal, [&sound, tear.as_bytes()].concat()).unwrap();
            let kept = open();
            let set = kept.read().unwrap();
            assert_eq!((set.items.len(), set.fence.counter), (2, 2), "{tear:?}");
            assert_eq!(kept.append(&[change("wiki", 3)]).unwrap(), Appended::WholeWanted);
            kept.write(&set).unwrap();
            assert_eq!(kept.append(&[change("wiki", 3)]).unwrap(), Appended::Durable);
            assert_eq!(open().read().unwrap().items.len(), 3);
        }
    }

    #[test]
    fn a_full_disk_loses_no_change() {
        let sim = SimDisk::new(0);
        let files = store(&sim).unwrap();
        files.routes.write(&routes("cart", 1)).unwrap();
        save(&files, &routes("cart", 2)).unwrap();
        // Growing needs room in blocks, of which one is begun: so some changes fit.
        sim.fail_with_full_after(0);
        let failed = (3..100).find(|counter| save(&files, &routes("cart", *counter)).is_err()).unwrap();
        assert!(save(&files, &routes("cart", failed)).is_err(), "the journal is not relied on");
        sim.make_room();
        save(&files, &routes("cart", failed)).unwrap();
        assert_eq!(store(&sim.power_cut()).unwrap().routes.read().unwrap(), routes("cart", failed));
    }

    #[test]
    fn secrets_are_sealed_on_disk_and_missing_once_their_key_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let open = || StateFiles::open(Disk::real(), dir.path().to_owned()).unwrap().desired;
        let secrets = [("KEY".to_owned(), SecretText::new("hunter2"))].into();
        let config = [("REGION".to_owned(), "eu".to_owned())].into();
        let settings = Settings { secrets, config, ..Settings::default() };
        let replica = ReplicaKey { namespace: "shop".parse().unwrap(), name: skiff_api::ReplicaName::new("cart-1-a") };
        let assignment = Assignment {
            replica: replica.clone(),
            uid: Uid::new("1"),
            service: "cart".parse().unwrap(),
            revision: skiff_api::RevisionName::new("cart-1"),
            template: Arc::new(skiff_api::resource::ServiceSpec::new("cart:1".parse().unwrap()).template()),
            trust: None,
            settings: Some(Arc::new(settings)),
            task: None,
            stop: false,
            owner: None,
        };
        let fence = |counter| Fence { epoch: 1, term: 1, counter };
        let set = Set { fence: fence(1), items: [(replica.clone(), assignment.clone())].into() };
        let kept = open();
        kept.write(&set).unwrap();
        let change = Change { fence: fence(2), after: fence(1), upsert: vec![assignment.clone()], remove: Vec::new() };
        assert_eq!(kept.append(&[change]).unwrap(), Appended::Durable);
        for name in ["desired.json", "desired.journal"] {
            let text = std::fs::read_to_string(dir.path().join(name)).unwrap();
            assert!(text.contains("sealed:1:") && !text.contains("hunter2"), "{name}: {text}");
        }
        assert_eq!(open().read().unwrap().items[&replica], assignment);
        std::fs::remove_file(dir.path().join(KEY)).unwrap();
        let lost = open().read().unwrap().items[&replica].settings.clone().unwrap();
        assert_eq!((lost.get("KEY"), lost.get("REGION")), (None, Some("eu")));
        assert_eq!(lost.missing, ["secret value KEY"]);
    }
}
