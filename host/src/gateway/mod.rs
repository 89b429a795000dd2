//! The node's HTTP entry: from a connection to a replica, and back.
//!
//! ```text
//! doors ----> connection (h1, h2) --> serve: table -> target (queue, permit) -> sandbox -> body with timers --> client
//!   one accept loop per core, each             |             |
//!   with a runtime of its own            routes x ready   in-flight, queued,
//!                                        replicas         closing when it drains
//! ```
//! A request runs in its connection's task from the first byte to the last, so a client that goes away stops its guest.
//! Each core has its own single-threaded runtime that accepts from the same listener, and hands a connection to the one that
//! has the fewest: nothing else is handed between threads. As there is one listener and not one for each core, nobody's
//! queue of new connections is lost when it closes.
//!
//! **Paths** are matched as they were sent, by whole segments, and passed on as they were sent: what the gateway matched
//! is what the guest sees. A path with a dot segment (`..` or `.`, also percent-encoded) is refused, because whoever
//! resolves it gets to another path than the one that was matched.
//!
//! **Errors** of the gateway's own are problem details (RFC 9457) with a stable `code`, and carry the same code in the
//! header `x-skiff-error`, which tells them from a guest's answer of the same status, also where there is no body; a
//! guest cannot set it.
//!
//! **Headers** that belong to one connection are removed in both directions. `x-forwarded-for`, `-proto` and `-host` are
//! appended: the last element is what this gateway saw, whatever stands before it is the client's word.
//!
//! **Bodies** stream both ways and are never collected: what one side does not take, the other side cannot send. Trailers
//! pass; over HTTP/1.1 only to clients that say `te: trailers`, and only those that the guest announced with `trailer`.
//! `traceparent` and `tracestate` pass as they are, and are not made up where they are missing.
//!
//! **Other nodes** answer what has no replica here, or none with room: see [`peer`].
//!
//! **Upgrades**, such as WebSocket, reach containers: see [`upgrade`].
//!
//! **TLS** is a second door to the same house: see [`tls`]. **The access log** is off until it is asked for: see
//! [`access`].
//!
//! **Stopping** loses no request: what waits in the listener's queue is accepted, every answer tells its client to
//! close, h2 clients get GOAWAY, and what is in flight may take until the deadline.

mod access;
mod answer;
mod body;
mod client;
mod connection;
mod driver;
mod flight;
mod headers;
mod host;
mod inside;
mod io;
mod leash;
mod listen;
mod one;
mod path;
mod peer;
mod redirect;
mod serve;
mod table;
mod target;
mod tls;
mod upgrade;

pub use access::AccessLogTo;
pub(crate) use driver::Driver;
pub(crate) use headers::remove_hop_by_hop;
pub(crate) use inside::{Call, Called, Callee, CalleeBody, Services, call, too_deep};
pub(crate) use listen::Doors;
pub use listen::{Error, Gateway, GatewayOptions, TlsOptions};
pub(crate) use one::{CHECKER, Checked, serve_one};
pub(crate) use peer::LINGER;
pub use peer::PeerOptions;
pub(crate) use peer::PeerPort;
pub(crate) use serve::Shared;
pub(crate) use table::{Backend, Table};
pub(crate) use target::Target;
pub use tls::{PairError, PairFiles};
pub(crate) use upgrade::Upgrade;
