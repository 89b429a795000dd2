//! One set on disk: all of it in one file, and what changed since in another.
//!
//! ```text
//! NAME.json     the whole set, replaced as one       <-- the whole comes anew, or the journal has grown as long as this
//! NAME.journal  a line for each change since         <-- a change: one line and one fsync, however large the set is
//! ```
//! Reading takes the whole, then each change that builds on what was read so far. Changes that are older than the whole are
//! passed over: a crash between writing the whole and emptying the journal leaves them there.
//!
//! **Recovery.** A line carries a checksum of itself. The first that is not sound was being written when the power went,
//! so nobody has acted on it; reading ends there, and the next write is of the whole. The same after a write that failed:
//! what stands in the journal then is anyone's guess.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Debug, Write};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use skiff_api::wire::{Base, Fence};
use skiff_disk::{Disk, File, Mode, write_atomic};

use super::file::StateError;
use super::set::{Set, Verdict};

/// Raised when an older Skiff would misread the files. Fields that it does not know it ignores anyway.
const VERSION: u32 = 1;

/// Ten thousand replicas take some 10 MiB; a larger file is no file of ours.
const BYTES_MAX: u64 = 256 << 20;

/// A shorter journal is not worth writing the whole for: reading it takes a millisecond.
const JOURNAL_BYTES_MIN: u64 = 256 << 10;

/// Of a checksum, in hex: enough against accidents, which is all that it is for.
const SUM_CHARS: usize = 16;

/// A set's files.
pub struct Kept<K, V>(Arc<Inner<K, V>>);

/// A thing as it is on the disk, if that is another.
type Hide<V> = Box<dyn Fn(&V) -> Option<V> + Send + Sync>;

/// What things look like on the disk, where that is something else than what they are.
pub(super) struct Veil<V> {
    /// Nothing where a thing has nothing to hide.
    pub(super) hide: Hide<V>,
    pub(super) show: Box<dyn Fn(V) -> V + Send + Sync>,
}

impl<V> Veil<V> {
    /// Everything may be seen.
    pub(super) fn none() -> Self {
        Self { hide: Box::new(|_| None), show: Box::new(|item| item) }
    }

    fn hidden<'a>(&self, item: &'a V) -> Cow<'a, V>
    where
        V: Clone,
    {
        (self.hide)(item).map_or(Cow::Borrowed(item), Cow::Owned)
    }
}

impl<K, V> Debug for Kept<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("whole", &self.0.whole).finish_non_exhaustive()
    }
}

impl<K, V> Clone for Kept<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Inner<K, V> {
    disk: Disk,
    whole: PathBuf,
    journal: PathBuf,
    key: fn(&V) -> K,
    veil: Veil<V>,
    place: Mutex<Place>,
}

/// Where the next change goes.
#[derive(Debug, Default)]
struct Place {
    whole_bytes: u64,
    /// The journal, and its end. Missing while it is not known what is in it.
    journal: Option<(File, u64)>,
}

/// A change of a set, as it was accepted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change<K, V> {
    pub fence: Fence,
    /// What it builds on.
    pub after: Fence,
    pub upsert: Vec<V>,
    pub remove: Vec<K>,
}

/// What became of changes.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    Durable,
    /// The whole set has to be written instead: the journal is long, or cannot be relied on.
    WholeWanted,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored<T> {
    version: u32,
    fence: Fence,
    items: Vec<T>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line<C> {
    version: u32,
    #[serde(flatten)]
    change: C,
}

#[derive(Debug, Deserialize)]
struct Version {
    version: u32,
}

impl<K, V> Kept<K, V>
where
    K: Ord + Clone + Serialize + DeserializeOwned,
    V: Clone + PartialEq + Serialize + DeserializeOwned,
{
    pub(super) fn new(disk: &Disk, dir: &Path, name: &str, key: fn(&V) -> K, veil: Veil<V>) -> Self {
        let [whole, journal] = ["json", "journal"].map(|kind| dir.join(format!("{name}.{kind}")));
        Self(Arc::new(Inner { disk: disk.clone(), whole, journal, key, veil, place: Mutex::default() }))
    }

    /// The set as it was last; empty if there was never any. Durable when this returns, whoever wrote it.
    pub fn read(&self) -> Result<Set<K, V>, StateError> {
        let inner = &*self.0;
        let mut place = inner.place();
        let (mut set, whole_bytes) = inner.read_whole()?;
        *place = Place { whole_bytes, journal: None };
        let unreadable = |source| StateError::Read { path: inner.journal.clone(), source };
        let file = match inner.disk.open(&inner.journal, Mode::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(set),
            file => file.map_err(unreadable)?,
        };
        let text = file.read_all(BYTES_MAX).map_err(unreadable)?;
        let sound = inner.replay(&text, &mut set)?;
        // A process that was killed may not have come to it, and what it wrote is about to be acted on.
        file.sync().map_err(unreadable)?;
        if sound == text.len() {
            place.journal = Some((file, sound as u64));
        }
        Ok(set)
    }

    /// Writes all of the set.
    pub fn write(&self, set: &Set<K, V>) -> Result<(), StateError> {
        let inner = &*self.0;
        let mut place = inner.place();
        place.journal = None;
        let items = set.items.values().map(|item| inner.veil.hidden(item)).collect();
        let stored = Stored { version: VERSION, fence: set.fence, items };
        let text = serde_json::to_vec(&stored).map_err(|error| inner.unwritable(&inner.whole, error.into()))?;
        write_atomic(&inner.disk, &inner.whole, &text).map_err(|error| inner.unwritable(&inner.whole, error))?;
        place.whole_bytes = text.len() as u64;
        // What is in the journal is older than the whole by now, so it matters to nobody whether this survives.
        match inner.disk.open(&inner.journal, Mode::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            file => {
                let emptied = file.and_then(|file| file.set_bytes(0).map(|()| file));
                place.journal = Some((emptied.map_err(|error| inner.unwritable(&inner.journal, error))?, 0));
            }
        }
        Ok(())
    }

    /// Adds changes, of which each builds on what was written before it.
    pub fn append(&self, changes: &[Change<K, V>]) -> Result<Appended, StateError> {
        let inner = &*self.0;
        let mut place = inner.place();
        let is_new = place.journal.is_none();
        let (file, end) = match place.journal.take() {
            Some(journal) => journal,
            // A journal that is there, and is not known, cannot be relied on.
            None if inner.disk.exists(&inner.journal) => return Ok(Appended::WholeWanted),
            None => {
                let made = inner.disk.open(&inner.journal, Mode::CreateNew);
                (made.map_err(|error| inner.unwritable(&inner.journal, error))?, 0)
            }
        };
        if end > JOURNAL_BYTES_MIN.max(place.whole_bytes) {
            return Ok(Appended::WholeWanted);
        }
        let written = inner.lines(changes).and_then(|text| {
            file.write_at(text.as_bytes(), end)?;
            file.sync()?;
            if is_new && let Some(dir) = inner.journal.parent() {
                inner.disk.sync_dir(dir)?;
            }
            Ok(text.len() as u64)
        });
        let bytes = written.map_err(|error| inner.unwritable(&inner.journal, error))?;
        place.journal = Some((file, end + bytes));
        Ok(Appended::Durable)
    }
}

impl<K, V> Inner<K, V> {
    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unwritable(&self, path: &Path, source: io::Error) -> StateError {
        StateError::Write { path: path.to_owned(), source }
    }
}

impl<K: Ord + DeserializeOwned, V: PartialEq + DeserializeOwned> Inner<K, V> {
    fn read_whole(&self) -> Result<(Set<K, V>, u64), StateError> {
        let path = &self.whole;
        let failed = |source| StateError::Read { path: path.clone(), source };
        let text = match self.disk.read(path, BYTES_MAX) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Ok((Set { fence: Fence::default(), items: BTreeMap::new() }, 0));
            }
            text => text.map_err(failed)?,
        };
        let Version { version } = serde_json::from_slice(&text).map_err(|e| failed(e.into()))?;
        if version > VERSION {
            return Err(StateError::Version { path: path.clone(), version });
        }
        let stored: Stored<V> = serde_json::from_slice(&text).map_err(|e| failed(e.into()))?;
        let items = stored.items.into_iter().map(|item| ((self.key)(&item), (self.veil.show)(item))).collect();
        Ok((Set { fence: stored.fence, items }, text.len() as u64))
    }

    /// Applies what stands in a journal, and says up to where it is sound.
    fn replay(&self, text: &[u8], set: &mut Set<K, V>) -> Result<usize, StateError> {
        let mut sound = 0;
        while let Some(length) = text[sound..].iter().position(|byte| *byte == b'\n') {
            let Some(json) = checked(&text[sound..sound + length]) else { break };
            let failed =
                |error: serde_json::Error| StateError::Read { path: self.journal.clone(), source: error.into() };
            let Version { version } = serde_json::from_slice(json).map_err(failed)?;
            if version > VERSION {
                return Err(StateError::Version { path: self.journal.clone(), version });
            }
            let Line { change, .. }: Line<Change<K, V>> = serde_json::from_slice(json).map_err(failed)?;
            let Change { fence, after, upsert, remove } = change;
            let upsert = upsert.into_iter().map(|item| ((self.key)(&item), (self.veil.show)(item)));
            match set.apply(Fence::default(), (fence, Base::After(after)), upsert, &remove) {
                // The whole has it already.
                Verdict::Accepted | Verdict::Refused | Verdict::Unchanged => {}
                Verdict::Gap => break,
            }
            sound += length + 1;
        }
        Ok(sound)
    }
}

impl<K: Clone + Serialize, V: Clone + Serialize> Inner<K, V> {
    fn lines(&self, changes: &[Change<K, V>]) -> io::Result<String> {
        let mut text = String::new();
        for Change { fence, after, upsert, remove } in changes {
            let upsert = upsert.iter().map(|item| self.veil.hidden(item)).collect();
            let change = Change { fence: *fence, after: *after, upsert, remove: remove.clone() };
            let json = serde_json::to_string(&Line { version: VERSION, change })?;
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{} {json}", sum(json.as_bytes()));
        }
        Ok(text)
    }
}

/// The JSON of a line, if it is what was written.
fn checked(line: &[u8]) -> Option<&[u8]> {
    let (head, json) = line.split_at_checked(SUM_CHARS + 1)?;
    (head[SUM_CHARS] == b' ' && head[..SUM_CHARS] == *sum(json).as_bytes()).then_some(json)
}

fn sum(json: &[u8]) -> String {
    let mut text = String::with_capacity(SUM_CHARS);
    for byte in Sha256::digest(json).iter().take(SUM_CHARS / 2) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
