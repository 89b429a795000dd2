//! Kills and power cuts at every point: what was acknowledged is there, and nothing damaged is ever served.
//!
//! A run is drawn from a seed: a process works until it is killed somewhere (its disk calls fail, nothing is lost), a
//! second one goes on from there, as a client that tries again would, until the power goes. Then a third checks. It does
//! so for many seeds; and again with each sync taken out, where some seed must show a loss, or the sync is superfluous.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skiff_api::Digest;
use skiff_disk::sim::SimDisk;
use skiff_disk::{Backend, BackendFile, Disk, Entry, File, Mode, Stat};
use skiff_registry::Registry;
use skiff_registry::hash::sha256;
use skiff_registry::manifest::{Manifest, media};
use skiff_registry::store::{Error, Limits, PutManifest, UploadId};

use crate::support::manifest_of;

type Site = &'static Location<'static>;

const DIR: &str = "data/registry";
const SEEDS: u64 = 400;
/// Some syncs matter in few moments only: between two operations of the first process.
const SEEDS_TO_FIND_A_LOSS: u64 = 20_000;

#[test]
fn what_was_acknowledged_survives() {
    for seed in 0..SEEDS {
        run(seed, None).unwrap_or_else(|lost| panic!("seed {seed}: {lost}"));
    }
}

#[test]
fn every_sync_is_necessary() {
    let mut sites: BTreeSet<Site> = BTreeSet::new();
    for seed in 0..SEEDS {
        sites.extend(run(seed, None).unwrap());
    }
    assert!(sites.len() >= 10, "{sites:?}");
    let harmless: Vec<&Site> =
        sites.iter().filter(|site| (0..SEEDS_TO_FIND_A_LOSS).all(|seed| run(seed, Some(site)).is_ok())).collect();
    assert!(harmless.is_empty(), "nothing is lost without the syncs at {harmless:?}");
}

/// One run. Returns the places that synced, or what was lost.
fn run(seed: u64, skipped: Option<Site>) -> Result<BTreeSet<Site>, String> {
    let mut luck = Luck(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let sim = SimDisk::new(seed);
    // The registry's own folder may be new; the one it is in is the operator's.
    sim.disk().create_dir_all("data").map_err(|e| e.to_string())?;
    let mut model = Model::default();
    let wires = Wires::default();
    wires.0.lock().unwrap().skipped = skipped;
    // Half of the runs begin with a kill in the middle of something.
    if luck.below(2) == 0 {
        wires.0.lock().unwrap().left = Some(luck.below(120));
        drop(work(&wires.disk(&sim), &mut luck, &mut model));
        wires.0.lock().unwrap().left = None;
    }
    sim.cut_after(luck.below(160));
    drop(work(&wires.disk(&sim), &mut luck, &mut model));
    let sim = sim.power_cut();
    let registry = open(sim.disk()).map_err(|e| format!("open: {e}: {:?}", std::error::Error::source(&e)))?;
    model.check(&registry)?;
    model.finish_uploads(&registry)?;
    drop(registry);
    // Uploads that nobody goes on with are given up, and nothing but what is needed is left.
    let idle = Limits { upload_idle: Duration::ZERO, ..impatient() };
    let registry = Registry::open_with(sim.disk(), DIR, idle).map_err(|e| e.to_string())?;
    for _ in 0..3 {
        model.collect(&registry).map_err(|e| format!("collect: {e}: {:?}", std::error::Error::source(&e)))?;
    }
    model.check(&registry)?;
    match left_overs(&sim.disk(), DIR.as_ref()).map_err(|e| e.to_string())?.as_slice() {
        [] => {}
        left => return Err(format!("left behind: {left:?}")),
    }
    // What was cut off can be done again.
    let digest = push_blob(&registry, REPOSITORIES[0], b"after").map_err(|e| e.to_string())?;
    read_blob(&registry, REPOSITORIES[0], &digest)?.ok_or("a new blob is not there")?;
    let sites = wires.0.lock().unwrap().sites.clone();
    Ok(sites)
}

/// A registry that collects at once what nothing refers to.
fn open(disk: Disk) -> Result<Registry, Error> {
    Registry::open_with(disk, DIR, impatient())
}

fn impatient() -> Limits {
    Limits { grace: Duration::ZERO, untagged: Duration::ZERO, ..Limits::default() }
}

/// Files that are not whole, and would add up.
fn left_overs(disk: &Disk, dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut left = Vec::new();
    for entry in disk.read_dir(dir)? {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            left.extend(left_overs(disk, &path)?);
        } else if entry.name.ends_with(".tmp") && entry.name != "version.tmp" || dir.ends_with("uploads") {
            left.push(path);
        }
    }
    Ok(left)
}

const REPOSITORIES: [&str; 2] = ["a", "b/c"];
const TAGS: [&str; 2] = ["v1", "v2"];

fn content(n: u64) -> Vec<u8> {
    // More than one sector, so that a cut can tear it.
    format!("blob {n} ").into_bytes().repeat(90)
}

fn work(disk: &Disk, luck: &mut Luck, model: &mut Model) -> Result<(), Error> {
    let registry = open(disk.clone())?;
    for _ in 0..12 {
        let repository = *luck.pick(&REPOSITORIES);
        let tag = *luck.pick(&TAGS);
        match luck.below(10) {
            8 => model.collect(&registry)?,
            9 => model.go_on_with_an_upload(&registry, luck, repository)?,
            0 | 1 => {
                let n = luck.below(3);
                model.push_blob(&registry, repository, &content(n))?;
            }
            2..=5 => {
                let (config, layer) = (content(luck.below(3)), content(luck.below(3)));
                // A client asks first what is there.
                for blob in [&config, &layer] {
                    if registry.blob(repository, &sha256(blob))?.is_none() {
                        model.push_blob(&registry, repository, blob)?;
                    }
                }
                let subject = match luck.below(2) {
                    0 => Some(sha256(b"subject")),
                    _ => None,
                };
                let tag = Some(tag).filter(|_| luck.below(3) > 0);
                model.put_manifest(&registry, repository, tag, (&sha256(&config), &sha256(&layer)), subject)?;
            }
            6 => {
                if let Some(digest) = registry.resolve(repository, tag)? {
                    model.delete_manifest(&registry, repository, &digest)?;
                }
            }
            _ if luck.below(2) == 0 => model.delete_tag(&registry, repository, tag)?,
            _ => {
                let n = luck.below(3);
                model.delete_blob(&registry, repository, &sha256(&content(n)))?;
            }
        }
    }
    Ok(())
}

fn push_blob(registry: &Registry, repository: &str, bytes: &[u8]) -> Result<Digest, Error> {
    let id = registry.start_upload(repository)?;
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let at = registry.append_upload(repository, &id, 0, first)?;
    registry.append_upload(repository, &id, at, second)?;
    let digest = sha256(bytes);
    registry.finish_upload(repository, &id, &digest)?;
    Ok(digest)
}

fn read_all(file: &File, bytes: u64) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; bytes as usize];
    let read = file.read_at(&mut buffer, 0)?;
    buffer.truncate(read);
    Ok(buffer)
}

/// A blob, if it is there; an error if it is damaged.
fn read_blob(registry: &Registry, repository: &str, digest: &Digest) -> Result<Option<Vec<u8>>, String> {
    let Some(blob) = registry.blob(repository, digest).map_err(|e| e.to_string())? else { return Ok(None) };
    let bytes = read_all(&blob.file, blob.bytes).map_err(|e| e.to_string())?;
    match sha256(&bytes) == *digest {
        true => Ok(Some(bytes)),
        false => Err(format!("blob {digest} of {repository} is damaged")),
    }
}

/// Whether it may be found, its bytes, its subject.
type PossibleManifest = (BTreeSet<bool>, Vec<u8>, Option<Digest>);

/// What may be found: for each name the values that are possible, more than one while an answer is missing.
#[derive(Default)]
struct Model {
    /// Uploads that were started and not finished, with what they are of.
    uploads: Vec<(String, UploadId, Vec<u8>)>,
    blobs: BTreeMap<(String, Digest), BTreeSet<bool>>,
    manifests: BTreeMap<(String, Digest), PossibleManifest>,
    tags: BTreeMap<(String, String), BTreeSet<Option<Digest>>>,
}

impl Model {
    fn push_blob(&mut self, registry: &Registry, repository: &str, bytes: &[u8]) -> Result<(), Error> {
        let key = (repository.to_owned(), sha256(bytes));
        self.blobs.entry(key.clone()).or_insert_with(|| [false].into()).insert(true);
        push_blob(registry, repository, bytes)?;
        self.blobs.insert(key, [true].into());
        Ok(())
    }

    /// Starts an upload, or sends some more of one, which may be of an earlier process.
    fn go_on_with_an_upload(&mut self, registry: &Registry, luck: &mut Luck, repository: &str) -> Result<(), Error> {
        if self.uploads.len() < 2 {
            let id = registry.start_upload(repository)?;
            self.uploads.push((repository.to_owned(), id, content(3 + luck.below(2))));
        }
        let (repository, id, bytes) = luck.pick(&self.uploads);
        match registry.upload_bytes(repository, id) {
            Ok(at) => {
                let from = at as usize;
                let part = (1 + luck.below(700) as usize).min(bytes.len() - from);
                registry.append_upload(repository, id, at, &bytes[from..from + part])?;
                registry.keep_upload(repository, id).map(|_| ())
            }
            Err(Error::UploadUnknown { .. }) => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// An upload that is still known can be finished from where it is said to be.
    fn finish_uploads(&mut self, registry: &Registry) -> Result<(), String> {
        for (repository, id, bytes) in std::mem::take(&mut self.uploads) {
            let at = match registry.upload_bytes(&repository, &id) {
                Ok(at) => at,
                Err(Error::UploadUnknown { .. }) => continue,
                Err(e) => return Err(format!("upload {id}: {e}")),
            };
            let rest = bytes.get(at as usize..).ok_or_else(|| format!("upload {id} has {at} bytes, too many"))?;
            let finish = || {
                registry.append_upload(&repository, &id, at, rest)?;
                registry.finish_upload(&repository, &id, &sha256(&bytes))
            };
            finish().map_err(|e| format!("upload {id} at {at} bytes: {e}"))?;
            let found = read_blob(registry, &repository, &sha256(&bytes))?;
            found.ok_or_else(|| format!("upload {id} was finished and is not there"))?;
        }
        Ok(())
    }

    /// What no tag surely leads to may be gone afterwards.
    fn collect(&mut self, registry: &Registry) -> Result<(), Error> {
        let mut named = BTreeSet::new();
        for ((repository, digest), (possible, bytes, _)) in &mut self.manifests {
            let is_root = |((of, _), to): (&(String, String), &BTreeSet<Option<Digest>>)| {
                of == repository && *to == [Some(digest.clone())].into()
            };
            match self.tags.iter().any(is_root) {
                true => {
                    let manifest = Manifest::parse(bytes).unwrap();
                    named.extend(manifest.blobs().map(|blob| (repository.clone(), blob.digest.clone())));
                }
                false => {
                    possible.insert(false);
                }
            }
        }
        for (blob, possible) in &mut self.blobs {
            if !named.contains(blob) {
                possible.insert(false);
            }
        }
        registry.collect(&[], &mut || ControlFlow::Continue(())).map(|_| ())
    }

    fn delete_blob(&mut self, registry: &Registry, repository: &str, digest: &Digest) -> Result<(), Error> {
        let key = (repository.to_owned(), digest.clone());
        self.blobs.entry(key.clone()).or_default().insert(false);
        registry.delete_blob(repository, digest)?;
        self.blobs.insert(key, [false].into());
        Ok(())
    }

    fn put_manifest(
        &mut self,
        registry: &Registry,
        repository: &str,
        tag: Option<&str>,
        (config, layer): (&Digest, &Digest),
        subject: Option<Digest>,
    ) -> Result<(), Error> {
        let more = subject.as_ref().map(|s| format!(r#","subject":{{"digest":"{s}","size":1}}"#)).unwrap_or_default();
        let bytes = manifest_of(config, &[layer], &more);
        let digest = sha256(&bytes);
        let key = (repository.to_owned(), digest.clone());
        let old = || ([false].into(), bytes.clone(), subject.clone());
        self.manifests.entry(key.clone()).or_insert_with(old).0.insert(true);
        let tag_key = tag.map(|tag| (repository.to_owned(), tag.to_owned()));
        if let Some(tag) = &tag_key {
            self.tags.entry(tag.clone()).or_insert_with(|| [None].into()).insert(Some(digest.clone()));
        }
        let media_type = Some(media::OCI_MANIFEST);
        registry.put_manifest(&PutManifest { repository, media_type, digest: None, tag, bytes: &bytes })?;
        for blob in [config, layer] {
            self.blobs.insert((repository.to_owned(), blob.clone()), [true].into());
        }
        self.manifests.insert(key, ([true].into(), bytes, subject));
        if let Some(tag) = tag_key {
            self.tags.insert(tag, [Some(digest)].into());
        }
        Ok(())
    }

    fn delete_manifest(&mut self, registry: &Registry, repository: &str, digest: &Digest) -> Result<(), Error> {
        let key = (repository.to_owned(), digest.clone());
        if let Some((possible, ..)) = self.manifests.get_mut(&key) {
            possible.insert(false);
        }
        let tagged = |tag: &(String, String), values: &BTreeSet<Option<Digest>>| {
            tag.0 == repository && values.contains(&Some(digest.clone()))
        };
        for (_, values) in self.tags.iter_mut().filter(|(tag, values)| tagged(tag, values)) {
            values.insert(None);
        }
        registry.delete_manifest(repository, digest)?;
        if let Some((possible, ..)) = self.manifests.get_mut(&key) {
            *possible = [false].into();
        }
        for (_, values) in self.tags.iter_mut().filter(|(tag, _)| tag.0 == repository) {
            values.remove(&Some(digest.clone()));
        }
        Ok(())
    }

    fn delete_tag(&mut self, registry: &Registry, repository: &str, tag: &str) -> Result<(), Error> {
        let key = (repository.to_owned(), tag.to_owned());
        self.tags.entry(key.clone()).or_default().insert(None);
        registry.delete_tag(repository, tag)?;
        self.tags.insert(key, [None].into());
        Ok(())
    }

    fn check(&self, registry: &Registry) -> Result<(), String> {
        for ((repository, digest), possible) in &self.blobs {
            let found = read_blob(registry, repository, digest)?.is_some();
            if !possible.contains(&found) {
                return Err(format!("blob {digest} of {repository}: found {found}, possible {possible:?}"));
            }
        }
        for ((repository, digest), (possible, bytes, subject)) in &self.manifests {
            let found = registry.manifest(repository, digest).map_err(|e| e.to_string())?;
            if found.as_ref().is_some_and(|found| found.bytes != *bytes || found.media_type != media::OCI_MANIFEST) {
                return Err(format!("manifest {digest} of {repository} is damaged"));
            }
            if !possible.contains(&found.is_some()) {
                return Err(format!("manifest {digest} of {repository}: found {found:?}, possible {possible:?}"));
            }
            if let (Some(subject), Some(_)) = (subject, found) {
                let referrers = registry.referrers(repository, subject).map_err(|e| e.to_string())?;
                if *possible == [true].into() && !referrers.iter().any(|referrer| referrer.digest == *digest) {
                    return Err(format!("manifest {digest} of {repository} is no referrer any more"));
                }
            }
        }
        for ((repository, tag), possible) in &self.tags {
            let found = registry.resolve(repository, tag).map_err(|e| e.to_string())?;
            if !possible.contains(&found) {
                return Err(format!("tag {tag} of {repository}: found {found:?}, possible {possible:?}"));
            }
            if let Some(digest) = found
                && registry.manifest(repository, &digest).map_err(|e| e.to_string())?.is_none()
            {
                return Err(format!("tag {tag} of {repository} points nowhere"));
            }
        }
        Ok(())
    }
}

/// What happens between the registry and the disk: a kill after some changes, one place whose syncs do nothing.
#[derive(Clone, Default)]
struct Wires(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    left: Option<u64>,
    skipped: Option<Site>,
    sites: BTreeSet<Site>,
}

impl Wires {
    fn disk(&self, sim: &SimDisk) -> Disk {
        Disk::new(Wired { wires: self.clone(), disk: sim.disk() })
    }

    fn change(&self) -> io::Result<()> {
        match &mut self.0.lock().unwrap().left {
            Some(0) => Err(io::Error::other("killed")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Whether this sync is to be done.
    fn sync(&self, site: Site) -> io::Result<bool> {
        self.change()?;
        let mut state = self.0.lock().unwrap();
        state.sites.insert(site);
        Ok(state.skipped != Some(site))
    }
}

struct Wired {
    wires: Wires,
    disk: Disk,
}

#[derive(Debug)]
struct WiredFile {
    wires: Wires,
    file: File,
}

impl std::fmt::Debug for Wires {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wires")
    }
}

impl Backend for Wired {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn BackendFile>> {
        if matches!(mode, Mode::Create | Mode::CreateNew) {
            self.wires.change()?;
        }
        Ok(Box::new(WiredFile { wires: self.wires.clone(), file: self.disk.open(path, mode)? }))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.wires.change().and_then(|()| self.disk.create_dir(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.wires.change().and_then(|()| self.disk.rename(from, to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.wires.change().and_then(|()| self.disk.remove_file(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.wires.change().and_then(|()| self.disk.remove_dir(path))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.disk.read_dir(path)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.disk.stat(path)
    }

    fn sync_dir(&self, path: &Path, site: Site) -> io::Result<()> {
        match self.wires.sync(site)? {
            true => self.disk.sync_dir(path),
            false => Ok(()),
        }
    }
}

impl BackendFile for WiredFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.wires.change().and_then(|()| self.file.write_at(buf, offset))
    }

    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        self.wires.change().and_then(|()| self.file.set_bytes(bytes))
    }

    fn sync(&self, site: Site) -> io::Result<()> {
        match self.wires.sync(site)? {
            true => self.file.sync(),
            false => Ok(()),
        }
    }
}

/// Numbers from a seed.
struct Luck(u64);

impl Luck {
    fn below(&mut self, end: u64) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }
}
