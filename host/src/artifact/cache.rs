//! What is on disk, under which name, and for how long.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use skiff_api::Digest;
use skiff_disk::Disk;

use super::error::OpenError;
use super::proof::{self, Proofs, Terms};
use super::{evidence, whole};
use crate::plan::CodeStage;

/// Of files that no desired replica names: some dozens of components, or a few of the largest.
pub const UNNAMED_BYTES_MAX: u64 = 1 << 30;

const ALGORITHMS: [&str; 2] = ["sha256", "sha512"];

/// The artifacts of a node. Cheap to clone. All calls that are not `async` block.
#[derive(Debug, Clone)]
pub struct Artifacts(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    disk: Disk,
    artifacts: PathBuf,
    compiled: PathBuf,
    /// Since which collection nobody names a digest.
    unnamed: Mutex<Unnamed>,
    proofs: Proofs,
    /// Images whose component is known to be what was signed, since this process started.
    pub(super) checked: Mutex<BTreeSet<Digest>>,
    /// Pulls under way: whoever wants the same waits for it.
    flights: Mutex<BTreeMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
}

#[derive(Debug, Default)]
struct Unnamed {
    collections: u64,
    since: BTreeMap<Digest, u64>,
}

impl Artifacts {
    /// Opens the artifacts below a node's data folder, and removes what a crash left behind or another compiler made.
    /// `key` is [`crate::compile::key`].
    pub fn open(disk: Disk, data: &Path, key: &str) -> Result<Self, OpenError> {
        let inner = Inner {
            disk,
            artifacts: data.join("artifacts"),
            compiled: data.join("compiled").join(key),
            unnamed: Mutex::default(),
            proofs: Proofs::default(),
            checked: Mutex::default(),
            flights: Mutex::default(),
        };
        let failed = |dir: &Path, source| OpenError { dir: dir.to_owned(), source };
        for dir in ALGORITHMS.map(|algorithm| inner.artifacts.join(algorithm)).iter().chain([&inner.compiled]) {
            // Also the names in it: an earlier process may have been killed between renaming and syncing what is
            // believed from now on.
            inner.disk.create_dir_all(dir).and_then(|()| inner.disk.sync_dir(dir)).map_err(|e| failed(dir, e))?;
        }
        inner.clean(&data.join("compiled"), key).map_err(|e| failed(data, e))?;
        Ok(Self(Arc::new(inner)))
    }

    /// How far the code of each digest on disk is.
    pub fn found(&self) -> io::Result<BTreeMap<Digest, CodeStage>> {
        let mut stages = BTreeMap::new();
        self.0.each(|digest, kind, _| {
            let stage = match kind {
                Kind::Wasm => CodeStage::Pulled,
                Kind::Code => CodeStage::Compiled,
                Kind::Sum | Kind::Proof(_) | Kind::Signed | Kind::Layer => return Ok(()),
            };
            let known = stages.entry(digest).or_insert(stage);
            if matches!(kind, Kind::Code) {
                *known = CodeStage::Compiled;
            }
            Ok(())
        })?;
        Ok(stages)
    }

    pub fn wasm(&self, digest: &Digest) -> PathBuf {
        self.0.artifacts.join(digest.algorithm().name()).join(format!("{}.wasm", digest.hex()))
    }

    pub fn code(&self, digest: &Digest) -> PathBuf {
        self.0.compiled.join(format!("{}.cwasm", digest.hex()))
    }

    /// The digest of what is compiled in a file.
    pub(crate) fn digest_of_code(&self, path: &Path) -> Option<Digest> {
        match parse(path.file_name()?.to_str()?, Folder::Compiled)? {
            (digest, Kind::Code) => Some(digest),
            _ => None,
        }
    }

    /// Whether an instance of this code has started here, on these terms. Does not block.
    pub(crate) fn is_proven(&self, digest: &Digest, terms: Terms) -> bool {
        self.0.proofs.has(digest, terms)
    }

    /// Remembers that one has.
    pub(crate) fn prove(&self, digest: &Digest, terms: Terms) {
        let proven = self.0.proofs.add(&self.0.disk, &self.0.compiled, digest, terms);
        if let Err(error) = proven {
            tracing::debug!(%digest, %error, "failed to remember that code starts; it is started again after a restart");
        }
    }

    /// Forgets compiled code that turned out to be damaged. Returns how far the code is then.
    pub fn discard_code(&self, digest: &Digest) -> CodeStage {
        let Inner { disk, compiled, proofs, .. } = &*self.0;
        let removed = [proofs.remove(disk, compiled, digest), disk.remove_file(self.code(digest))];
        for error in removed.into_iter().filter_map(Result::err) {
            tracing::warn!(%digest, %error, "failed to remove damaged code; compiling replaces it");
        }
        match self.0.disk.exists(self.wasm(digest)) {
            true => CodeStage::Pulled,
            false => CodeStage::Missing,
        }
    }

    /// Removes what is named by nobody and does not fit into [`UNNAMED_BYTES_MAX`]. Returns which digests are gone. A
    /// file that a power cut brings back is found at the next start, so nothing is synced.
    pub fn collect(&self, named: &BTreeSet<Digest>) -> io::Result<Vec<Digest>> {
        self.collect_beyond(named, UNNAMED_BYTES_MAX)
    }

    /// The turn to pull an image.
    pub(super) fn flight(&self, digest: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut flights = self.0.flights.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody holds any more.
        flights.retain(|_, flight| Arc::strong_count(flight) > 1);
        Arc::clone(flights.entry(digest.clone()).or_default())
    }

    pub(super) fn disk(&self) -> &Disk {
        &self.0.disk
    }

    fn collect_beyond(&self, named: &BTreeSet<Digest>, bytes_max: u64) -> io::Result<Vec<Digest>> {
        let mut files: BTreeMap<Digest, (u64, Vec<PathBuf>)> = BTreeMap::new();
        self.0.each(|digest, kind, path| {
            // A proof weighs nothing, and goes with the code.
            if !named.contains(&digest) && !matches!(kind, Kind::Proof(_)) {
                let (bytes, paths) = files.entry(digest).or_default();
                *bytes += self.0.disk.stat(&path)?.bytes;
                paths.push(path);
            }
            Ok(())
        })?;
        let mut unnamed = self.0.unnamed.lock().unwrap_or_else(PoisonError::into_inner);
        unnamed.collections += 1;
        let now = unnamed.collections;
        unnamed.since.retain(|digest, _| files.contains_key(digest));
        let mut candidates: Vec<(u64, Digest)> =
            files.keys().map(|digest| (*unnamed.since.entry(digest.clone()).or_insert(now), digest.clone())).collect();
        drop(unnamed);
        candidates.sort_unstable();

        let mut bytes: u64 = files.values().map(|(bytes, _)| bytes).sum();
        let mut gone = Vec::new();
        for (_, digest) in candidates {
            let Some((freed, paths)) = files.remove(&digest).filter(|_| bytes > bytes_max) else { break };
            self.0.proofs.remove(&self.0.disk, &self.0.compiled, &digest)?;
            paths.iter().try_for_each(|path| self.0.disk.remove_file(path))?;
            bytes -= freed;
            gone.push(digest);
        }
        Ok(gone)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Folder {
    Artifacts,
    Compiled,
}

/// What a file of ours is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Wasm,
    /// What a component is.
    Sum,
    /// Who signed it.
    Signed,
    /// What it was made from.
    Layer,
    Code,
    Proof(Terms),
}

impl Inner {
    fn folders(&self) -> [(PathBuf, Folder); 3] {
        let [one, two] = ALGORITHMS.map(|algorithm| (self.artifacts.join(algorithm), Folder::Artifacts));
        [one, two, (self.compiled.clone(), Folder::Compiled)]
    }

    /// Every file of ours.
    fn each(&self, mut visit: impl FnMut(Digest, Kind, PathBuf) -> io::Result<()>) -> io::Result<()> {
        for (dir, folder) in self.folders() {
            for entry in self.disk.read_dir(&dir)? {
                if let Some((digest, kind)) = parse(&entry.name, folder) {
                    visit(digest, kind, dir.join(&entry.name))?;
                }
            }
        }
        Ok(())
    }

    fn clean(&self, compiled: &Path, key: &str) -> io::Result<()> {
        for entry in self.disk.read_dir(compiled)?.into_iter().filter(|entry| entry.is_dir && entry.name != key) {
            let dir = compiled.join(&entry.name);
            for file in self.disk.read_dir(&dir)? {
                self.disk.remove_file(dir.join(file.name))?;
            }
            self.disk.remove_dir(dir)?;
        }
        for (dir, folder) in self.folders() {
            let entries = self.disk.read_dir(&dir)?;
            let parsed =
                || entries.iter().filter(|entry| !entry.is_dir).map(|entry| (entry, parse(&entry.name, folder)));
            let whole: BTreeSet<Digest> = parsed()
                .filter_map(|(_, file)| file.filter(|(_, kind)| [Kind::Code, Kind::Wasm].contains(kind)))
                .map(|(digest, _)| digest)
                .collect();
            for (entry, file) in parsed() {
                match file {
                    Some((digest, Kind::Proof(terms))) if whole.contains(&digest) => self.proofs.found(digest, terms),
                    Some((digest, Kind::Sum | Kind::Signed | Kind::Layer)) if whole.contains(&digest) => {}
                    Some((_, Kind::Wasm | Kind::Code)) => {}
                    // Also what is about something that is not there.
                    None | Some((_, Kind::Sum | Kind::Signed | Kind::Layer | Kind::Proof(_))) => {
                        self.disk.remove_file(dir.join(&entry.name))?
                    }
                }
            }
        }
        Ok(())
    }
}

/// The two algorithms' digests differ in length, so the folder of compiled code needs none for each.
fn parse(name: &str, folder: Folder) -> Option<(Digest, Kind)> {
    let (hex, kind) = match folder {
        Folder::Artifacts => {
            let (hex, kind) = name.split_once('.')?;
            let kind = match kind {
                "wasm" => Kind::Wasm,
                whole::KIND => Kind::Sum,
                evidence::SIGNED => Kind::Signed,
                _ if evidence::is_layer(kind) => Kind::Layer,
                _ => return None,
            };
            (hex, kind)
        }
        Folder::Compiled => match name.strip_suffix(".cwasm") {
            Some(hex) => (hex, Kind::Code),
            None => proof::parse(name).map(|(hex, terms)| (hex, Kind::Proof(terms)))?,
        },
    };
    let digest = ALGORITHMS.iter().find_map(|algorithm| Digest::from_str(&format!("{algorithm}:{hex}")).ok())?;
    Some((digest, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: u8) -> Digest {
        format!("sha256:{}", format!("{number:02x}").repeat(32)).parse().unwrap()
    }

    #[test]
    fn a_start_believes_whole_files_and_removes_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(Disk::real(), dir.path(), "key-1").unwrap();
        std::fs::write(artifacts.wasm(&digest(1)), "x").unwrap();
        std::fs::write(artifacts.wasm(&digest(2)), "x").unwrap();
        std::fs::write(artifacts.code(&digest(2)), "x").unwrap();
        let left = artifacts.code(&digest(3)).with_extension("cwasm.tmp");
        std::fs::write(&left, "x").unwrap();
        let again = Artifacts::open(Disk::real(), dir.path(), "key-1").unwrap();
        let expected = BTreeMap::from([(digest(1), CodeStage::Pulled), (digest(2), CodeStage::Compiled)]);
        assert_eq!(again.found().unwrap(), expected);
        assert!(!left.exists());
        let updated = Artifacts::open(Disk::real(), dir.path(), "key-2").unwrap();
        assert_eq!(updated.found().unwrap()[&digest(2)], CodeStage::Pulled);
        assert!(!artifacts.code(&digest(2)).exists());
    }

    #[test]
    fn a_proof_lives_as_long_as_what_it_proves() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Artifacts::open(Disk::real(), dir.path(), "key").unwrap();
        let template = |memory| {
            let mut spec = skiff_api::resource::ServiceSpec::new("cart:1".parse().unwrap());
            spec.instance.memory = skiff_api::quantity::Bytes::mebi(memory);
            Terms::of(&spec.template())
        };
        let artifacts = open();
        for number in 1..=2 {
            std::fs::write(artifacts.code(&digest(number)), "x").unwrap();
            artifacts.prove(&digest(number), template(1));
        }
        artifacts.prove(&digest(1), template(2));
        let again = open();
        assert!(again.is_proven(&digest(1), template(2)) && !again.is_proven(&digest(1), template(1)));
        assert!(again.is_proven(&digest(2), template(1)));
        again.discard_code(&digest(1));
        std::fs::remove_file(again.code(&digest(2))).unwrap();
        let last = open();
        assert!(!last.is_proven(&digest(1), template(2)) && !last.is_proven(&digest(2), template(1)));
        assert_eq!(std::fs::read_dir(dir.path().join("compiled/key")).unwrap().count(), 0);
    }

    #[test]
    fn the_longest_unnamed_go_first_and_named_ones_never() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(Disk::real(), dir.path(), "key").unwrap();
        for number in 1..=4 {
            std::fs::write(artifacts.wasm(&digest(number)), [0; 60]).unwrap();
            std::fs::write(artifacts.code(&digest(number)), [0; 40]).unwrap();
        }
        let collect = |named: &[u8], bytes_max| {
            artifacts.collect_beyond(&named.iter().map(|number| digest(*number)).collect(), bytes_max).unwrap()
        };
        assert!(collect(&[1, 2, 4], 100).is_empty());
        assert!(collect(&[1, 4], 200).is_empty());
        assert_eq!(collect(&[4], 250), [digest(3)]);
        assert_eq!(collect(&[1, 4], 0), [digest(2)]);
        assert!(artifacts.wasm(&digest(1)).exists() && !artifacts.code(&digest(2)).exists());
    }
}
