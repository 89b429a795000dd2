//! What the control plane last told the node, kept so that the node needs no control plane to come back.
//!
//! Two sets, the desired replicas and the routes, each with a file of its own and a journal of what changed since, both
//! written only when it changed. A set is on disk before the node acts on it: what a node does after a crash is never older than
//! what it did before.

mod file;
mod identity;
mod kept;
mod set;

pub use file::{StateError, StateFiles};
pub use identity::Identity;
pub use kept::{Appended, Change, Kept};
pub use set::{Set, Verdict};
