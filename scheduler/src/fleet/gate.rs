//! Who is let in no more.
//!
//! All of it is in memory, so that asking costs nothing: a machine that was removed is one key in the store, for ever, for
//! its certificate may be renewed when it has expired.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use skiff_api::Uid;
use skiff_link::Peer;
use tokio::sync::watch;

use crate::objects::key;
use crate::store::{self, List, Store};

/// Why a certificate that the cluster's authority issued is not enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the node was removed from the cluster")]
    Revoked,
    #[error("the certificate has expired")]
    Expired,
}

/// Knows who was removed. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gate(Arc<watch::Sender<HashSet<Uid>>>);

impl Gate {
    pub(super) async fn load(store: &dyn Store) -> Result<Self, store::Error> {
        let listing = store.list(List::prefix(key::REVOKED)).await?;
        let uids = listing.entries.iter().filter_map(|entry| entry.key.strip_prefix(key::REVOKED));
        Ok(Self(Arc::new(watch::Sender::new(uids.map(Uid::new).collect()))))
    }

    /// Whether a node may link and pull.
    pub fn admit(&self, peer: &Peer, now: Timestamp) -> Result<(), Refusal> {
        match () {
            () if self.is_revoked(&peer.uid) => Err(Refusal::Revoked),
            () if peer.is_expired(now) => Err(Refusal::Expired),
            () => Ok(()),
        }
    }

    pub fn is_revoked(&self, uid: &Uid) -> bool {
        self.0.borrow().contains(uid)
    }

    /// Waits until the machine is removed, which it may never be.
    pub async fn revoked(&self, uid: &Uid) {
        // The sender is held by this very gate.
        let _ = self.0.subscribe().wait_for(|uids| uids.contains(uid)).await;
    }

    /// The machine is removed; the store knows already.
    pub(crate) fn revoke(&self, uid: &Uid) {
        self.0.send_modify(|uids| _ = uids.insert(uid.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MemoryStore, Txn, TxnOutcome};

    #[tokio::test]
    async fn who_was_removed_stays_out_and_learns_of_it_at_once() {
        let store = MemoryStore::new();
        let written = store.commit(Txn::new().put(key::revoked(&Uid::new("a")), "x")).await.unwrap();
        assert!(matches!(written, TxnOutcome::Committed(_)));
        let gate = Gate::load(&store).await.unwrap();
        let (now, later) = (Timestamp::from_second(10).unwrap(), Timestamp::from_second(20).unwrap());
        let peer = |uid: &str| Peer { uid: Uid::new(uid), not_after: later };
        assert_eq!(gate.admit(&peer("a"), now), Err(Refusal::Revoked));
        assert_eq!(gate.admit(&peer("b"), now), Ok(()));
        assert_eq!(gate.admit(&peer("b"), Timestamp::from_second(21).unwrap()), Err(Refusal::Expired));
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.revoked(&Uid::new("b")).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        gate.revoke(&Uid::new("b"));
        waiting.await.unwrap();
        assert_eq!(gate.admit(&peer("b"), now), Err(Refusal::Revoked));
    }
}
