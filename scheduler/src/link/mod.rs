//! The control plane's end of the links to the nodes.
//!
//! ```text
//!   node ── FromNode ──> reader ──┬── Hello, Observed, Resync, Event ──> control loop ──> Session ──┐
//!                                 ├── Logs, LogsEnd ──> LogRouter ──> whoever reads                 │
//!                                 └── NoTunnel ──> Tunnels ──> whoever asked                        │
//!   node <── ToNode ── bounded queue <────────────────── try_send, never waits <────────────────────┘
//! ```
//! A [`Hub`] makes links; the control loop owns what each was told ([`Session`]). Nothing here waits for a node: a queue
//! that is full means that the node is stuck or too slow, its link is dropped, and it has to say hello again and is told
//! the whole. A node's messages wait their turn in a bounded queue of their own, so a node that floods slows down itself.
//!
//! Recovery: a link has no state that outlives it.

mod hub;
mod logs;
mod session;
mod tunnels;

pub(crate) use hub::{Arrival, LinkId, What};
pub use hub::{Hub, NodeLink};
pub use logs::LogRouter;
pub use session::{Refused, Session};
pub use tunnels::{Flow, NoSuchTunnel, Tunnels};
