//! A node of a fleet: how it becomes one, and how it keeps in touch with a control plane on another machine.
//!
//! ```text
//!   token ──> join ──> Member (DATA/identity) ──> Uplink ──┬── control: Hello, statuses <──> desired set, routes
//!                        ^                                 ├── bulk: log lines ──>
//!                        '──────────── renewal <───────────┴── /v1/renew
//! ```
//! The node dials, so a network that lets nothing in is no obstacle; it needs nobody to answer: it serves what it has on
//! disk, and dials again, with longer and longer pauses, for as long as it takes. Control and bulk are two connections, so
//! that nothing on control waits for what is large.
//!
//! - [`member`]: what a node knows of its cluster, and the files that keep it.
//! - [`mod@join`]: from a token to a membership.
//! - [`credentials`]: the node's certificate as its connections show it; it changes while they live.
//! - [`buckets`]: those that the control plane keeps. [`tunnels`]: from something here to whoever asked there.
//! - [`address`], [`dial`], [`pause`]: where to, how, and when again.
//! - [`run`]: the loops. [`renew`]: the next certificate, or the news that there is none.

mod address;
mod buckets;
mod credentials;
mod dial;
mod join;
mod member;
mod pause;
mod renew;
mod run;
mod tunnels;

use skiff_api::client::{Client, ClientOptions};
use skiff_link::tls;

pub use address::{Address, InvalidAddress};
pub use buckets::RemoteBuckets;
pub use credentials::Credentials;
pub use join::{JoinError, JoinOptions, join};
pub use member::{Member, Membership};
pub use run::{Removed, Uplink, UplinkError};
pub use tunnels::RemoteTunnels;

/// Why the control plane cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum CallsError {
    #[error(transparent)]
    Identity(#[from] skiff_link::Error),
    #[error(transparent)]
    Client(#[from] skiff_api::client::Error),
}

/// Requests to the control plane that show the node's certificate.
fn client(server: &Address, credentials: &Credentials) -> Result<Client, CallsError> {
    let config = credentials.client(&[tls::ALPN_H2, tls::ALPN_H1])?;
    Ok(Client::new(ClientOptions::new(server.to_string(), "").tls(Some(config)))?)
}
