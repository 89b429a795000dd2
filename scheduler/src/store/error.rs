//! What a store can answer instead of a result.

use std::sync::Arc;

use super::Revision;
use super::txn::{KEY_BYTES_MAX, OPERATIONS_MAX, TXN_BYTES_MAX};

/// The cause below an error. Shared, for one failed disk write fails every transaction of its group.
pub type Cause = Arc<dyn std::error::Error + Send + Sync>;

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("failed to open the store {path} (hint: is the disk full, or the file someone else's?)")]
    Open {
        path: String,
        #[source]
        source: Cause,
    },
    #[error(
        "failed to read the store {path}: it is damaged (hint: restore it from a backup, or start with an empty data folder)"
    )]
    Corrupt {
        path: String,
        #[source]
        source: Cause,
    },
    #[error(
        "failed to open the store {path}: a newer skiff wrote it, in format {found} where this one knows {known} (hint: run the newer version)"
    )]
    NewerFormat { path: String, found: u64, known: u64 },
    #[error("failed to commit: nothing was changed (hint: is the disk full?)")]
    Write {
        #[source]
        source: Cause,
    },
    #[error(
        "failed to make the store durable; it takes no writes until it is opened again, which also tells what of the last ones was kept (hint: check the disk, then restart)"
    )]
    Sync {
        #[source]
        source: Cause,
    },
    #[error("failed to read the store")]
    Read {
        #[source]
        source: Cause,
    },
    #[error("failed to use the store: it is closed")]
    Closed,
    #[error(
        "failed to read at revision {wanted}: history begins at {oldest} (hint: list again, then watch from there)"
    )]
    Compacted { wanted: Revision, oldest: Revision },
    #[error(
        "failed to read at revision {wanted}: the store is at {current} (hint: was it restored from a backup? list again)"
    )]
    Future { wanted: Revision, current: Revision },
    #[error(
        "failed to commit {count} compares or operations: a transaction takes {OPERATIONS_MAX} of each (hint: split it)"
    )]
    TooManyOperations { count: usize },
    #[error(
        "failed to commit {bytes} bytes: a transaction takes {TXN_BYTES_MAX} (hint: split it, or make the object smaller)"
    )]
    TooLarge { bytes: usize },
    #[error("failed to commit two operations on {key}: a transaction writes a key once")]
    DuplicateKey { key: Arc<str> },
    #[error("failed to use key {key:?}: a key has 1 to {KEY_BYTES_MAX} bytes")]
    BadKey { key: Arc<str> },
}
