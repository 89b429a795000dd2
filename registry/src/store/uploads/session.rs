//! What is noted about an upload, so that another process can go on with it.
//!
//! A session is a small file beside the content: whose upload it is, and a ring of records, each the digest of everything
//! up to some length. Nothing is synced. A record says of itself whether the content on disk is what it was made from, so
//! whatever a kill or a power cut left of both files, in whatever order, the longest length whose digest fits is where the
//! client goes on. What was written beyond it is cut off and sent again.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use skiff_api::Digest;
use skiff_api::digest::Algorithm;
use skiff_disk::{Disk, File, Mode};

use crate::hash::Hasher;

/// What a session's file is called after the upload.
pub(super) const SUFFIX: &str = ".session";

/// The first part of the file, padded with blanks: room for the longest repository name.
const HEAD_BYTES: usize = 1024;

/// A record: the length in 20 digits, a blank, 64 hexadecimal digits, a line's end.
const RECORD_BYTES: usize = 86;

/// How many records there are before the oldest is overwritten. More than one, so that a power cut which took the last of
/// the content does not take all of it.
const RECORDS: u64 = 64;

/// How much is read at once where content is hashed again.
const READ_BYTES: usize = 1 << 20;

/// Whose upload it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct About {
    pub(super) repository: String,
    pub(super) client: String,
}

#[derive(Debug)]
pub(super) struct Session {
    path: PathBuf,
    next: u64,
}

impl Session {
    pub(super) fn create(disk: &Disk, path: PathBuf, about: &About) -> io::Result<Self> {
        let mut head = serde_json::to_vec(about).map_err(io::Error::other)?;
        if head.len() >= HEAD_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the session's head is too long"));
        }
        head.resize(HEAD_BYTES - 1, b' ');
        head.push(b'\n');
        disk.open(&path, Mode::CreateNew)?.write_at(&head, 0)?;
        Ok(Self { path, next: 0 })
    }

    /// One that an earlier process made. `None`: it is damaged.
    pub(super) fn found(disk: &Disk, path: PathBuf) -> io::Result<Option<(Self, About)>> {
        let mut head = vec![0; HEAD_BYTES];
        let read = disk.open(&path, Mode::Read)?.read_at(&mut head, 0)?;
        head.truncate(read);
        Ok(serde_json::from_slice(&head).ok().map(|about| (Self { path, next: 0 }, about)))
    }

    pub(super) fn has_records(&self, disk: &Disk) -> io::Result<bool> {
        Ok(disk.stat(&self.path)?.bytes > HEAD_BYTES as u64)
    }

    /// Notes that everything up to `bytes` was written, and has this digest.
    pub(super) fn record(&mut self, disk: &Disk, bytes: u64, hasher: &Hasher) -> io::Result<()> {
        let digest = hasher.clone().finish();
        let record = format!("{bytes:020} {}\n", digest.hex());
        let at = HEAD_BYTES as u64 + (self.next % RECORDS) * RECORD_BYTES as u64;
        disk.open(&self.path, Mode::Write)?.write_at(record.as_bytes(), at)?;
        self.next += 1;
        Ok(())
    }

    /// Reads the content again: the longest length that a record fits, and the hash of that. `None`: no record fits.
    pub(super) fn verify(&mut self, disk: &Disk, content: &File) -> io::Result<Option<(u64, Hasher)>> {
        let records = self.records(disk, content.bytes()?)?;
        let mut hasher = Hasher::new(Algorithm::Sha256);
        let mut at = 0;
        let mut verified = None;
        for (bytes, digest) in records {
            hash_up_to(content, &mut hasher, &mut at, bytes)?;
            if at == bytes && hasher.clone().finish() == digest {
                verified = Some((bytes, hasher.clone()));
            }
        }
        Ok(verified)
    }

    /// The records that can be read, of lengths that the content has, in the order of their lengths.
    fn records(&mut self, disk: &Disk, bytes_max: u64) -> io::Result<Vec<(u64, Digest)>> {
        let mut bytes = vec![0; RECORDS as usize * RECORD_BYTES];
        let file = disk.open(&self.path, Mode::Read)?;
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], (HEAD_BYTES + filled) as u64)? {
                0 => break,
                n => filled += n,
            }
        }
        bytes.truncate(filled);
        let mut records: Vec<_> =
            bytes.chunks(RECORD_BYTES).filter_map(parse).filter(|(n, _)| *n <= bytes_max).collect();
        records.sort();
        records.dedup();
        Ok(records)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn parse(record: &[u8]) -> Option<(u64, Digest)> {
    let line = std::str::from_utf8(record).ok()?.strip_suffix('\n')?;
    let (bytes, hex) = line.split_once(' ')?;
    Some((bytes.parse().ok()?, format!("sha256:{hex}").parse().ok()?))
}

/// Feeds a file's content from `at` to `end`, or to the file's end, to a hasher.
pub(super) fn hash_up_to(file: &File, hasher: &mut Hasher, at: &mut u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES.min(usize::try_from(end.saturating_sub(*at)).unwrap_or(READ_BYTES))];
    while *at < end {
        let wanted = usize::try_from(end - *at).unwrap_or(READ_BYTES).min(buffer.len());
        match file.read_at(&mut buffer[..wanted], *at)? {
            0 => break,
            n => {
                hasher.update(&buffer[..n]);
                *at += n as u64;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use skiff_disk::sim::SimDisk;

    use super::*;

    fn about() -> About {
        About { repository: "a/b".to_owned(), client: "c".to_owned() }
    }

    fn write(disk: &Disk, session: &mut Session, pieces: &[&[u8]]) -> (File, Vec<u8>) {
        let content = disk.open("content", Mode::Create).unwrap();
        let (mut hasher, mut all) = (Hasher::new(Algorithm::Sha256), Vec::new());
        for piece in pieces {
            content.write_at(piece, all.len() as u64).unwrap();
            hasher.update(piece);
            all.extend_from_slice(piece);
            session.record(disk, all.len() as u64, &hasher).unwrap();
        }
        (content, all)
    }

    #[test]
    fn finds_the_longest_length_that_fits() {
        let disk = SimDisk::new(1).disk();
        let mut session = Session::create(&disk, "s".into(), &about()).unwrap();
        let (content, all) = write(&disk, &mut session, &[b"one", b"two", b"three"]);
        let (mut found, read) = Session::found(&disk, "s".into()).unwrap().unwrap();
        assert_eq!(read, about());
        let (bytes, hasher) = found.verify(&disk, &content).unwrap().unwrap();
        assert_eq!((bytes, hasher.finish()), (11, crate::hash::sha256(&all)));
        content.write_at(b"X", 8).unwrap();
        assert_eq!(found.verify(&disk, &content).unwrap().map(|(bytes, _)| bytes), Some(6));
        content.write_at(b"X", 0).unwrap();
        assert!(found.verify(&disk, &content).unwrap().is_none());
    }

    #[test]
    fn old_records_make_room_for_new_ones() {
        let disk = SimDisk::new(1).disk();
        let mut session = Session::create(&disk, "s".into(), &about()).unwrap();
        let (content, all) = write(&disk, &mut session, &[&b"x"[..]; 200]);
        let (bytes, _) = session.verify(&disk, &content).unwrap().unwrap();
        assert_eq!(bytes, all.len() as u64);
        assert!(disk.stat("s").unwrap().bytes < 8192);
    }

    #[test]
    fn whatever_a_power_cut_leaves_is_told_apart() {
        let mut kept = std::collections::BTreeSet::new();
        for seed in 0..300 {
            let sim = SimDisk::new(seed);
            let disk = sim.disk();
            let mut session = Session::create(&disk, "s".into(), &about()).unwrap();
            let pieces = [&[1; 700][..], &[2; 900], &[3; 2000]];
            let (_, all) = write(&disk, &mut session, &pieces);
            let disk = sim.power_cut().disk();
            let (Ok(content), Ok(Some((mut session, _)))) =
                (disk.open("content", Mode::Read), Session::found(&disk, "s".into()))
            else {
                continue;
            };
            let verified = session.verify(&disk, &content).unwrap();
            let bytes = verified.map_or(0, |(bytes, _)| bytes) as usize;
            assert_eq!(content.read_all(1 << 20).unwrap()[..bytes], all[..bytes], "seed {seed}");
            kept.insert(bytes);
        }
        assert!(kept.contains(&0) && kept.contains(&all_bytes()), "{kept:?}");
    }

    fn all_bytes() -> usize {
        3600
    }
}
