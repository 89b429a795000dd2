//! What is on disk, under which name, and for how long.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use skiff_api::Digest;
use skiff_disk::Disk;

use super::error::OpenError;
use crate::plan::CodeStage;

/// Of files that no desired replica names: some dozens of components, or a few of the largest.
pub const UNNAMED_BYTES_MAX: u64 = 1 << 30;

const ALGORITHMS: [&str; 2] = ["sha256", "sha512"];

/// The artifacts of a node. Cheap to clone. All calls that are not `async` block.
#[derive(Debug, Clone)]
pub struct Artifacts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    disk: Disk,
    artifacts: PathBuf,
    compiled: PathBuf,
    /// Since which collection nobody names a digest.
    unnamed: Mutex<Unnamed>,
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
        for file in self.0.files()? {
            let stage = if file.is_code { CodeStage::Compiled } else { CodeStage::Pulled };
            let known = stages.entry(file.digest).or_insert(stage);
            if file.is_code {
                *known = CodeStage::Compiled;
            }
        }
        Ok(stages)
    }

    pub fn wasm(&self, digest: &Digest) -> PathBuf {
        self.0.artifacts.join(digest.algorithm().name()).join(format!("{}.wasm", digest.hex()))
    }

    pub fn code(&self, digest: &Digest) -> PathBuf {
        self.0.compiled.join(format!("{}.cwasm", digest.hex()))
    }

    /// Forgets compiled code that turned out to be damaged. Returns how far the code is then.
    pub fn discard_code(&self, digest: &Digest) -> CodeStage {
        if let Err(error) = self.0.disk.remove_file(self.code(digest)) {
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

    pub(super) fn disk(&self) -> &Disk {
        &self.0.disk
    }

    fn collect_beyond(&self, named: &BTreeSet<Digest>, bytes_max: u64) -> io::Result<Vec<Digest>> {
        let mut files: BTreeMap<Digest, (u64, Vec<PathBuf>)> = BTreeMap::new();
        for file in self.0.files()?.into_iter().filter(|file| !named.contains(&file.digest)) {
            let (bytes, paths) = files.entry(file.digest).or_default();
            *bytes += file.bytes;
            paths.push(file.path);
        }
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
            paths.iter().try_for_each(|path| self.0.disk.remove_file(path))?;
            bytes -= freed;
            gone.push(digest);
        }
        Ok(gone)
    }
}

struct Stored {
    digest: Digest,
    is_code: bool,
    path: PathBuf,
    bytes: u64,
}

impl Inner {
    fn files(&self) -> io::Result<Vec<Stored>> {
        let mut files = Vec::new();
        let wasm = ALGORITHMS.map(|algorithm| self.artifacts.join(algorithm));
        for (dir, is_code) in wasm.iter().map(|dir| (dir, false)).chain([(&self.compiled, true)]) {
            for entry in self.disk.read_dir(dir)? {
                let Some(digest) = digest_of(&entry.name, is_code) else { continue };
                let path = dir.join(&entry.name);
                let bytes = self.disk.stat(&path)?.bytes;
                files.push(Stored { digest, is_code, path, bytes });
            }
        }
        Ok(files)
    }

    fn clean(&self, compiled: &Path, key: &str) -> io::Result<()> {
        for entry in self.disk.read_dir(compiled)?.into_iter().filter(|entry| entry.is_dir && entry.name != key) {
            let dir = compiled.join(&entry.name);
            for file in self.disk.read_dir(&dir)? {
                self.disk.remove_file(dir.join(file.name))?;
            }
            self.disk.remove_dir(dir)?;
        }
        let wasm = ALGORITHMS.map(|algorithm| self.artifacts.join(algorithm));
        for (dir, is_code) in wasm.iter().map(|dir| (dir, false)).chain([(&self.compiled, true)]) {
            for entry in self.disk.read_dir(dir)? {
                if !entry.is_dir && digest_of(&entry.name, is_code).is_none() {
                    self.disk.remove_file(dir.join(entry.name))?;
                }
            }
        }
        Ok(())
    }
}

/// The two algorithms' digests differ in length, so the folder of compiled code needs none for each.
fn digest_of(name: &str, is_code: bool) -> Option<Digest> {
    let hex = name.strip_suffix(if is_code { ".cwasm" } else { ".wasm" })?;
    ALGORITHMS.iter().find_map(|algorithm| Digest::from_str(&format!("{algorithm}:{hex}")).ok())
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
