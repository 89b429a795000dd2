//! A transaction: what must hold, and what to change if it does.
//!
//! Compares are all checked against the store as it was before the transaction; operations are applied only if every
//! one holds. The limits are etcd's defaults, so that what works on the embedded store works on etcd.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use super::{Entry, Error, Revision};

/// etcd's `--max-txn-ops`; it counts compares and operations apart.
pub const OPERATIONS_MAX: usize = 128;

/// Keys and values together; below etcd's `--max-request-bytes` (1.5 MiB) by what its encoding may add.
pub const TXN_BYTES_MAX: usize = 1 << 20;

/// Far above any kind, namespace and name; keeps several keys on a page of the embedded store.
pub const KEY_BYTES_MAX: usize = 1024;

/// A condition on one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    Absent { key: Arc<str> },
    Present { key: Arc<str> },
    ModifiedAt { key: Arc<str>, revision: Revision },
    CreatedAt { key: Arc<str>, revision: Revision },
}

impl Compare {
    pub fn key(&self) -> &Arc<str> {
        match self {
            Self::Absent { key }
            | Self::Present { key }
            | Self::ModifiedAt { key, .. }
            | Self::CreatedAt { key, .. } => key,
        }
    }

    pub(super) fn holds(&self, found: Option<&Entry>) -> bool {
        match self {
            Self::Absent { .. } => found.is_none(),
            Self::Present { .. } => found.is_some(),
            Self::ModifiedAt { revision, .. } => found.is_some_and(|entry| entry.modified == *revision),
            Self::CreatedAt { revision, .. } => found.is_some_and(|entry| entry.created == *revision),
        }
    }
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    Put { key: Arc<str>, value: Bytes },
    Delete { key: Arc<str> },
}

impl Op {
    pub fn key(&self) -> &Arc<str> {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// A transaction in the making: `Txn::new().require_revision(key, seen).put(key, value)`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Txn {
    pub(super) compares: Vec<Compare>,
    pub(super) ops: Vec<Op>,
}

impl Txn {
    pub fn new() -> Self {
        Self::default()
    }

    /// The key must be the version that the caller has seen.
    pub fn require_revision(mut self, key: impl Into<Arc<str>>, modified: Revision) -> Self {
        self.compares.push(Compare::ModifiedAt { key: key.into(), revision: modified });
        self
    }

    /// The key must be the same object that the caller has seen, in whatever version.
    pub fn require_created(mut self, key: impl Into<Arc<str>>, created: Revision) -> Self {
        self.compares.push(Compare::CreatedAt { key: key.into(), revision: created });
        self
    }

    pub fn require_absent(mut self, key: impl Into<Arc<str>>) -> Self {
        self.compares.push(Compare::Absent { key: key.into() });
        self
    }

    pub fn require_present(mut self, key: impl Into<Arc<str>>) -> Self {
        self.compares.push(Compare::Present { key: key.into() });
        self
    }

    pub fn put(mut self, key: impl Into<Arc<str>>, value: impl Into<Bytes>) -> Self {
        self.ops.push(Op::Put { key: key.into(), value: value.into() });
        self
    }

    /// Deletes the key; nothing happens when it is absent.
    pub fn delete(mut self, key: impl Into<Arc<str>>) -> Self {
        self.ops.push(Op::Delete { key: key.into() });
        self
    }

    pub fn compares(&self) -> &[Compare] {
        &self.compares
    }

    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// Keys and values together, as [`TXN_BYTES_MAX`] counts them.
    pub fn bytes(&self) -> usize {
        let compares: usize = self.compares.iter().map(|compare| compare.key().len()).sum();
        let ops: usize = self
            .ops
            .iter()
            .map(|op| op.key().len() + if let Op::Put { value, .. } = op { value.len() } else { 0 })
            .sum();
        compares + ops
    }

    /// Every backend calls this first, so that all refuse the same.
    pub(super) fn check(&self) -> Result<(), Error> {
        let count = self.ops.len().max(self.compares.len());
        if count > OPERATIONS_MAX {
            return Err(Error::TooManyOperations { count });
        }
        let bytes = self.bytes();
        if bytes > TXN_BYTES_MAX {
            return Err(Error::TooLarge { bytes });
        }
        self.compares.iter().map(Compare::key).chain(self.ops.iter().map(Op::key)).try_for_each(check_key)?;
        let mut written = HashSet::with_capacity(self.ops.len());
        match self.ops.iter().find(|op| !written.insert(op.key())) {
            Some(twice) => Err(Error::DuplicateKey { key: twice.key().clone() }),
            None => Ok(()),
        }
    }
}

fn check_key(key: &Arc<str>) -> Result<(), Error> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(Error::BadKey { key: key.clone() });
    }
    Ok(())
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a refused transaction changed nothing"]
pub enum TxnOutcome {
    /// Durable, at its own revision. A transaction that changed nothing (no operations, or only deletes of absent keys)
    /// takes none and answers the current one.
    Committed(Revision),
    /// Nothing was changed: this is the first compare that does not hold, and what its key is now.
    Refused { compare: Compare, found: Option<Entry> },
}

impl TxnOutcome {
    /// The revision, if it was committed.
    pub fn committed(&self) -> Option<Revision> {
        match self {
            Self::Committed(revision) => Some(*revision),
            Self::Refused { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_exact() {
        let full = (0..OPERATIONS_MAX).fold(Txn::new(), |txn, n| txn.put(format!("/k{n}"), "v").require_absent("/x"));
        assert!(full.check().is_ok());
        assert!(matches!(full.clone().delete("/more").check(), Err(Error::TooManyOperations { count: 129 })));
        assert!(matches!(full.require_present("/x").check(), Err(Error::TooManyOperations { count: 129 })));

        let value = vec![0; TXN_BYTES_MAX - 2];
        assert!(Txn::new().put("/k", value.clone()).check().is_ok());
        assert!(matches!(
            Txn::new().require_absent("/").put("/k", value).check(),
            Err(Error::TooLarge { bytes }) if bytes == TXN_BYTES_MAX + 1
        ));
    }

    #[test]
    fn a_key_is_written_once_and_is_no_longer_than_allowed() {
        assert!(matches!(
            Txn::new().put("/k", "v").delete("/k").check(),
            Err(Error::DuplicateKey { key }) if &*key == "/k"
        ));
        assert!(Txn::new().require_absent("/k").require_present("/k").put("/k", "v").check().is_ok());
        assert!(matches!(Txn::new().require_absent("").check(), Err(Error::BadKey { .. })));
        assert!(Txn::new().delete("k".repeat(KEY_BYTES_MAX)).check().is_ok());
        assert!(matches!(Txn::new().delete("k".repeat(KEY_BYTES_MAX + 1)).check(), Err(Error::BadKey { .. })));
    }
}
