//! What a container keeps: volumes of the engine, and files and folders of the machine.
//!
//! **Volumes** are named after node, service and volume, and labelled with all three. Replicas and revisions of a service share
//! them, one after another. The control plane says whose volumes a node has ([`Keep`]); those of other services go, as soon as no
//! container has them any more. What has not this node's label is never touched, and never used.
//!
//! **A restored control plane** may not know of services that were made after its backup. Volumes that an earlier epoch has made
//! go only if their service was known in this one; the others are somebody's data, and stay for a person to decide.
//!
//! **Paths of the machine** were granted as they are written. One that leads elsewhere by a symbolic link was not, and is
//! refused: before the container is made, and again once it has it, should somebody have been quick.

use std::collections::{BTreeSet, HashMap};
use std::io::ErrorKind;
use std::path::Path;

use bollard::models::{Mount, MountBindOptions, MountType, Volume as Found, VolumeCreateRequest};
use bollard::query_parameters::{ListVolumesOptionsBuilder, RemoveVolumeOptions};
use skiff_api::id::Uid;
use skiff_api::resource::Volume;
use skiff_api::wire::Assignment;
use skiff_registry::hash::sha256;

use super::engine::Engine;
use super::error::Error;
use super::shape::NODE;

const OWNER: &str = "skiff.owner";
const EPOCH: &str = "skiff.epoch";

/// Whose volumes stay.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Keep {
    /// The cluster's, as it was told last.
    pub(crate) epoch: u64,
    /// Services whose volumes are here; nothing before the control plane has said it.
    pub(crate) services: Option<BTreeSet<Uid>>,
    /// All that were among them in this epoch.
    pub(crate) known: BTreeSet<Uid>,
    /// Services of which something is to run here.
    pub(crate) wanted: BTreeSet<Uid>,
}

impl Keep {
    /// What the control plane has said.
    pub(crate) fn told(&mut self, epoch: u64, services: Option<BTreeSet<Uid>>) {
        if epoch != self.epoch {
            *self = Self { epoch, wanted: std::mem::take(&mut self.wanted), ..Self::default() };
        }
        if let Some(services) = services {
            self.known.extend(services.iter().cloned());
            self.services = Some(services);
        }
    }

    fn goes(&self, owner: &Uid, epoch: Option<u64>) -> Fate {
        let Some(services) = &self.services else { return Fate::Stays };
        match () {
            () if services.contains(owner) || self.wanted.contains(owner) => Fate::Stays,
            () if self.known.contains(owner) || epoch == Some(self.epoch) => Fate::Goes,
            () => Fate::Nobodys,
        }
    }
}

/// What becomes of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    Goes,
    /// Nobody knows its service: it is from before a restore.
    Nobodys,
}

/// What a volume is called: readable, and of this node's service alone.
fn name(node: &Uid, assignment: &Assignment, owner: &Uid, volume: &str) -> String {
    let own = sha256(format!("{}\0{}\0{volume}", node.as_str(), owner.as_str()).as_bytes());
    let readable = format!("{}-{}-{volume}", assignment.replica.namespace, assignment.service);
    let readable: String = readable.chars().take(100).collect();
    format!("skiff-{readable}-{}", own.hex().get(..12).unwrap_or_default())
}

/// What an engine is asked to give the container of a replica.
pub(super) fn mounts(node: &Uid, assignment: &Assignment) -> Vec<Mount> {
    let mount = |volume: &Volume| {
        let (source, typ) = match (&volume.name, &volume.host_path, &assignment.owner) {
            (Some(volume), _, Some(owner)) => (name(node, assignment, owner, volume.as_str()), MountType::VOLUME),
            (None, Some(path), _) => (path.to_string(), MountType::BIND),
            _ => return None,
        };
        // What is not there is not made: it would be root's, and empty.
        let bind = MountBindOptions { create_mountpoint: Some(false), ..MountBindOptions::default() };
        Some(Mount {
            target: Some(volume.path.to_string()),
            source: Some(source),
            bind_options: (typ == MountType::BIND).then_some(bind),
            typ: Some(typ),
            read_only: Some(volume.read_only),
            ..Mount::default()
        })
    };
    assignment.template.volumes.iter().filter_map(mount).collect()
}

/// Makes the volumes of a replica, where they are not there.
pub(super) async fn make(engine: &Engine, node: &Uid, assignment: &Assignment, epoch: u64) -> Result<(), Error> {
    let named = assignment.template.volumes.iter().filter_map(|volume| volume.name.as_ref());
    for volume in named {
        let owner = assignment.owner.as_ref().ok_or(Error::NoOwner)?;
        let name = name(node, assignment, owner, volume.as_str());
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let labels = HashMap::from([
            label(NODE, node.as_str()),
            label(OWNER, owner.as_str()),
            label(EPOCH, &epoch.to_string()),
            label("skiff.namespace", assignment.replica.namespace.as_str()),
            label("skiff.service", assignment.service.as_str()),
            label("skiff.volume", volume.as_str()),
        ]);
        let request = VolumeCreateRequest { name: Some(name), labels: Some(labels), ..VolumeCreateRequest::default() };
        // One that is there is what an engine answers.
        let there = engine.ask("create a volume", async |docker| docker.create_volume(request).await).await?;
        if owner_of(&there, node) != Some(owner.clone()) {
            return Err(Error::ForeignVolume { name: there.name });
        }
    }
    Ok(())
}

fn owner_of(found: &Found, node: &Uid) -> Option<Uid> {
    let is_ours = found.labels.get(NODE).is_some_and(|of| of == node.as_str());
    found.labels.get(OWNER).filter(|_| is_ours).map(Uid::new)
}

/// Removes what nobody wants any more. Answers whether that is done: a container may have one yet.
pub(super) async fn sweep(engine: &Engine, node: &Uid, keep: impl Fn() -> Keep) -> Result<bool, Error> {
    let label = format!("{NODE}={}", node.as_str());
    let filters = HashMap::from([("label", vec![label.as_str()])]);
    let options = ListVolumesOptionsBuilder::default().filters(&filters).build();
    let found = engine.ask("list volumes", async |docker| docker.list_volumes(Some(options)).await).await?;
    let mut is_done = true;
    for found in found.volumes.unwrap_or_default() {
        let Some(owner) = owner_of(&found, node) else { continue };
        let epoch = found.labels.get(EPOCH).and_then(|epoch| epoch.parse().ok());
        let name = found.name;
        // As it is now: somebody may have begun to want it.
        match keep().goes(&owner, epoch) {
            Fate::Stays => continue,
            Fate::Nobodys => {
                tracing::warn!(name, "keeps a volume of a service that the cluster's backup did not have");
                continue;
            }
            Fate::Goes => {}
        }
        let options = RemoveVolumeOptions::default();
        let remove = async |docker: bollard::Docker| docker.remove_volume(&name, Some(options)).await;
        match engine.ask("remove a volume", remove).await {
            Ok(()) => tracing::info!(name, "removed a volume, with its service"),
            Err(error) if error.is_not_found() => {}
            Err(Error::Refused { status: 409, .. }) => is_done = false,
            Err(error) => return Err(error),
        }
    }
    Ok(is_done)
}

/// Whether the paths of the machine are there, and lead where they say. Blocks.
pub(super) fn look(assignment: &Assignment) -> Result<(), Error> {
    let mut paths = assignment.template.volumes.iter().filter_map(|volume| volume.host_path.as_ref());
    paths.try_for_each(|path| look_at(path.as_str()))
}

fn look_at(path: &str) -> Result<(), Error> {
    let fail = |why: String| Err(Error::HostPath { path: path.to_owned(), why });
    match std::fs::canonicalize(path) {
        Ok(real) if real != Path::new(path) => {
            let real = real.display();
            fail(format!("leads to {real} by a symbolic link (hint: write that, and have it granted)"))
        }
        Ok(real) => match std::fs::metadata(&real) {
            Ok(what) if what.is_dir() || what.is_file() => Ok(()),
            Ok(_) => fail("is neither a file nor a folder".to_owned()),
            Err(error) => fail(format!("cannot be looked at: {error}")),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => fail("is not there (hint: make it)".to_owned()),
        Err(error) => fail(format!("cannot be looked at: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uids(names: &[&str]) -> BTreeSet<Uid> {
        names.iter().map(|name| Uid::new(*name)).collect()
    }

    #[test]
    fn what_goes_is_what_this_epoch_knew() {
        let mut keep = Keep::default();
        keep.told(1, None);
        let fate = |keep: &Keep, owner: &str, epoch| keep.goes(&Uid::new(owner), epoch);
        assert_eq!(fate(&keep, "a", Some(1)), Fate::Stays, "nobody has said anything yet");
        keep.told(1, Some(uids(&["a"])));
        assert_eq!(fate(&keep, "a", Some(1)), Fate::Stays);
        assert_eq!(fate(&keep, "b", Some(1)), Fate::Goes);
        keep.wanted = uids(&["b"]);
        assert_eq!(fate(&keep, "b", Some(1)), Fate::Stays, "it is told to run here");
        keep.wanted.clear();

        keep.told(2, Some(uids(&["c"])));
        assert_eq!(fate(&keep, "b", Some(1)), Fate::Nobodys, "it may be from after the backup");
        assert_eq!(fate(&keep, "b", None), Fate::Nobodys);
        assert_eq!(fate(&keep, "b", Some(2)), Fate::Goes);
        keep.told(2, Some(uids(&[])));
        assert_eq!(fate(&keep, "c", Some(1)), Fate::Goes, "the restored cluster had it, and has it no more");
        keep.told(2, None);
        assert_eq!(fate(&keep, "c", Some(1)), Fate::Goes);
    }

    #[test]
    fn a_path_leads_where_it_says() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let text = |name: &str| root.join(name).display().to_string();
        let why = |name: &str| look_at(&text(name)).map_err(|error| error.to_string());
        std::fs::create_dir_all(root.join("data/inner")).unwrap();
        std::fs::write(root.join("file"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", root.join("out")).unwrap();
        std::os::unix::fs::symlink("data", root.join("alias")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
        assert_eq!(why("data/inner"), Ok(()));
        assert_eq!(why("file"), Ok(()));
        assert!(why("none").unwrap_err().contains("is not there"));
        assert!(why("out").unwrap_err().contains("leads to /etc"));
        assert!(why("alias/inner").unwrap_err().contains("symbolic link"));
        assert!(why("socket").unwrap_err().contains("neither a file nor a folder"));
    }
}
