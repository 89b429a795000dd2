//! What transactions, compactions and events do to the tables, inside one write transaction of the database.

use std::sync::Arc;

use redb::{ReadableTable, Table, WriteTransaction};

use super::tables::{
    EVENTS, LOG, LogKey, Logged, META, META_OLDEST, META_REVISION, Span, VERSIONS, Version, VersionKey, newest,
};
use crate::store::events::Unsaved;
use crate::store::retention::Retention;
use crate::store::{Batch, Change, Entry, Op, Revision, Txn, TxnOutcome};

/// Where the store is, as the writer knows it.
pub(super) struct Head {
    pub(super) span: Span,
    retention: Retention,
}

impl Head {
    pub(super) fn read(read: &redb::ReadTransaction) -> Result<Self, redb::Error> {
        let span = Span::read(&read.open_table(META)?)?;
        let mut retention = Retention::new(span.oldest);
        let mut current = None;
        for row in read.open_table(LOG)?.iter()? {
            let (at, logged) = row?;
            let (revision, bytes) = (at.value().0, usize::try_from(logged.value().1).unwrap_or(usize::MAX));
            current = match current {
                Some((same, sum)) if same == revision => Some((same, sum + bytes)),
                Some((_, sum)) => {
                    retention.add(sum);
                    Some((revision, bytes))
                }
                None => Some((revision, bytes)),
            };
        }
        current.into_iter().for_each(|(_, sum)| retention.add(sum));
        Ok(Self { span, retention })
    }

    /// What the retention policy wants forgotten now.
    pub(super) fn compaction_due(&self) -> Option<Revision> {
        self.retention.due()
    }
}

/// The open tables of a group of transactions.
pub(super) struct Tables<'t> {
    write: &'t WriteTransaction,
    versions: Table<'t, VersionKey, Version>,
    log: Table<'t, LogKey, Logged>,
    changed: bool,
}

impl<'t> Tables<'t> {
    pub(super) fn open(write: &'t WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self { write, versions: write.open_table(VERSIONS)?, log: write.open_table(LOG)?, changed: false })
    }

    /// Whether there is anything to commit. Notes the head if so.
    pub(super) fn finish(self, head: &Head) -> Result<bool, redb::Error> {
        if self.changed {
            let mut meta = self.write.open_table(META)?;
            meta.insert(META_REVISION, head.span.revision.get())?;
            meta.insert(META_OLDEST, head.span.oldest.get())?;
        }
        Ok(self.changed)
    }

    fn current(&self, key: &str) -> Result<Option<Entry>, redb::Error> {
        Ok(newest(&self.versions, key, u64::MAX)?.and_then(|(_, entry)| entry))
    }

    pub(super) fn apply(&mut self, head: &mut Head, txn: &Txn) -> Result<(TxnOutcome, Option<Batch>), redb::Error> {
        for compare in &txn.compares {
            let found = self.current(compare.key())?;
            if !compare.holds(found.as_ref()) {
                return Ok((TxnOutcome::Refused { compare: compare.clone(), found }, None));
            }
        }
        let revision = head.span.revision.next();
        let mut changes: Vec<Change> = Vec::with_capacity(txn.ops.len());
        for (op, place) in txn.ops.iter().zip(0..) {
            let before = self.current(op.key())?;
            let (after, value) = match op {
                Op::Delete { .. } if before.is_none() => continue,
                Op::Delete { .. } => (None, None),
                Op::Put { key, value } => {
                    let created = before.as_ref().map_or(revision, |entry| entry.created);
                    let entry = Entry { key: key.clone(), value: value.clone(), created, modified: revision };
                    (Some(entry), Some(value))
                }
            };
            let created = after.as_ref().map_or(0, |entry| entry.created.get());
            let bytes = op.key().len() + value.map_or(0, |value| value.len());
            self.versions.insert((&**op.key(), revision.get()), (created, value.map(|value| &**value)))?;
            self.log.insert((revision.get(), place), (&**op.key(), bytes as u64))?;
            changes.push(Change { key: op.key().clone(), before, after });
        }
        if changes.is_empty() {
            return Ok((TxnOutcome::Committed(head.span.revision), None));
        }
        self.changed = true;
        let batch = Batch { revision, changes };
        head.span.revision = revision;
        head.retention.add(batch.bytes());
        Ok((TxnOutcome::Committed(revision), Some(batch)))
    }

    /// Forgets what was superseded up to a revision: of each key that changed, all but the last version, and that, too,
    /// if it is a deletion.
    pub(super) fn compact(&mut self, head: &mut Head, before: Revision) -> Result<(), redb::Error> {
        while head.span.oldest < before {
            let revision = head.span.oldest.next();
            let mut keys: Vec<(u32, Arc<str>)> = Vec::new();
            for row in self.log.range((revision.get(), 0)..(revision.next().get(), 0))? {
                let (at, logged) = row?;
                keys.push((at.value().1, logged.value().0.into()));
            }
            for (place, key) in keys {
                if let Some((superseded, _)) = newest(&self.versions, &key, revision.get() - 1)? {
                    self.versions.remove((&*key, superseded))?;
                }
                if let Some((deletion, None)) = newest(&self.versions, &key, revision.get())? {
                    self.versions.remove((&*key, deletion))?;
                }
                self.log.remove((revision.get(), place))?;
            }
            head.span.oldest = revision;
            self.changed = true;
        }
        head.retention.compacted(head.span.oldest);
        Ok(())
    }

    pub(super) fn save(&mut self, unsaved: &Unsaved) -> Result<(), redb::Error> {
        let mut events = self.write.open_table(EVENTS)?;
        for event in &unsaved.events {
            events.insert(event.sequence, (&*event.object, &*event.value))?;
        }
        let dropped: Vec<u64> =
            events.range(..unsaved.first_kept)?.map(|row| Ok(row?.0.value())).collect::<Result<_, redb::Error>>()?;
        for sequence in dropped {
            events.remove(sequence)?;
        }
        self.changed = true;
        Ok(())
    }
}
