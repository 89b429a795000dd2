//! What a node knows of its cluster, on its disk.
//!
//! ```text
//! DATA/key        the node's key while it joins: an answer that was lost is asked for again with the same key
//! DATA/identity   the cluster's address, the node's name, key, certificates: written when it joins and when it renews
//! DATA/time       a time that has certainly come: a machine whose clock starts at 1970 goes on from there
//! ```
//! A token buys one membership, so it is on the disk before the node acts on it; a renewal replaces it as a whole. The
//! time is a guess that gets old without harm: it is written every few hours.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skiff_api::id::NodeName;
use skiff_disk::{Disk, read_kept, write_atomic};
use skiff_link::identity::{Identity, Key};

use super::address::Address;
use crate::state::StateError;

const VERSION: u32 = 1;
/// A key and a few certificates.
const BYTES_MAX: u64 = 256 << 10;

/// A node's place in a cluster.
#[derive(Debug, Clone)]
pub struct Member {
    /// Where the control plane was last.
    pub server: Address,
    pub name: NodeName,
    /// What the token says of all nodes that it admits.
    pub labels: BTreeMap<String, String>,
    pub identity: Identity,
    /// The cluster has removed this node: it has no place there any more.
    pub removed: bool,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    server: String,
    name: NodeName,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// PEM: key, chain, CA.
    identity: String,
    #[serde(default)]
    removed: bool,
}

#[derive(Serialize, Deserialize)]
struct Time {
    version: u32,
    time: Timestamp,
}

/// The files. All calls block; a clone is the same files.
#[derive(Debug, Clone)]
pub struct Membership {
    disk: Disk,
    folder: PathBuf,
}

impl Membership {
    /// In the node's data folder, which is made if it is missing.
    pub fn open(disk: Disk, folder: PathBuf) -> Result<Self, StateError> {
        let made = disk.create_dir_all(&folder);
        made.map_err(|source| StateError::Write { path: folder.clone(), source })?;
        Ok(Self { disk, folder })
    }

    /// `None`: the node has not joined yet.
    pub fn read(&self) -> Result<Option<Member>, StateError> {
        let path = self.folder.join("identity");
        let failed = |source| StateError::Read { path: path.clone(), source };
        let Some(stored) = self.stored::<Stored>(&path)? else { return Ok(None) };
        if stored.version > VERSION {
            return Err(StateError::Version { path, version: stored.version });
        }
        let server = stored.server.parse().map_err(|error| failed(io::Error::other(error)))?;
        let identity = Identity::from_pem(&stored.identity).map_err(|error| failed(io::Error::other(error)))?;
        let Stored { name, labels, removed, .. } = stored;
        Ok(Some(Member { server, name, labels, identity, removed }))
    }

    /// The key to join with: on the disk before anybody hears of it.
    pub fn key(&self) -> Result<Key, StateError> {
        let path = self.folder.join("key");
        let failed = |source| StateError::Read { path: path.clone(), source };
        if let Some(text) = read_kept(&self.disk, &path, BYTES_MAX).map_err(failed)? {
            return Key::from_pem(&String::from_utf8_lossy(&text)).map_err(|error| failed(io::Error::other(error)));
        }
        let key = Key::generate().map_err(|error| failed(io::Error::other(error)))?;
        let written = write_atomic(&self.disk, &path, key.to_pem().as_bytes());
        written.map_err(|source| StateError::Write { path, source })?;
        Ok(key)
    }

    /// The node has joined: its key is part of its identity now.
    pub fn forget_key(&self) {
        // Left behind it does no harm.
        let _ = self.disk.remove_file(self.folder.join("key"));
    }

    /// Durable when it returns.
    pub fn write(&self, member: &Member) -> Result<(), StateError> {
        let identity = member.identity.to_pem().map_err(|error| StateError::Write {
            path: self.folder.join("identity"),
            source: io::Error::other(error),
        })?;
        let stored = Stored {
            version: VERSION,
            server: member.server.to_string(),
            name: member.name.clone(),
            labels: member.labels.clone(),
            identity,
            removed: member.removed,
        };
        self.replace("identity", &stored)
    }

    /// A time that has come, as far as this node knows. One that cannot be read is none.
    pub fn time(&self) -> Timestamp {
        let stored = self.stored::<Time>(&self.folder.join("time"));
        stored.ok().flatten().map_or(Timestamp::UNIX_EPOCH, |stored| stored.time)
    }

    pub fn write_time(&self, time: Timestamp) -> Result<(), StateError> {
        self.replace("time", &Time { version: VERSION, time })
    }

    fn stored<T: for<'a> Deserialize<'a>>(&self, path: &Path) -> Result<Option<T>, StateError> {
        let failed = |source| StateError::Read { path: path.to_owned(), source };
        let Some(text) = read_kept(&self.disk, path, BYTES_MAX).map_err(failed)? else { return Ok(None) };
        serde_json::from_slice(&text).map(Some).map_err(|error| failed(error.into()))
    }

    fn replace(&self, name: &str, stored: &impl Serialize) -> Result<(), StateError> {
        let path = self.folder.join(name);
        let written = serde_json::to_vec(stored).map_err(io::Error::from);
        let written = written.and_then(|text| write_atomic(&self.disk, &path, &text));
        written.map_err(|source| StateError::Write { path, source })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use skiff_api::id::Uid;
    use skiff_disk::sim::{SimDisk, assert_made_once};
    use skiff_link::authority::Authority;

    use super::*;

    const FOLDER: &str = "/var/skiff/node";

    fn member(authority: &Authority, number: u32) -> Member {
        let (key, now) = (Key::generate().unwrap(), Timestamp::now());
        let uid = Uid::new(format!("{number:032x}"));
        let chain = authority.issue_node(&key.csr().unwrap(), &uid, now).unwrap();
        Member {
            server: "https://10.0.0.1:7070".parse().unwrap(),
            name: NodeName::new("edge"),
            labels: BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]),
            identity: Identity::new(&key, &chain, &authority.ca_pem()).unwrap(),
            removed: false,
        }
    }

    fn open(sim: &SimDisk) -> Option<Membership> {
        Membership::open(sim.disk(), FOLDER.into()).ok()
    }

    /// The membership that is on the disk, or the one that a token buys now.
    fn start(sim: &SimDisk, buys: &Member) -> Option<Uid> {
        let membership = open(sim)?;
        let uid = |member: &Member| member.identity.uid().cloned();
        match membership.read().ok()? {
            Some(member) => uid(&member),
            None => membership.write(buys).ok().and_then(|()| uid(buys)),
        }
    }

    #[test]
    fn a_membership_survives_kills_and_power_cuts_and_needs_each_sync() {
        let authority = Authority::generate(Timestamp::now()).unwrap();
        let tokens = [1, 2, 3].map(|number| member(&authority, number));
        assert_made_once(|sim, process| start(sim, &tokens[process]));
    }

    #[test]
    fn a_key_that_was_heard_of_survives_kills_and_power_cuts_and_needs_each_sync() {
        assert_made_once(|sim, _| Some(open(sim)?.key().ok()?.to_pem()));
    }

    #[test]
    fn a_renewal_cut_short_leaves_the_old_or_the_new() {
        let authority = Authority::generate(Timestamp::now()).unwrap();
        let [old, new] = [1, 2].map(|number| member(&authority, number));
        for kill in 0..20 {
            for seed in 0..20 {
                let sim = SimDisk::new(seed);
                open(&sim).unwrap().write(&old).unwrap();
                sim.cut_after(kill);
                let written = open(&sim).is_some_and(|membership| membership.write(&new).is_ok());
                let found = open(&sim.power_cut()).unwrap().read().unwrap().unwrap();
                let is_new = found.identity.uid() == new.identity.uid();
                assert!(is_new || !written, "what was acknowledged is lost: kill {kill}, seed {seed}");
                assert!(is_new || found.identity.uid() == old.identity.uid());
            }
        }
    }

    #[test]
    fn only_its_owner_reads_it_and_all_of_it_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let membership = Membership::open(Disk::real(), folder.path().join("node")).unwrap();
        assert!(membership.read().unwrap().is_none());
        assert_eq!(membership.time(), Timestamp::UNIX_EPOCH);
        let wrote = Member { removed: true, ..member(&Authority::generate(Timestamp::now()).unwrap(), 1) };
        membership.write(&wrote).unwrap();
        let path = folder.path().join("node/identity");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = membership.read().unwrap().unwrap();
        assert_eq!((&read.server, &read.name, &read.labels), (&wrote.server, &wrote.name, &wrote.labels));
        assert_eq!((read.identity.to_pem().unwrap(), read.removed), (wrote.identity.to_pem().unwrap(), true));
        assert!(!format!("{read:?}").contains("PRIVATE KEY"));
        let time: Timestamp = "2026-03-04T10:00:00Z".parse().unwrap();
        membership.write_time(time).unwrap();
        assert_eq!(membership.time(), time);
        std::fs::write(&path, r#"{"version":2,"server":"","name":"","identity":""}"#).unwrap();
        assert!(matches!(membership.read(), Err(StateError::Version { version: 2, .. })));
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(membership.read(), Err(StateError::Read { .. })));
    }
}
