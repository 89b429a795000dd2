//! What a store holds and hands out: revisions, entries, listings and the changes of one transaction.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

/// A point in the store's history: one for each transaction that changed something, from 1 on, without gaps. 0 is the
/// empty store before the first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

impl Revision {
    pub const ZERO: Self = Self(0);

    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    pub const fn get(self) -> u64 {
        self.0
    }

    pub(super) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One version of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: Arc<str>,
    pub value: Bytes,
    /// Where the key came into being; a key that was deleted and put again starts anew.
    pub created: Revision,
    /// Where this version was written.
    pub modified: Revision,
}

/// What to list: [`List::prefix`], narrowed by the other methods.
#[derive(Debug, Clone)]
pub struct List {
    pub(super) prefix: String,
    pub(super) at: Option<Revision>,
    pub(super) limit: usize,
    pub(super) after: Option<String>,
}

impl List {
    /// All keys that begin with `prefix`, as they are now.
    pub fn prefix(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), at: None, limit: usize::MAX, after: None }
    }

    /// As they were at a revision, for a list read in pages or read again.
    pub fn at(mut self, revision: Revision) -> Self {
        self.at = Some(revision);
        self
    }

    /// At most `entries`.
    pub fn limit(mut self, entries: usize) -> Self {
        self.limit = entries;
        self
    }

    /// Only keys behind this one: the last key of the page before.
    pub fn after(mut self, key: impl Into<String>) -> Self {
        self.after = Some(key.into());
        self
    }
}

/// One page of a list, in the order of the keys' bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// What was read; watch after it to miss nothing, and pass it to [`List::at`] for the next page.
    pub revision: Revision,
    pub entries: Vec<Entry>,
    /// The limit cut the list short.
    pub more: bool,
}

/// What a transaction did to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub key: Arc<str>,
    pub before: Option<Entry>,
    /// `None`: the key was deleted.
    pub after: Option<Entry>,
}

/// All that one transaction changed, in the order of its operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub revision: Revision,
    pub changes: Vec<Change>,
}

impl Batch {
    /// What it keeps in memory or on disk, roughly: the sum of its keys and values.
    pub(super) fn bytes(&self) -> usize {
        self.changes.iter().map(|c| c.key.len() + c.after.as_ref().map_or(0, |e| e.value.len())).sum()
    }

    /// The part of it that concerns a prefix, if any.
    pub(super) fn filtered(&self, prefix: &str) -> Option<Self> {
        let changes: Vec<Change> = self.changes.iter().filter(|c| c.key.starts_with(prefix)).cloned().collect();
        (!changes.is_empty()).then_some(Self { revision: self.revision, changes })
    }
}
