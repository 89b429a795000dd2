//! A node: it runs what the control plane assigned to it, and answers requests for it.
//!
//! ```text
//! link --> reconcile --plan--> artifact (pull) --> compile --> sandbox --> gateway <-- clients
//!             |  ^                                               |
//!             v  '---- state (survives without a control plane)  '--> logs
//! ```

// A request passes through a service call into another request: whether its future is Send is a long proof.
#![recursion_limit = "256"]

pub mod artifact;
pub mod capabilities;
mod capacity;
pub mod compile;
mod docker;
mod doorway;
pub mod gateway;
mod health;
pub mod link;
pub mod logs;
mod metrics;
mod node;
pub mod plan;
mod reconcile;
pub mod sandbox;
pub mod state;
pub mod tunnel;
pub mod uplink;

pub use node::{Error, Node, NodeHandle, NodeOptions};
