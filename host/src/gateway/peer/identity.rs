//! Who this node is to others, and how it makes sure who they are.

use std::net::TcpListener as StdListener;
use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};

use crate::uplink::Credentials;

/// A node's port for others of its cluster.
#[derive(Debug)]
pub struct PeerOptions {
    pub listener: StdListener,
    /// What others dial to reach it, `HOST:PORT`; by default the listener's own address. An address that means all of this
    /// machine's becomes the one that the link to the control plane goes out from.
    pub advertise: Option<String>,
    pub credentials: Credentials,
}

/// The port, ready to be answered.
#[derive(Debug)]
pub(crate) struct PeerPort {
    pub(crate) listener: StdListener,
    pub(crate) ends: Ends,
}

/// Both ends of connections between nodes. They show the certificate that the node has at that moment.
#[derive(Clone)]
pub(crate) struct Ends {
    pub(super) client: Arc<ClientConfig>,
    pub(super) server: Arc<ServerConfig>,
}

impl TryFrom<PeerOptions> for PeerPort {
    type Error = skiff_link::Error;

    fn try_from(PeerOptions { listener, credentials, .. }: PeerOptions) -> Result<Self, skiff_link::Error> {
        Ok(Self { listener, ends: Ends::new(&credentials)? })
    }
}

impl Ends {
    pub(super) fn new(credentials: &Credentials) -> Result<Self, skiff_link::Error> {
        let (client, server) = (credentials.to_nodes()?, credentials.of_nodes()?);
        Ok(Self { client: Arc::new(client), server: Arc::new(server) })
    }
}

impl std::fmt::Debug for Ends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ends").finish_non_exhaustive()
    }
}
