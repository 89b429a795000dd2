//! Which components have started here, and on which terms.
//!
//! Before a replica gets requests, its component is linked and one instance is started, to find out whether it can at
//! all. The same code on the same terms starts again, so that is remembered: an empty file beside the compiled one, whose
//! name is the proof. After a restart such a replica is ready without its code being loaded, which is what lets ten
//! thousand of them come back in a second. Nothing depends on a proof being there or being right: without it the
//! component is started once more, and what should fail in spite of it fails at its first request, which takes it back.
//! So nothing is synced. One proof for each component is enough: where replicas on different terms share one, starting
//! it again costs little, because it is loaded once for all of them.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};
use skiff_api::Digest;
use skiff_api::resource::Template;
use skiff_disk::{Disk, Mode};

const SUFFIX: &str = ".proven";

/// All that decides whether a component starts, besides its code and the engine: what its manifest says, and which Skiff
/// it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms(u64);

impl Terms {
    /// The whole template, also where a field has no bearing on a start: no field can be forgotten here.
    pub(crate) fn of(template: &Template) -> Self {
        let mut hash = Sha256::new();
        hash.update(env!("CARGO_PKG_VERSION"));
        // A template is written to disk as JSON too; were it none, all such templates would have the same terms.
        hash.update(serde_json::to_vec(template).unwrap_or_default());
        let hash: [u8; 32] = hash.finalize().into();
        Self(hash[..8].iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte)))
    }
}

/// The proofs of a node, as they are on disk.
#[derive(Debug, Default)]
pub(super) struct Proofs(Mutex<HashMap<Digest, Terms>>);

impl Proofs {
    pub(super) fn found(&self, digest: Digest, terms: Terms) {
        self.proofs().insert(digest, terms);
    }

    pub(super) fn has(&self, digest: &Digest, terms: Terms) -> bool {
        self.proofs().get(digest) == Some(&terms)
    }

    /// Adds a proof in `dir`, in the place of an older one. Blocks.
    pub(super) fn add(&self, disk: &Disk, dir: &Path, digest: &Digest, terms: Terms) -> io::Result<()> {
        let before = self.proofs().insert(digest.clone(), terms);
        match before {
            Some(before) if before == terms => Ok(()),
            before => {
                disk.open(path(dir, digest, terms), Mode::Create)?;
                before.map_or(Ok(()), |before| disk.remove_file(path(dir, digest, before)))
            }
        }
    }

    /// Takes a proof back. Blocks.
    pub(super) fn remove(&self, disk: &Disk, dir: &Path, digest: &Digest) -> io::Result<()> {
        let before = self.proofs().remove(digest);
        before.map_or(Ok(()), |before| disk.remove_file(path(dir, digest, before)))
    }

    fn proofs(&self) -> MutexGuard<'_, HashMap<Digest, Terms>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn path(dir: &Path, digest: &Digest, terms: Terms) -> PathBuf {
    dir.join(format!("{}.{:016x}{SUFFIX}", digest.hex(), terms.0))
}

/// The two halves of a proof's file name.
pub(super) fn parse(name: &str) -> Option<(&str, Terms)> {
    let (hex, terms) = name.strip_suffix(SUFFIX)?.rsplit_once('.')?;
    let canonical = terms.len() == 16 && !terms.bytes().any(|byte| byte.is_ascii_uppercase() || byte == b'+');
    Some((hex, Terms(u64::from_str_radix(terms, 16).ok().filter(|_| canonical)?)))
}

#[cfg(test)]
mod tests {
    use skiff_api::resource::ServiceSpec;

    use super::*;

    #[test]
    fn every_field_is_part_of_the_terms() {
        let mut spec = ServiceSpec::new("cart:1".parse().unwrap());
        let first = Terms::of(&spec.template());
        assert_eq!(first, Terms::of(&spec.template()));
        spec.env.insert("A".to_owned(), "b".to_owned());
        let second = Terms::of(&spec.template());
        spec.instance.memory = skiff_api::quantity::Bytes::mebi(1);
        assert!(first != second && second != Terms::of(&spec.template()));
    }

    #[test]
    fn names_are_read_back() {
        let digest: Digest = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
        let terms = Terms(0x00ab_cdef_0123_4567);
        let file = path(Path::new("/compiled"), &digest, terms);
        let name = file.file_name().unwrap().to_str().unwrap();
        assert_eq!(parse(name), Some((digest.hex(), terms)));
        for other in ["a.cwasm", "a.proven", "a.123.proven", "a.00ABCDEF01234567.proven"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
