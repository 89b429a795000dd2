//! `skiff restore FILE`: an empty data folder becomes what the backup was.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Component, Path};
use std::process::ExitCode;

use jiff::Timestamp;
use rustix::fs::syncfs;
use serde::de::DeserializeOwned;
use skiff_api::Digest;
use skiff_api::digest::Algorithm;
use skiff_disk::{Disk, Mode, write_atomic};
use skiff_keyvalue::{Engine, KEYS_MAX, OP_BYTES_MAX, Op, Value};
use skiff_registry::hash::Hasher;
use skiff_scheduler::backup::{Item, import, raise_epoch};
use skiff_scheduler::store::RedbStore;

use super::file::{End, Head, VERSION};
use crate::Outcome;
use crate::args::RestoreArgs;
use crate::exit::{Exit, Failure};
use crate::verbs::serving::control::BUCKETS;
use crate::verbs::serving::data::{self, BUCKETS_FILE, Data, RESTORING, SECRETS_KEY};

/// All but the content of blobs: a page of the store has some megabytes.
const ENTRY_BYTES_MAX: u64 = 1 << 30;
const COPY_BYTES: usize = 256 << 10;

pub(in crate::verbs) async fn run(args: RestoreArgs) -> Outcome {
    let folder = data::folder(args.data)?;
    if folder.is_dir() && std::fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) {
        let folder = folder.display();
        let text = format!("failed to restore into {folder}: it is not empty (hint: choose a new folder with --data)");
        return Err(Failure::message(Exit::Conflict, text));
    }
    let file = std::fs::File::open(&args.file).map_err(|error| Failure::io("read the backup", &args.file, error))?;
    let disk = Disk::real();
    let data = Data::open(&folder, &disk)?;
    let marker = data.join(RESTORING);
    write_atomic(&disk, &marker, b"").map_err(|error| Failure::io("write", &marker, error))?;
    let store =
        RedbStore::open(disk.clone(), data.join("store.redb")).map_err(|error| Failure::new(Exit::Invalid, error))?;
    let buckets = Engine::new(disk.clone(), data.join(BUCKETS_FILE), BUCKETS);
    let restore = Restore { disk: &disk, data: &data, store: &store, buckets: &buckets, entries: 0 };
    let epoch = restore.all(file).await.map_err(|why| match why {
        Broken::Backup(why) => {
            let hint = "take another backup, and delete the folder that was begun";
            Failure::message(Exit::Invalid, format!("failed to restore {}: {why} (hint: {hint})", args.file.display()))
        }
        Broken::Io(error) => Failure::io("write into", &folder, error),
    })?;
    drop((store, buckets));
    // Thousands of small files: one sync for all of them.
    let synced = std::fs::File::open(&folder).and_then(|folder| Ok(syncfs(folder)?));
    synced.map_err(|error| Failure::io("sync", &folder, error))?;
    disk.remove_file(&marker).map_err(|error| Failure::io("remove", &marker, error))?;
    disk.sync_dir(&folder).map_err(|error| Failure::io("sync", &folder, error))?;
    println!("restored {} (epoch {epoch})", folder.display());
    Ok(ExitCode::SUCCESS)
}

enum Broken {
    /// The file is not what a backup is.
    Backup(String),
    /// The folder cannot be written.
    Io(io::Error),
}

fn broken<T>(why: impl ToString) -> Result<T, Broken> {
    Err(Broken::Backup(why.to_string()))
}

struct Restore<'a> {
    disk: &'a Disk,
    data: &'a Data,
    store: &'a RedbStore,
    buckets: &'a Engine,
    entries: u64,
}

impl Restore<'_> {
    /// Reads all of a backup; answers the epoch.
    async fn all(mut self, file: std::fs::File) -> Result<u64, Broken> {
        let mut archive = tar::Archive::new(BufReader::new(file));
        let entries = archive.entries().or_else(broken)?;
        let mut ended = false;
        for entry in entries {
            let mut entry = entry.or_else(broken)?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            if ended {
                return broken("there is something behind its end");
            }
            match name.as_str() {
                "backup.json" if self.entries == 0 => {
                    let head: Head = json(&mut entry)?;
                    if head.version != VERSION {
                        return broken(format!("it has version {}, and this skiff reads {VERSION}", head.version));
                    }
                }
                _ if self.entries == 0 => return broken("it is no backup of Skiff's"),
                "token" | "authority.pem" | SECRETS_KEY => {
                    let bytes = small(&mut entry)?;
                    write_atomic(self.disk, &self.data.join(&name), &bytes).map_err(Broken::Io)?;
                }
                "end" => {
                    let end: End = json(&mut entry)?;
                    if end.entries != self.entries {
                        return broken(format!("it has {} entries, and should have {}", self.entries, end.entries));
                    }
                    ended = true;
                }
                name if name.starts_with("store/") => self.keys(&small(&mut entry)?).await?,
                name if name.starts_with("keyvalue/") => self.values(&small(&mut entry)?).await?,
                name if name.starts_with("registry/") => self.file(name, &mut entry)?,
                name => return broken(format!("{name:?} is unknown")),
            }
            self.entries += 1;
        }
        if !ended {
            return broken("it was cut off");
        }
        raise_epoch(self.store, Timestamp::now()).await.or_else(broken)
    }

    async fn keys(&self, lines: &[u8]) -> Result<(), Broken> {
        let items: Result<Vec<Item>, _> = lines.lines().map(|line| Ok(serde_json::from_str(&line?)?)).collect();
        let items = items.or_else(|error: io::Error| broken(error))?;
        import(self.store, items).await.or_else(broken)
    }

    async fn values(&self, lines: &[u8]) -> Result<(), Broken> {
        let mut op = Op::Set { entries: Vec::new() };
        let mut of = String::new();
        for line in lines.lines() {
            let line = line.or_else(broken)?;
            let (bucket, key, value): (String, String, Value) = serde_json::from_str(&line).or_else(broken)?;
            let is_full =
                matches!(&op, Op::Set { entries } if entries.len() >= KEYS_MAX) || op.bytes() > OP_BYTES_MAX / 2;
            if bucket != of || is_full {
                self.put(&of, &mut op).await?;
                of = bucket;
            }
            if let Op::Set { entries } = &mut op {
                entries.push((key, value));
            }
        }
        self.put(&of, &mut op).await
    }

    async fn put(&self, bucket: &str, op: &mut Op) -> Result<(), Broken> {
        let set = std::mem::replace(op, Op::Set { entries: Vec::new() });
        match &set {
            Op::Set { entries } if entries.is_empty() => Ok(()),
            _ => self.buckets.run(bucket, set).await.map(drop).map_err(|error| match error {
                skiff_keyvalue::Error::Refused(refusal) => Broken::Backup(refusal.to_string()),
                error => Broken::Io(io::Error::other(error)),
            }),
        }
    }

    fn file(&self, name: &str, content: &mut impl Read) -> Result<(), Broken> {
        let relative = Path::new(name);
        if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
            return broken(format!("{name:?} leaves the folder"));
        }
        let path = self.data.path().join(relative);
        if let Some(folder) = path.parent() {
            self.disk.create_dir_all(folder).map_err(Broken::Io)?;
        }
        let digest = digest_of(relative);
        let mut hasher = digest.as_ref().map(|digest| Hasher::new(digest.algorithm()));
        let file = self.disk.open(&path, Mode::CreateNew).map_err(Broken::Io)?;
        let (mut buffer, mut at) = (vec![0; COPY_BYTES], 0);
        loop {
            let read = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) => return broken(error),
            };
            let bytes = &buffer[..read];
            if let Some(hasher) = &mut hasher {
                hasher.update(bytes);
            }
            file.write_at(bytes, at).map_err(Broken::Io)?;
            at += read as u64;
        }
        match (hasher.map(Hasher::finish), digest) {
            (Some(found), Some(digest)) if found != digest => broken(format!("{name} is damaged")),
            _ => Ok(()),
        }
    }
}

/// What a file of `registry/blobs/ALGORITHM/AB/HEX` must have as its content.
fn digest_of(path: &Path) -> Option<Digest> {
    let parts: Vec<_> = path.iter().filter_map(|part| part.to_str()).collect();
    let ["registry", "blobs", algorithm, _, hex] = parts[..] else { return None };
    [Algorithm::Sha256, Algorithm::Sha512]
        .into_iter()
        .find(|known| known.name() == algorithm)
        .and_then(|known| format!("{}:{hex}", known.name()).parse().ok())
}

fn small(entry: &mut impl Read) -> Result<Vec<u8>, Broken> {
    let mut bytes = Vec::new();
    match entry.take(ENTRY_BYTES_MAX).read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => broken(error),
    }
}

fn json<T: DeserializeOwned>(entry: &mut impl Read) -> Result<T, Broken> {
    serde_json::from_slice(&small(entry)?).or_else(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_content_has_a_digest_in_its_path() {
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let path = |text: &str| digest_of(Path::new(text));
        assert_eq!(path(&format!("registry/blobs/sha256/ba/{hex}")).unwrap().hex(), hex);
        assert_eq!(path(&format!("registry/repositories/a/_blobs/sha256/{hex}")), None);
        assert_eq!(path("registry/version"), None);
    }
}
