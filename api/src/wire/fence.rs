//! The order of what is sent to a node.

use serde::{Deserialize, Serialize};

/// Orders everything that is sent to a node: the cluster's epoch (raised by a restore), the leader's term (raised by each
/// start of a control plane), and a counter within it. The order of the fields is the order of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Fence {
    pub epoch: u64,
    pub term: u64,
    pub counter: u64,
}

/// What a set builds on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Base {
    /// It is the whole: what it does not name is no longer wanted.
    Whole,
    /// It changes the set that came with this fence.
    After(Fence),
}
