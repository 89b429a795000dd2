//! The store's part of a backup, and how it is put back.
//!
//! A backup has every key as it was at one revision. Put back into an empty store, keys have new revisions, which only
//! watchers notice: they list again. What nodes notice is the fence: its epoch is raised beyond that of the backup and of
//! every other restore of it, so that nodes which have seen later terms than the backup's accept what the restored control
//! plane sends, and go on running what still matches.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::controllers::EPOCH;
use crate::store::{Error, List, Revision, Store, Txn, TxnOutcome};

/// Keys that are read at once: some megabytes at most.
const PAGE_KEYS: usize = 500;
/// Below what a transaction may have.
const TXN_KEYS: usize = 64;
const TXN_BYTES: usize = 512 << 10;

/// One key of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    pub key: String,
    /// Base64.
    pub value: String,
}

/// Reads a store as of one revision, page by page.
pub struct Export {
    store: Arc<dyn Store>,
    at: Option<Revision>,
    after: Option<String>,
    ended: bool,
}

impl Export {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, at: None, after: None, ended: false }
    }

    /// The next keys; nothing at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<Item>>, Error> {
        if self.ended {
            return Ok(None);
        }
        let mut list = List::prefix("").limit(PAGE_KEYS);
        list = self.at.into_iter().fold(list, List::at);
        list = self.after.take().into_iter().fold(list, List::after);
        let listing = self.store.list(list).await?;
        self.at = Some(listing.revision);
        self.after = listing.entries.last().map(|entry| entry.key.to_string());
        self.ended = !listing.more || self.after.is_none();
        let item =
            |entry: &crate::store::Entry| Item { key: entry.key.to_string(), value: STANDARD.encode(&entry.value) };
        Ok(Some(listing.entries.iter().map(item).collect()))
    }
}

/// Why keys could not be put back.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("the value of {key} is damaged")]
    Damaged { key: String },
    #[error("{key} is there already")]
    NotEmpty { key: String },
    #[error(transparent)]
    Store(#[from] Error),
}

/// Puts keys into a store that has none of them.
pub async fn import(store: &dyn Store, items: Vec<Item>) -> Result<(), ImportError> {
    let mut txn = Txn::new();
    for Item { key, value } in items {
        let Ok(value) = STANDARD.decode(&value) else { return Err(ImportError::Damaged { key }) };
        if txn.ops().len() >= TXN_KEYS || txn.bytes() + key.len() + value.len() > TXN_BYTES {
            commit(store, std::mem::take(&mut txn)).await?;
        }
        txn = txn.require_absent(key.as_str()).put(key, value);
    }
    match txn.ops() {
        [] => Ok(()),
        _ => commit(store, txn).await,
    }
}

/// Makes what is sent to nodes from now on newer than all that they have seen of this cluster.
pub async fn raise_epoch(store: &dyn Store, now: Timestamp) -> Result<u64, ImportError> {
    let entry = store.get(EPOCH).await?;
    let before = entry.as_ref().and_then(|entry| std::str::from_utf8(&entry.value).ok()?.parse::<u64>().ok());
    // A later restore of the same backup is newer than an earlier one.
    let epoch = before.unwrap_or(0).saturating_add(1).max(u64::try_from(now.as_second()).unwrap_or(0));
    commit(store, Txn::new().put(EPOCH, epoch.to_string())).await?;
    Ok(epoch)
}

async fn commit(store: &dyn Store, txn: Txn) -> Result<(), ImportError> {
    match store.commit(txn).await? {
        TxnOutcome::Committed(_) => Ok(()),
        TxnOutcome::Refused { compare, .. } => Err(ImportError::NotEmpty { key: compare.key().to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    async fn all(store: &Arc<dyn Store>) -> Vec<Item> {
        let (mut export, mut items) = (Export::new(Arc::clone(store)), Vec::new());
        while let Some(page) = export.next().await.unwrap() {
            items.extend(page);
        }
        items
    }

    #[tokio::test]
    async fn every_key_comes_back_as_of_one_moment_and_the_epoch_is_higher() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        for number in 0..1234 {
            let key = format!("/objects/x/{number:05}");
            commit(&*store, Txn::new().put(key, vec![0xff, number as u8])).await.unwrap();
        }
        commit(&*store, Txn::new().put(EPOCH, "7")).await.unwrap();
        let before = all(&store).await;
        assert_eq!(before.len(), 1235);
        // What is written while it is read is not in it.
        let mut export = Export::new(Arc::clone(&store));
        let first = export.next().await.unwrap().unwrap();
        commit(&*store, Txn::new().put("/objects/x/01233", "later").put("/zzz", "later")).await.unwrap();
        let mut read = first;
        while let Some(page) = export.next().await.unwrap() {
            read.extend(page);
        }
        assert_eq!(read, before);

        let other: Arc<dyn Store> = Arc::new(MemoryStore::new());
        import(&*other, read.clone()).await.unwrap();
        assert_eq!(all(&other).await, before);
        assert!(matches!(import(&*other, read).await, Err(ImportError::NotEmpty { .. })));
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(raise_epoch(&*other, at(3)).await.unwrap(), 8);
        assert_eq!(raise_epoch(&*other, at(1_000)).await.unwrap(), 1_000);
        let damaged = Item { key: "/a".to_owned(), value: "!".to_owned() };
        assert!(matches!(import(&*other, vec![damaged]).await, Err(ImportError::Damaged { .. })));
    }
}
