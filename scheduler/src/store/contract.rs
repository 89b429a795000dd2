//! The traits that every backend implements.

use async_trait::async_trait;

use super::{Entry, Error, List, Listing, Revision, Txn, TxnOutcome, Watch};

/// Revisioned keys with etcd's semantics. Held as `Arc<dyn Store>`.
///
/// - A transaction is applied whole or not at all, and is durable before it is answered. Each that changes something
///   takes the next [`Revision`].
/// - Reads see a whole number of transactions, among them every one that was answered before the read began.
/// - A dropped `commit` future may still be applied.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    async fn commit(&self, txn: Txn) -> Result<TxnOutcome, Error>;

    async fn get(&self, key: &str) -> Result<Option<Entry>, Error>;

    /// Fails with [`Error::Compacted`] or [`Error::Future`] when asked for a revision that is not there.
    async fn list(&self, list: List) -> Result<Listing, Error>;

    /// Every transaction after a revision that touches a key with this prefix. Never fails by itself: a revision that is
    /// not there is the first answer of [`Watch::next`].
    fn watch(&self, prefix: &str, after: Revision) -> Watch;

    /// Forgets what can be read only at revisions before this one. Does nothing when that is forgotten already.
    async fn compact(&self, before: Revision) -> Result<(), Error>;

    /// The last transaction's revision.
    async fn revision(&self) -> Result<Revision, Error>;
}
