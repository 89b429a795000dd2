//! What the machines of a cluster meet over: the cluster's own certificates, TLS between its machines, the token that a
//! machine joins with, and the frames and the pump that carry messages of `api::wire`.
//!
//! ```text
//!   control plane                                     node
//!   Authority ── issues ──> chain <── CSR ── Key (never leaves it)
//!   tls::server  <═══════ TLS 1.3, both sides show certificates ═══════>  tls::client
//!   pump::run    <─────── frames: messages, heartbeats ────────────────>  pump::run
//! ```
//! A cluster trusts one authority, its own, and nothing that the machine trusts: certificates say who somebody is by names
//! that only this authority gives out ([`names`]), whatever address was dialled.

pub mod authority;
pub mod clock;
mod error;
pub mod frame;
pub mod identity;
pub mod names;
mod pem;
pub mod pump;
pub mod tls;
pub mod token;

pub use authority::Authority;
pub use clock::Clock;
pub use error::Error;
pub use identity::{Identity, Key, Peer};
pub use token::JoinToken;
