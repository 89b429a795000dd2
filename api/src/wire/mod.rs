//! What the control plane and a node say to each other over the link.
//!
//! A node dials out and says [`FromNode::Hello`]; the control plane answers with the node's whole desired set and routes,
//! then with what changed. Everything sent to a node carries a [`Fence`]: a node refuses an older one, so that a control
//! plane that was replaced or restored cannot undo what its successor ordered. A delta names the fence it builds on; a
//! node that holds another one asks for the whole set again ([`FromNode::Resync`]).

mod fence;
mod from_node;
pub mod join;
mod to_node;

pub use fence::{Base, Fence};
pub use from_node::{FromNode, Hello, LogLine, NodeEvent, Observed, Stream};
pub use to_node::{Assignment, Desired, Endpoint, Exec, LogQuery, Routes, ServiceRoutes, Task, ToNode, TunnelTo};

/// How long a node holds its lease after it asked for it: long enough for a control plane to be restarted meanwhile.
pub const LEASE_MS: u64 = 30_000;
/// How often a node asks, while it has what needs a lease.
pub const LEASE_ASK_MS: u64 = 5_000;
/// How long after a control plane has last answered a node it gives away what was there. Two clocks run beside one another,
/// and none is that much faster.
pub const LEASE_LAPSES_MS: u64 = 33_000;

/// The version of these messages.
pub const PROTOCOL: u32 = 1;
