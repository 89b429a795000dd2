//! A store without a disk, for tests and simulations: the same answers as the embedded one, forgotten with the process.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::feed::Feed;
use super::retention::Retention;
use super::watch::{History, Watch};
use super::{Batch, Change, Entry, Error, EventLog, List, Listing, Op, Revision, Store, Txn, TxnOutcome};

/// A [`Store`] in memory.
pub struct MemoryStore {
    shared: Arc<Shared>,
    events: EventLog,
}

struct Shared {
    state: Mutex<State>,
    feed: Arc<Feed>,
}

struct State {
    revision: Revision,
    oldest: Revision,
    /// The versions of each key, oldest first; `None` is a deletion.
    versions: BTreeMap<Arc<str>, Vec<(Revision, Option<Entry>)>>,
    /// The transactions after `oldest`.
    log: VecDeque<Arc<Batch>>,
    retention: Retention,
}

impl MemoryStore {
    pub fn new() -> Self {
        let state = State {
            revision: Revision::ZERO,
            oldest: Revision::ZERO,
            versions: BTreeMap::new(),
            log: VecDeque::new(),
            retention: Retention::new(Revision::ZERO),
        };
        let shared = Shared { state: Mutex::new(state), feed: Feed::new(Revision::ZERO) };
        Self { shared: Arc::new(shared), events: EventLog::new([], || ()) }
    }

    pub fn events(&self) -> EventLog {
        self.events.clone()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for MemoryStore {
    fn drop(&mut self) {
        self.shared.feed.close();
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn commit(&self, txn: Txn) -> Result<TxnOutcome, Error> {
        txn.check()?;
        let mut state = self.shared.lock();
        for compare in &txn.compares {
            let found = state.read(compare.key(), state.revision);
            if !compare.holds(found) {
                return Ok(TxnOutcome::Refused { found: found.cloned(), compare: compare.clone() });
            }
        }
        if let Some(batch) = state.apply(&txn.ops) {
            // Under the lock, so that transactions are published in their order.
            self.shared.feed.publish([batch]);
        }
        Ok(TxnOutcome::Committed(state.revision))
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        let state = self.shared.lock();
        Ok(state.read(key, state.revision).cloned())
    }

    async fn list(&self, list: List) -> Result<Listing, Error> {
        let state = self.shared.lock();
        let revision = list.at.unwrap_or(state.revision);
        state.check(revision)?;
        let from = match &list.after {
            Some(after) if *after >= list.prefix => Bound::Excluded(after.as_str()),
            _ => Bound::Included(list.prefix.as_str()),
        };
        let mut entries = state
            .versions
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(&list.prefix))
            .filter_map(|(_, versions)| at(versions, revision));
        let page: Vec<Entry> = entries.by_ref().take(list.limit).cloned().collect();
        Ok(Listing { revision, entries: page, more: entries.next().is_some() })
    }

    fn watch(&self, prefix: &str, after: Revision) -> Watch {
        Watch::new(prefix, after, self.shared.feed.clone(), self.shared.clone())
    }

    async fn compact(&self, before: Revision) -> Result<(), Error> {
        let mut state = self.shared.lock();
        if before > state.revision {
            return Err(Error::Future { wanted: before, current: state.revision });
        }
        state.compact(before);
        Ok(())
    }

    async fn revision(&self) -> Result<Revision, Error> {
        Ok(self.shared.lock().revision)
    }
}

#[async_trait]
impl History for Arc<Shared> {
    async fn after(&self, revision: Revision) -> Result<Vec<Arc<Batch>>, Error> {
        let state = self.lock();
        state.check(revision)?;
        let known = usize::try_from(revision.get() - state.oldest.get()).unwrap_or(usize::MAX);
        Ok(state.log.iter().skip(known).cloned().collect())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn read(&self, key: &str, revision: Revision) -> Option<&Entry> {
        self.versions.get(key).and_then(|versions| at(versions, revision))
    }

    fn check(&self, wanted: Revision) -> Result<(), Error> {
        if wanted < self.oldest {
            return Err(Error::Compacted { wanted, oldest: self.oldest });
        }
        if wanted > self.revision {
            return Err(Error::Future { wanted, current: self.revision });
        }
        Ok(())
    }

    fn apply(&mut self, ops: &[Op]) -> Option<Arc<Batch>> {
        let revision = self.revision.next();
        let mut changes = Vec::with_capacity(ops.len());
        for op in ops {
            let before = self.read(op.key(), self.revision).cloned();
            let after = match op {
                Op::Delete { .. } if before.is_none() => continue,
                Op::Delete { .. } => None,
                Op::Put { key, value } => {
                    let created = before.as_ref().map_or(revision, |entry| entry.created);
                    Some(Entry { key: key.clone(), value: value.clone(), created, modified: revision })
                }
            };
            self.versions.entry(op.key().clone()).or_default().push((revision, after.clone()));
            changes.push(Change { key: op.key().clone(), before, after });
        }
        if changes.is_empty() {
            return None;
        }
        let batch = Arc::new(Batch { revision, changes });
        self.revision = revision;
        self.log.push_back(batch.clone());
        self.retention.add(batch.bytes());
        if let Some(before) = self.retention.due() {
            self.compact(before);
        }
        Some(batch)
    }

    fn compact(&mut self, before: Revision) {
        while self.oldest < before {
            self.oldest = self.oldest.next();
            let Some(batch) = self.log.pop_front() else { break };
            for change in &batch.changes {
                let Some(versions) = self.versions.get_mut(&change.key) else { continue };
                let superseded = versions.partition_point(|(revision, _)| *revision < batch.revision);
                versions.drain(..superseded + usize::from(change.after.is_none()));
                if versions.is_empty() {
                    self.versions.remove(&change.key);
                }
            }
        }
        self.retention.compacted(self.oldest);
    }
}

fn at(versions: &[(Revision, Option<Entry>)], revision: Revision) -> Option<&Entry> {
    let newer = versions.partition_point(|(written, _)| *written <= revision);
    versions[..newer].last().and_then(|(_, entry)| entry.as_ref())
}
