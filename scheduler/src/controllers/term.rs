//! The fence's first two parts: the cluster's epoch and this control plane's term.
//!
//! Each start of a control plane takes the next term, in one transaction that compares, so that no two ever share one.
//! Nodes refuse whatever carries an older fence: a predecessor that is still running cannot undo what this one orders.
//! The epoch comes first in the order and is raised by a restore from a backup, whose terms are older than those that
//! nodes have seen.
//!
//! **Leases of an earlier epoch.** A restored control plane knows nothing of what its predecessor assigned last, and so of whom
//! to wait for: it grants no lease before all of those have lapsed. That this was waited for is stored, once for each epoch.

use std::sync::Arc;
use std::time::Duration;

use skiff_api::wire::{Fence, LEASE_LAPSES_MS};
use tokio_util::sync::CancellationToken;

use crate::store::{self, Entry, Store, Txn, TxnOutcome};

const TERM: &str = "/cluster/term";
pub(crate) const EPOCH: &str = "/cluster/epoch";
/// The epoch in which leases are granted at once.
const LEASES: &str = "/cluster/leases";
/// How long leases of an earlier epoch may be held.
pub(super) const LEASES_LAPSE: Duration = Duration::from_millis(LEASE_LAPSES_MS);

#[derive(Debug, thiserror::Error)]
pub enum TermError {
    #[error("failed to take the next term of the control plane")]
    Store(#[from] store::Error),
    #[error("failed to read {key}: {text:?} is not a number (hint: restore the data folder from a backup)")]
    Damaged { key: &'static str, text: String },
}

/// Makes fences, each newer than all before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Term {
    last: Fence,
    /// Nobody holds a lease of an earlier epoch.
    is_settled: bool,
}

impl Term {
    /// Takes the next term.
    pub(crate) async fn take(store: &dyn Store) -> Result<Self, TermError> {
        loop {
            let (term, epoch, leases) = (store.get(TERM).await?, store.get(EPOCH).await?, store.get(LEASES).await?);
            let fence = Fence {
                epoch: number(EPOCH, epoch.as_ref())?.max(1),
                term: number(TERM, term.as_ref())? + 1,
                counter: 0,
            };
            let txn = require(Txn::new(), TERM, term.as_ref()).put(TERM, fence.term.to_string());
            let txn = require(txn, EPOCH, epoch.as_ref());
            let txn = match epoch {
                Some(_) => txn,
                None => txn.put(EPOCH, fence.epoch.to_string()).put(LEASES, fence.epoch.to_string()),
            };
            let is_settled = epoch.is_none() || number(LEASES, leases.as_ref())? == fence.epoch;
            if let TxnOutcome::Committed(_) = store.commit(txn).await? {
                return Ok(Self { last: fence, is_settled });
            }
        }
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// Waits until no lease of an earlier epoch is held, and stores that. Where that fails, the next start waits again.
    pub(crate) async fn settle(self, store: Arc<dyn Store>, stop: CancellationToken) {
        if stop.run_until_cancelled(tokio::time::sleep(LEASES_LAPSE)).await.is_none() {
            return;
        }
        if let Err(error) = store.commit(Txn::new().put(LEASES, self.last.epoch.to_string())).await {
            tracing::warn!(%error, "failed to store that leases are granted again since the restore");
        }
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.last.epoch
    }

    /// The next fence.
    pub(crate) fn next(&mut self) -> Fence {
        self.last.counter += 1;
        self.last
    }
}

fn require(txn: Txn, key: &'static str, seen: Option<&Entry>) -> Txn {
    match seen {
        Some(entry) => txn.require_revision(key, entry.modified),
        None => txn.require_absent(key),
    }
}

fn number(key: &'static str, entry: Option<&Entry>) -> Result<u64, TermError> {
    let Some(entry) = entry else { return Ok(0) };
    let text = String::from_utf8_lossy(&entry.value);
    text.parse().map_err(|_| TermError::Damaged { key, text: text.chars().take(40).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    #[tokio::test]
    async fn every_start_takes_a_higher_term_and_a_higher_epoch_beats_it() {
        let store = MemoryStore::new();
        let mut first = Term::take(&store).await.unwrap();
        let mut second = Term::take(&store).await.unwrap();
        let fences = [first.next(), first.next(), second.next()];
        assert!(fences.is_sorted() && fences[0] != fences[1], "{fences:?}");
        assert_eq!(fences[2], Fence { epoch: 1, term: 2, counter: 1 });
        let restored = Txn::new().put(EPOCH, "2").put(TERM, "0");
        assert!(store.commit(restored).await.unwrap().committed().is_some());
        assert!(Term::take(&store).await.unwrap().next() > fences[2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_epoch_waits_once_for_the_leases_of_the_one_before() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        assert!(Term::take(&*store).await.unwrap().is_settled(), "a new cluster waits for nobody");
        assert!(Term::take(&*store).await.unwrap().is_settled());
        assert!(store.commit(Txn::new().put(EPOCH, "2")).await.unwrap().committed().is_some());
        let restored = Term::take(&*store).await.unwrap();
        assert!(!restored.is_settled());
        assert!(!Term::take(&*store).await.unwrap().is_settled(), "it has not waited yet");
        restored.settle(Arc::clone(&store), CancellationToken::new()).await;
        assert!(Term::take(&*store).await.unwrap().is_settled());
    }

    #[tokio::test]
    async fn a_damaged_term_is_an_error() {
        let store = MemoryStore::new();
        assert!(store.commit(Txn::new().put(TERM, "x")).await.unwrap().committed().is_some());
        let error = Term::take(&store).await.unwrap_err();
        assert!(error.to_string().starts_with("failed to read /cluster/term: \"x\" is not a number"));
    }
}
