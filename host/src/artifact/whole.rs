//! Whether a component on disk is still what was pulled.
//!
//! Its name is the digest of the image's manifest, which it does not show by itself: an image may hold it packed, or as a
//! core module. So its own digest is written beside it when it is pulled. A component without one, of an older version
//! or of a power cut, is believed.
//!
//! Disks of small machines rot. All components are read again after each start, one after the other, half of the time at
//! most; and each before it is compiled, where a damaged one would look as if its service were to blame.

use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use skiff_api::Digest;
use skiff_disk::Mode;
use skiff_registry::hash::Hasher;

use super::cache::Artifacts;

/// Longer than any digest's text.
const SUM_BYTES_MAX: u64 = 256;

/// How much is read at once, and the longest that one reading holds the disk.
const READ_BYTES: usize = 1 << 20;

/// What the kernel says of a disk that does not give back what it was given. Other errors say nothing about a file.
const EIO: i32 = 5;

pub(super) const KIND: &str = "sum";

impl Artifacts {
    pub(super) fn sum(&self, digest: &Digest) -> PathBuf {
        self.wasm(digest).with_extension(KIND)
    }

    /// Writes down what a component is. Nothing depends on it being there, so it is not synced.
    pub(super) fn write_sum(&self, image: &Digest, component: &Digest) -> io::Result<()> {
        let file = self.disk().open(self.sum(image), Mode::Create)?;
        let text = component.to_string();
        file.set_bytes(0)?;
        file.write_at(text.as_bytes(), 0)
    }

    /// Whether the component of an image is what was pulled, as far as that is known. One that is not there is not.
    /// `pause` is called between two parts, with how long the last one took. Blocks.
    pub(crate) fn is_whole(&self, image: &Digest, pause: impl Fn(Duration)) -> bool {
        let whole = || -> io::Result<bool> {
            let file = self.disk().open(self.wasm(image), Mode::Read)?;
            let sum = self.disk().read(self.sum(image), SUM_BYTES_MAX).unwrap_or_default();
            let Some(expected) = str::from_utf8(&sum).ok().and_then(|text| Digest::from_str(text).ok()) else {
                return Ok(true);
            };
            let mut hasher = Hasher::new(expected.algorithm());
            let mut buffer = vec![0; READ_BYTES];
            let mut at = 0;
            loop {
                let began = std::time::Instant::now();
                let count = file.read_at(&mut buffer, at)?;
                if count == 0 {
                    return Ok(hasher.finish() == expected);
                }
                hasher.update(&buffer[..count]);
                at += count as u64;
                pause(began.elapsed());
            }
        };
        whole().unwrap_or_else(|error| {
            let is_lost = error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(EIO);
            if !is_lost {
                tracing::warn!(%image, %error, "failed to look whether a component is whole");
            }
            !is_lost
        })
    }

    /// Removes a component that is not whole.
    pub(crate) fn discard_wasm(&self, image: &Digest) {
        self.forget(image);
        for path in [self.wasm(image), self.sum(image)] {
            if let Err(error) = self.disk().remove_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "failed to remove a damaged component; pulling replaces it");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use skiff_disk::Disk;
    use skiff_registry::hash::sha256;

    use super::*;

    #[test]
    fn damage_is_found_where_it_is_known_what_was_pulled() {
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(Disk::real(), dir.path(), "key").unwrap();
        let image = sha256(b"manifest");
        let whole = || artifacts.is_whole(&image, |_| {});
        assert!(!whole(), "it is not there");
        let mut bytes = vec![7; 3 << 20];
        std::fs::write(artifacts.wasm(&image), &bytes).unwrap();
        assert!(whole(), "of an older version");
        artifacts.write_sum(&image, &sha256(&bytes)).unwrap();
        assert!(whole());
        bytes[2 << 20] ^= 1;
        std::fs::write(artifacts.wasm(&image), &bytes).unwrap();
        assert!(!whole());
        std::fs::write(artifacts.sum(&image), "sha256:00").unwrap();
        assert!(whole(), "torn by a power cut");
        artifacts.discard_wasm(&image);
        assert!(!artifacts.wasm(&image).exists() && !artifacts.sum(&image).exists());
    }

    #[test]
    fn a_sum_goes_with_its_component() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Artifacts::open(Disk::real(), dir.path(), "key").unwrap();
        let artifacts = open();
        let [kept, gone] = [b"1", b"2"].map(|name| sha256(name));
        for image in [&kept, &gone] {
            std::fs::write(artifacts.wasm(image), "x").unwrap();
            artifacts.write_sum(image, &sha256(b"x")).unwrap();
        }
        std::fs::remove_file(artifacts.wasm(&gone)).unwrap();
        let again = open();
        assert!(again.sum(&kept).exists() && !again.sum(&gone).exists());
        assert_eq!(again.found().unwrap().len(), 1);
    }
}
