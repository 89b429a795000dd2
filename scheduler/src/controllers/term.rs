//! The fence's first two parts: the cluster's epoch and this control plane's term.
//!
//! Each start of a control plane takes the next term, in one transaction that compares, so that no two ever share one.
//! Nodes refuse whatever carries an older fence: a predecessor that is still running cannot undo what this one orders.
//! The epoch comes first in the order and is raised by a restore from a backup, whose terms are older than those that
//! nodes have seen.

use skiff_api::wire::Fence;

use crate::store::{self, Entry, Store, Txn, TxnOutcome};

const TERM: &str = "/cluster/term";
pub(crate) const EPOCH: &str = "/cluster/epoch";

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
}

impl Term {
    /// Takes the next term.
    pub(crate) async fn take(store: &dyn Store) -> Result<Self, TermError> {
        loop {
            let (term, epoch) = (store.get(TERM).await?, store.get(EPOCH).await?);
            let fence = Fence {
                epoch: number(EPOCH, epoch.as_ref())?.max(1),
                term: number(TERM, term.as_ref())? + 1,
                counter: 0,
            };
            let txn = require(Txn::new(), TERM, term.as_ref()).put(TERM, fence.term.to_string());
            let txn = require(txn, EPOCH, epoch.as_ref());
            let txn = if epoch.is_none() { txn.put(EPOCH, fence.epoch.to_string()) } else { txn };
            if let TxnOutcome::Committed(_) = store.commit(txn).await? {
                return Ok(Self { last: fence });
            }
        }
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

    #[tokio::test]
    async fn a_damaged_term_is_an_error() {
        let store = MemoryStore::new();
        assert!(store.commit(Txn::new().put(TERM, "x")).await.unwrap().committed().is_some());
        let error = Term::take(&store).await.unwrap_err();
        assert!(error.to_string().starts_with("failed to read /cluster/term: \"x\" is not a number"));
    }
}
