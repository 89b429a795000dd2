//! What guests reach: other services, and servers outside.
//!
//! ```text
//!                       .internal                       allow.services, http.callers
//! guest --> Outbound ---------------> services --> a place at a replica --> its guest (no socket, if it is here)
//!  (hook)      |        anything else                allow.http       allow.private
//!              '--------------------> http --> pool --> connect: resolve, check each address, TLS
//! ```
//! Nothing is reachable that the service's manifest does not name. What is refused is an error in the guest
//! (`HTTP-request-denied`, or `destination-IP-prohibited`), a line in the replica's log, an event, and a figure; the
//! same refusal is told once a minute.
//!
//! **Names ending in `.internal` never leave the cluster**: `http://NAME.NAMESPACE.internal` is a service, on this node or on
//! another one; all others are refused. A call to a service is answered as the gateway would answer it, so what is wrong there is a response with
//! `x-skiff-error` and not an error.
//!
//! **Nothing waits for itself.** A chain of calls has a depth, every wait for a place has an end, and a node whose
//! instances are all in use says so at once.
//!
//! **Connections belong to a replica.** What one was allowed to open, another cannot use, whatever it is called.
//! Redirects are the guest's to follow.
//!
//! **Containers** come here as well, by their doorway ([`crate::doorway`]): with requests, with names that they look up, and
//! with connections that carry what nobody looks at ([`dial`]).

mod body;
mod buckets;
mod chain;
mod connect;
mod dial;
mod http;
mod natives;
mod notes;
mod outbound;
mod pool;
mod reach;
mod redis;
mod resolve;
mod services;
mod sockets;
mod tls;

pub(crate) use buckets::Stores;
pub use buckets::{Bucket, Buckets, Cas, ClusterBuckets, told};
pub(crate) use chain::{Chain, DEPTH_MAX};
pub(crate) use dial::Dialled;
pub(crate) use natives::Listed;
pub use outbound::Outbound;
pub(crate) use outbound::Sending;
pub(crate) use reach::Reach;
pub use resolve::{Resolve, SystemNames};
pub(crate) use sockets::Found;
