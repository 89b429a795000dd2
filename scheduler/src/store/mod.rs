//! Where the control plane keeps what it must not forget.
//!
//! Keys are paths such as `/services/shop/cart`, values are bytes. The semantics are etcd's, because every controller
//! rests on them and because etcd itself is to fit behind [`Store`]: one [`Revision`] per transaction, compare-and-swap
//! over several keys, lists at a revision, watches that deliver whole durable transactions in order and say so when they
//! cannot. The way to follow a prefix is always the same: [`Store::list`], then [`Store::watch`] after the revision that
//! the list answered; on [`Error::Compacted`], from the beginning.

mod contract;
mod entry;
mod error;
mod events;
mod feed;
mod memory;
mod redb;
mod retention;
mod txn;
mod watch;

pub use contract::Store;
pub use entry::{Batch, Change, Entry, List, Listing, Revision};
pub use error::{Cause, Error};
pub use events::{EVENTS_MAX, Event, EventLog};
pub use memory::MemoryStore;
pub use redb::RedbStore;
pub use txn::{Compare, KEY_BYTES_MAX, OPERATIONS_MAX, Op, TXN_BYTES_MAX, Txn, TxnOutcome};
pub use watch::Watch;
