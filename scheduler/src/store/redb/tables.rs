//! The tables, and how they are read.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | name | number |
//! | `versions` | key, revision | where the key was created, and the value; none: deleted |
//! | `log` | revision, place in the transaction | the key that changed, and the bytes it took |
//! | `events` | sequence | object, value |
//!
//! A value is stored once, in `versions`; the current one is the last of its key. So a list meets old
//! versions, too; it steps over a few of them and skips many.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use redb::{ReadTransaction, ReadableTable, TableDefinition};
pub(super) use skiff_disk::database::META;

use crate::store::{Batch, Change, Entry, Error, Event, List, Listing, Revision};

pub(super) type VersionKey = (&'static str, u64);
pub(super) type Version = (u64, Option<&'static [u8]>);
pub(super) type LogKey = (u64, u32);
pub(super) type Logged = (&'static str, u64);

pub(super) const VERSIONS: TableDefinition<VersionKey, Version> = TableDefinition::new("versions");
pub(super) const LOG: TableDefinition<LogKey, Logged> = TableDefinition::new("log");
pub(super) const EVENTS: TableDefinition<u64, (&str, &[u8])> = TableDefinition::new("events");

pub(super) const META_REVISION: &str = "revision";
pub(super) const META_OLDEST: &str = "oldest";

/// How many versions of one key a list walks over before it looks up the right one and goes on behind the key. A lookup
/// costs as much as some tens of steps, and most keys have few versions.
const SCANNED_MAX: usize = 16;

/// How much history is read at once for a watcher that is behind.
const CHUNK_REVISIONS: usize = 256;
const CHUNK_BYTES: usize = 1 << 20;

/// The bounds of what can be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) oldest: Revision,
    pub(super) revision: Revision,
}

impl Span {
    pub(super) fn read(meta: &impl ReadableTable<&'static str, u64>) -> Result<Self, redb::Error> {
        let number = |name: &str| Ok::<_, redb::Error>(meta.get(name)?.map_or(0, |number| number.value()));
        Ok(Self { oldest: Revision::new(number(META_OLDEST)?), revision: Revision::new(number(META_REVISION)?) })
    }

    fn check(self, wanted: Revision) -> Result<(), Error> {
        if wanted < self.oldest {
            return Err(Error::Compacted { wanted, oldest: self.oldest });
        }
        if wanted > self.revision {
            return Err(Error::Future { wanted, current: self.revision });
        }
        Ok(())
    }
}

/// The last version of a key up to a revision, and where it was written.
pub(super) fn newest(
    versions: &impl ReadableTable<VersionKey, Version>,
    key: &str,
    until: u64,
) -> Result<Option<(u64, Option<Entry>)>, redb::Error> {
    let Some(found) = versions.range((key, 0)..=(key, until))?.next_back() else { return Ok(None) };
    let (at, version) = found?;
    let (key, revision) = at.value();
    Ok(Some((revision, entry(key, revision, version.value()))))
}

fn entry(key: &str, revision: u64, (created, value): (u64, Option<&[u8]>)) -> Option<Entry> {
    value.map(|value| Entry {
        key: key.into(),
        value: Bytes::copy_from_slice(value),
        created: Revision::new(created),
        modified: Revision::new(revision),
    })
}

pub(super) fn get(read: &ReadTransaction, key: &str) -> Result<Option<Entry>, redb::Error> {
    Ok(newest(&read.open_table(VERSIONS)?, key, u64::MAX)?.and_then(|(_, entry)| entry))
}

/// The outer error is the disk's, the inner one the caller's.
pub(super) fn list(read: &ReadTransaction, list: &List) -> Result<Result<Listing, Error>, redb::Error> {
    let span = Span::read(&read.open_table(META)?)?;
    let revision = list.at.unwrap_or(span.revision);
    if let Err(e) = span.check(revision) {
        return Ok(Err(e));
    }
    let from = match &list.after {
        Some(after) if *after >= list.prefix => Bound::Excluded((after.as_str(), u64::MAX)),
        _ => Bound::Included((list.prefix.as_str(), 0)),
    };
    let versions = read.open_table(VERSIONS)?;
    let mut listing = Listing { revision, entries: Vec::new(), more: false };
    // The last version of one key that is not too new; it counts when the next key begins.
    let mut last: Option<(redb::AccessGuard<'_, VersionKey>, redb::AccessGuard<'_, Version>)> = None;
    let mut rows = versions.range::<(&str, u64)>((from, Bound::Unbounded))?;
    let mut scanned = 0;
    loop {
        let row = rows.next().transpose()?.filter(|(at, _)| at.value().0.starts_with(&list.prefix));
        let same = match (&last, &row) {
            (Some((last, _)), Some((at, _))) => last.value().0 == at.value().0,
            _ => false,
        };
        if !same && let Some((at, version)) = last.take() {
            let (key, revision) = at.value();
            if let Some(entry) = entry(key, revision, version.value()) {
                if listing.entries.len() == list.limit {
                    listing.more = true;
                    return Ok(Ok(listing));
                }
                listing.entries.push(entry);
            }
        }
        let Some((at, version)) = row else { return Ok(Ok(listing)) };
        let (key, written) = at.value();
        scanned = if same { scanned + 1 } else { 0 };
        if scanned == SCANNED_MAX {
            let newest = versions.range((key, 0)..=(key, revision.get()))?.next_back().transpose()?;
            rows = versions.range((Bound::Excluded((key, u64::MAX)), Bound::Unbounded))?;
            last = newest;
        } else if written <= revision.get() {
            last = Some((at, version));
        }
    }
}

/// Some transactions after a revision. The outer error is the disk's, the inner one the caller's.
pub(super) fn history(read: &ReadTransaction, after: Revision) -> Result<Result<Vec<Arc<Batch>>, Error>, redb::Error> {
    if let Err(e) = Span::read(&read.open_table(META)?)?.check(after) {
        return Ok(Err(e));
    }
    let (log, versions) = (read.open_table(LOG)?, read.open_table(VERSIONS)?);
    let mut batches: Vec<Batch> = Vec::new();
    let mut bytes = 0;
    for row in log.range((after.next().get(), 0)..)? {
        let (at, logged) = row?;
        let ((revision, _), (key, size)) = (at.value(), logged.value());
        let revision = Revision::new(revision);
        let before = newest(&versions, key, revision.get() - 1)?.and_then(|(_, entry)| entry);
        let now = newest(&versions, key, revision.get())?.and_then(|(_, entry)| entry);
        let change = Change { key: key.into(), before, after: now };
        if let Some(batch) = batches.last_mut().filter(|batch| batch.revision == revision) {
            batch.changes.push(change);
        } else if batches.len() == CHUNK_REVISIONS || bytes >= CHUNK_BYTES {
            // Only between transactions, for they are handed out whole.
            break;
        } else {
            batches.push(Batch { revision, changes: vec![change] });
        }
        bytes += usize::try_from(size).unwrap_or(usize::MAX);
    }
    Ok(Ok(batches.into_iter().map(Arc::new).collect()))
}

pub(super) fn events(read: &ReadTransaction) -> Result<Vec<Event>, redb::Error> {
    let mut events = Vec::new();
    for row in read.open_table(EVENTS)?.iter()? {
        let (sequence, event) = row?;
        let (object, value) = event.value();
        let value = Bytes::copy_from_slice(value);
        events.push(Event { sequence: sequence.value(), object: object.into(), value });
    }
    Ok(events)
}
