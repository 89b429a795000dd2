//! What the control plane last told the node, kept so that the node needs no control plane to come back.
//!
//! Two sets, the desired replicas and the routes, each in a file of its own that is replaced as a whole, and written
//! only when it changed. A set is on disk before the node acts on it: what a node does after a crash is never older than
//! what it did before.

mod file;
mod identity;
mod set;

pub use file::{StateError, StateFiles};
pub use identity::Identity;
pub use set::{Set, Verdict};
