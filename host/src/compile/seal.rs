//! The checksum at the end of a compiled file.
//!
//! Layout: wasmtime's bytes, then 48 bytes: their SHA-256, their number (little-endian), and a mark. wasmtime's bytes are
//! an ELF image, which names its parts by offset, so that what follows them is not looked at. The end is the right
//! place: whatever cuts a file short takes the seal with it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use sha2::{Digest, Sha256};

const MARK: [u8; 8] = *b"skiffcw1";
const HASH_BYTES: usize = 32;
const SEAL_BYTES: usize = HASH_BYTES + 8 + MARK.len();

/// Read at once while checking: large enough that system calls do not matter.
const READ_BYTES: usize = 256 << 10;

/// The checksum of a file while it is written.
#[derive(Default)]
pub(crate) struct Seal {
    hash: Sha256,
    bytes: u64,
}

impl Seal {
    pub(crate) fn update(&mut self, data: &[u8]) {
        self.hash.update(data);
        self.bytes += data.len() as u64;
    }

    /// The number of bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What to write after them.
    pub(crate) fn finish(self) -> [u8; SEAL_BYTES] {
        let mut seal = [0; SEAL_BYTES];
        seal[..HASH_BYTES].copy_from_slice(&self.hash.finalize());
        seal[HASH_BYTES..HASH_BYTES + 8].copy_from_slice(&self.bytes.to_le_bytes());
        seal[HASH_BYTES + 8..].copy_from_slice(&MARK);
        seal
    }
}

/// Why a compiled file cannot be trusted.
#[derive(Debug)]
pub(crate) enum CheckError {
    Read(io::Error),
    Damaged(&'static str),
}

/// Reads a whole file and compares it with its seal.
pub(crate) fn check(file: &File) -> Result<(), CheckError> {
    let total = file.metadata().map_err(CheckError::Read)?.len();
    let Some(bytes) = total.checked_sub(SEAL_BYTES as u64) else {
        return Err(CheckError::Damaged("it is too short"));
    };
    let mut found = [0; SEAL_BYTES];
    file.read_exact_at(&mut found, bytes).map_err(CheckError::Read)?;
    if found[HASH_BYTES + 8..] != MARK {
        return Err(CheckError::Damaged("its end is missing"));
    }
    let mut seal = Seal::default();
    let mut buffer = vec![0; READ_BYTES];
    while seal.bytes() < bytes {
        let wanted = usize::try_from(bytes - seal.bytes()).unwrap_or(READ_BYTES).min(READ_BYTES);
        file.read_exact_at(&mut buffer[..wanted], seal.bytes()).map_err(CheckError::Read)?;
        seal.update(&buffer[..wanted]);
    }
    if seal.finish() == found { Ok(()) } else { Err(CheckError::Damaged("its checksum does not match")) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn checked(data: &[u8]) -> Result<(), &'static str> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(data).unwrap();
        check(&file).map_err(|e| match e {
            CheckError::Damaged(why) => why,
            CheckError::Read(e) => panic!("{e}"),
        })
    }

    fn sealed(data: &[u8]) -> Vec<u8> {
        let mut seal = Seal::default();
        seal.update(data);
        [data, &seal.finish()].concat()
    }

    #[test]
    fn a_sealed_file_is_sound() {
        assert_eq!(checked(&sealed(b"code")), Ok(()));
        assert_eq!(checked(&sealed(&vec![7; 3 * READ_BYTES + 1])), Ok(()));
    }

    #[test]
    fn any_flipped_bit_is_found() {
        let file = sealed(b"some code");
        for bit in 0..file.len() * 8 {
            let mut damaged = file.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(checked(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn any_cut_is_found() {
        let file = sealed(b"some code");
        for end in 0..file.len() {
            assert!(checked(&file[..end]).is_err(), "cut at {end}");
        }
    }
}
