//! A node: it runs what the control plane assigned to it, and answers requests for it.
//!
//! ```text
//! link --> reconcile --plan--> artifact (pull) --> compile --> sandbox --> gateway <-- clients
//!             |  ^                                               |
//!             v  '---- state (survives without a control plane)  '--> logs
//! ```

pub mod artifact;
pub mod capabilities;
mod capacity;
pub mod compile;
pub mod gateway;
pub mod link;
pub mod logs;
mod metrics;
mod node;
pub mod plan;
mod reconcile;
pub mod sandbox;
pub mod state;

pub use node::{Error, Node, NodeHandle, NodeOptions};
