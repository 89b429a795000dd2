//! The data folder: one owner, one token.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, flock};
use skiff_disk::{Disk, read_kept, write_atomic};

use crate::context::user_folder;
use crate::exit::{Exit, Failure};

/// 32 random bytes: nobody guesses them.
const TOKEN_BYTES: usize = 32;
/// Room for the token and whatever space an editor left around it.
const TOKEN_FILE_BYTES_MAX: u64 = 1024;

/// The folder that was given, or that of the user.
pub(in crate::verbs) fn folder(given: Option<PathBuf>) -> Result<PathBuf, Failure> {
    match given {
        Some(folder) => Ok(folder),
        None => Ok(user_folder("XDG_DATA_HOME", ".local/share")?.join("skiff")),
    }
}

/// What is in a folder that a restore has begun to fill.
pub(in crate::verbs) const RESTORING: &str = "restoring";

/// What Secrets are sealed with.
pub(in crate::verbs) const SECRETS_KEY: &str = "secrets.key";

/// The buckets that all nodes share.
pub(in crate::verbs) const BUCKETS_FILE: &str = "keyvalue.redb";

/// A data folder that this process owns until it ends.
#[derive(Debug)]
pub(in crate::verbs) struct Data {
    path: PathBuf,
    /// The kernel gives the lock back when the process is gone, however it goes.
    _lock: File,
}

impl Data {
    /// Makes the folder if it is missing, and takes it.
    pub(in crate::verbs) fn open(path: &Path, disk: &Disk) -> Result<Self, Failure> {
        // Before anything is done to it: a file that was named by mistake stays as it is.
        if path.exists() && !path.is_dir() {
            let path = path.display();
            let text =
                format!("failed to use the data folder {path}: it is no folder (hint: choose another with --data)");
            return Err(Failure::message(Exit::Invalid, text));
        }
        refuse_foreign(path)?;
        disk.create_dir_all(path).map_err(|error| Failure::io("make the data folder", path, error))?;
        // It holds the token and what guests store.
        rustix::fs::chmod(path, Mode::RWXU)
            .map_err(|error| Failure::io("protect the data folder", path, error.into()))?;
        let lock_path = path.join("lock");
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(|error| Failure::io("open", &lock_path, error))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(taken(path, &mut lock));
        }
        if path.join(RESTORING).exists() {
            let text = format!(
                "failed to use the data folder {}: a restore into it did not finish (hint: delete the folder, and restore again)",
                path.display()
            );
            return Err(Failure::message(Exit::Invalid, text));
        }
        // Only for the message of whoever comes second.
        let noted = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| write!(lock, "{}", std::process::id()));
        noted.map_err(|error| Failure::io("write", &lock_path, error))?;
        Ok(Self { path: path.to_path_buf(), _lock: lock })
    }

    /// The same for a control plane: what a node of another control plane has stays that node's.
    pub(in crate::verbs) fn open_control(path: &Path, disk: &Disk) -> Result<Self, Failure> {
        if path.join("node/identity").exists() {
            let path = path.display();
            let text = format!(
                "failed to use the data folder {path}: it holds a node of a fleet (hint: start that with `skiff node`, or choose another folder with --data)"
            );
            return Err(Failure::message(Exit::Conflict, text));
        }
        Self::open(path, disk)
    }

    pub(in crate::verbs) fn path(&self) -> &Path {
        &self.path
    }

    pub(in crate::verbs) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The admin token: made at the first start, kept ever after.
    pub(in crate::verbs) fn token(&self, disk: &Disk) -> Result<String, Failure> {
        token(&self.path, disk)
    }
}

/// A folder with other people's files in it was named by mistake: its rights would be changed, and files added.
fn refuse_foreign(path: &Path) -> Result<(), Failure> {
    let Ok(entries) = std::fs::read_dir(path) else { return Ok(()) };
    let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    let is_ours =
        ["lock", "token", "store.redb", "authority.pem"].iter().any(|ours| names.iter().any(|name| name == ours));
    // The one name is what a fresh file system of its own begins with.
    let is_empty = names.iter().all(|name| name == "lost+found");
    match is_ours || is_empty {
        true => Ok(()),
        false => {
            let path = path.display();
            let text = format!(
                "failed to use the data folder {path}: it holds files that are not Skiff's (hint: choose an empty or new folder with --data)"
            );
            Err(Failure::message(Exit::Invalid, text))
        }
    }
}

fn token(folder: &Path, disk: &Disk) -> Result<String, Failure> {
    let path = folder.join("token");
    let kept = read_kept(disk, &path, TOKEN_FILE_BYTES_MAX).map_err(|error| Failure::io("read", &path, error))?;
    if let Some(text) = kept {
        let text = String::from_utf8(text).unwrap_or_default();
        return match text.trim().len() == TOKEN_BYTES * 2 {
            true => Ok(text.trim().to_owned()),
            false => Err(Failure::message(
                Exit::Invalid,
                format!(
                    "failed to read the token in {}: it is damaged (hint: delete the file; a new token is made at the next start)",
                    path.display()
                ),
            )),
        };
    }
    let token = random_token()?;
    write_atomic(disk, &path, token.as_bytes()).map_err(|error| Failure::io("write", &path, error))?;
    Ok(token)
}

/// A token that nobody has yet.
pub(super) fn random_token() -> Result<String, Failure> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::message(Exit::Internal, format!("failed to make a token: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn taken(path: &Path, lock: &mut File) -> Failure {
    let mut owner = String::new();
    let owner = match lock.read_to_string(&mut owner) {
        Ok(_) if !owner.is_empty() => format!("process {owner}"),
        _ => "another process".to_owned(),
    };
    let text = format!(
        "failed to use the data folder {}: {owner} is using it (hint: stop that one, or choose another folder with --data)",
        path.display()
    );
    Failure::message(Exit::InUse, text)
}

#[cfg(test)]
mod tests {
    use skiff_disk::sim::{SimDisk, assert_made_once};

    use super::*;

    const FOLDER: &str = "/var/skiff";

    fn start(sim: &SimDisk) -> Option<String> {
        let disk = sim.disk();
        disk.create_dir_all(FOLDER).ok()?;
        token(FOLDER.as_ref(), &disk).ok()
    }

    #[test]
    fn the_token_survives_kills_and_power_cuts_and_needs_each_sync() {
        assert_made_once(|sim, _| start(sim));
    }
}
