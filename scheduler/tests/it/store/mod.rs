//! The store's contract, run against every backend, and what only the embedded one must withstand.

mod contract;
mod damage;
mod oracle;
mod power;

use std::sync::Arc;

use skiff_disk::sim::SimDisk;
use skiff_scheduler::store::{List, Listing, MemoryStore, RedbStore, Revision, Store, Txn, TxnOutcome};

/// SplitMix64: every test that draws says its seed when it fails.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }
}

fn memory() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new())
}

fn redb() -> Arc<dyn Store> {
    Arc::new(open(&SimDisk::new(0)))
}

fn open(sim: &SimDisk) -> RedbStore {
    RedbStore::open(sim.disk(), "/store").unwrap()
}

async fn commit(store: &dyn Store, txn: Txn) -> Revision {
    match store.commit(txn).await.unwrap() {
        TxnOutcome::Committed(revision) => revision,
        refused @ TxnOutcome::Refused { .. } => panic!("{refused:?}"),
    }
}

async fn list(store: &dyn Store, list: List) -> Vec<String> {
    pairs(&store.list(list).await.unwrap())
}

fn pairs(listing: &Listing) -> Vec<String> {
    listing.entries.iter().map(|e| format!("{}={}", e.key, String::from_utf8_lossy(&e.value))).collect()
}

fn rev(number: u64) -> Revision {
    Revision::new(number)
}
