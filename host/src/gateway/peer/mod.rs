//! Requests from node to node: a service that has no replica here, or none with room, is asked for on a node that has one.
//!
//! ```text
//! gateway, guests ── no place here ──> Choice ──> Peer: pooled h2 over TLS ──> that node's peer port ──> its replica
//!                       ^                 less loaded of two, not ejected               │
//!                       └── elsewhere: gone, full, unreachable, lost ───────────────────┘ answers in x-skiff-hop
//! ```
//! **One hop.** The peer port serves what is on its own node and passes nothing on, so there are no loops, whatever two
//! nodes believe of each other. Who dials it has to be a node of this cluster by its certificate, and who is dialled the very
//! node that was meant. A header, [`hop`], says which service is asked for, how long the request is under way, and for whom
//! a guest asks; it is believed on the peer port, and taken from all other requests.
//!
//! **What is tried again, and where.** A node that has not begun with a request says so, and any request is then put to
//! another node: its replica stopped a moment ago, or it is full. So is one that could not be sent. One that was sent, and
//! whose node was then lost before it answered, is put to another node only if its method is idempotent (RFC 9110, 9.2.2),
//! and only within a [`budget`]. A body that is on its way is [kept](tape) as far as a node may have taken it without
//! having begun: beyond that, nothing is tried again.
//!
//! **Start before stop** holds across nodes: a replica that stops is served to other nodes for a while after this node's own
//! table has lost it ([`LINGER`]), as their tables change at their own pace. Who comes even later is told to look elsewhere,
//! and waits for its table to change if it knows nobody else.
//!
//! **Nodes that fail** are [ejected](health): at once, for longer each time, and tried again by one request. If all are,
//! the one that is the least unlikely is asked: a node that is wrong about all others must not serve nothing.
//!
//! **Limits of time** are those of the service, and kept by the node that has the replica; the hop says how much is used up.
//! Whether that node is there at all is seen by pings, which are sent while requests are under way and not otherwise.

mod accept;
mod budget;
mod directory;
mod forward;
mod health;
mod hop;
mod identity;
mod pool;
mod remote;
mod send;
mod tape;

use std::time::Duration;

pub(super) use accept::{PeerDoor, builder, serve};
pub(super) use directory::Peers;
pub(super) use forward::forward;
pub(super) use hop::{HOP_HEADER, Verdict};
pub use identity::PeerOptions;
pub(crate) use identity::{Ends, PeerPort};
pub(super) use pool::own_shard;
pub(crate) use remote::Remote;
pub(super) use send::{Arrives, NotSent, Order, Passed, send};
pub(super) use tape::Tape;

/// How long a replica that stops is still served to other nodes. They hear of it within milliseconds, and make their tables
/// five times a second at least; a link that is lost is noticed within a second.
pub(crate) const LINGER: Duration = Duration::from_secs(1);
