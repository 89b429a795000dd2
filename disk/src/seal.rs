//! Sealing values that must not be on a disk in the clear, with a key from a file of its own.
//!
//! ```text
//! sealed:1:BASE64      AES-SIV (RFC 5297) with a 512-bit key; the associated data is where the value belongs
//! ```
//! **Deterministic.** The same value in the same place gives the same text, so that writing it again changes nothing, and no
//! counter or random number can be used twice by accident. What that shows is whether a value changed, and about how long it
//! is. A sealed text opens only in the place it was sealed for: moved to another, it is refused.

use std::fmt;
use std::io;
use std::path::Path;

use aes_siv::KeyInit;
use aes_siv::siv::Aes256Siv;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::atomic::{read_kept, write_atomic};
use crate::disk::Disk;

const MARK: &str = "sealed:1:";
const KEY_BYTES: usize = 64;
const FILE_BYTES_MAX: u64 = 4096;

/// A key that seals and opens. Cheap to clone.
#[derive(Clone)]
pub struct SealKey([u8; KEY_BYTES]);

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey")
    }
}

/// Where a value belongs: what it is part of, outermost first, and its own name.
pub type Place<'a> = [&'a str; 3];

/// Why a text does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("it is not sealed")]
    NotSealed,
    #[error("it was sealed with another key, or for another place")]
    Foreign,
}

impl SealKey {
    pub fn generate() -> io::Result<Self> {
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        Ok(Self(key))
    }

    /// Reads the key from a file, or makes one there. Blocks.
    pub fn open(disk: &Disk, path: &Path) -> io::Result<Self> {
        if let Some(text) = read_kept(disk, path, FILE_BYTES_MAX)? {
            return Self::read(&text).ok_or_else(|| {
                let why = "it is no key of Skiff's: 88 characters of base64 (hint: restore the file from a backup)";
                io::Error::new(io::ErrorKind::InvalidData, why)
            });
        }
        let key = Self::generate()?;
        write_atomic(disk, path, key.to_text().as_bytes())?;
        Ok(key)
    }

    /// What its file has.
    pub fn to_text(&self) -> String {
        format!("{}\n", base64::engine::general_purpose::STANDARD.encode(self.0))
    }

    fn read(text: &[u8]) -> Option<Self> {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim_ascii()).ok()?;
        bytes.try_into().ok().map(Self)
    }

    /// Whether a text says of itself that it is sealed.
    pub fn is_sealed(text: &str) -> bool {
        text.starts_with(MARK)
    }

    /// Seals a value for a place.
    pub fn seal(&self, place: &Place<'_>, value: &str) -> String {
        // It refuses more than 126 parts, which a place does not have.
        let sealed = self.cipher().encrypt(place, value.as_bytes()).unwrap_or_default();
        format!("{MARK}{}", STANDARD_NO_PAD.encode(sealed))
    }

    /// The value of a sealed text.
    pub fn unseal(&self, place: &Place<'_>, text: &str) -> Result<String, OpenError> {
        let text = text.strip_prefix(MARK).ok_or(OpenError::NotSealed)?;
        let sealed = STANDARD_NO_PAD.decode(text).map_err(|_| OpenError::Foreign)?;
        let value = self.cipher().decrypt(place, &sealed).map_err(|_| OpenError::Foreign)?;
        String::from_utf8(value).map_err(|_| OpenError::Foreign)
    }

    fn cipher(&self) -> Aes256Siv {
        Aes256Siv::new(&self.0.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: [&str; 3] = ["shop", "stripe", "KEY"];

    #[test]
    fn only_the_key_and_the_place_open_it() {
        let key = SealKey::generate().unwrap();
        let sealed = key.seal(&PLACE, "hunter2");
        assert!(SealKey::is_sealed(&sealed) && !sealed.contains("hunter2"), "{sealed}");
        assert_eq!(key.seal(&PLACE, "hunter2"), sealed);
        assert_eq!(key.unseal(&PLACE, &sealed).as_deref(), Ok("hunter2"));
        assert_eq!(key.unseal(&["shop", "stripe", "OTHER"], &sealed), Err(OpenError::Foreign));
        assert_eq!(key.unseal(&["shop", "stripeKEY", ""], &sealed), Err(OpenError::Foreign));
        assert_eq!(SealKey::generate().unwrap().unseal(&PLACE, &sealed), Err(OpenError::Foreign));
        assert_eq!(key.unseal(&PLACE, "hunter2"), Err(OpenError::NotSealed));
        for cut in MARK.len()..sealed.len() {
            assert_eq!(key.unseal(&PLACE, &sealed[..cut]), Err(OpenError::Foreign));
        }
        assert_eq!(key.unseal(&PLACE, &key.seal(&PLACE, "")).as_deref(), Ok(""));
        assert_eq!(key.unseal(&PLACE, "sealed:1:"), Err(OpenError::Foreign));
    }

    #[test]
    fn a_key_is_made_once_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let disk = Disk::real();
        let key = SealKey::open(&disk, &path).unwrap();
        assert_eq!(SealKey::open(&disk, &path).unwrap().0, key.0);
        std::fs::write(&path, "short\n").unwrap();
        let error = SealKey::open(&disk, &path).unwrap_err();
        assert!(error.to_string().contains("no key of Skiff's"), "{error}");
    }
}
