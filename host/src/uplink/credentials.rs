//! The node's certificate, as all of its connections show it.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig};
use skiff_link::Clock;
use skiff_link::Error;
use skiff_link::identity::Identity;
use skiff_link::tls::{self, Clients, Expect, Trust};

/// Who the node is, which is renewed while its connections and clients live. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Credentials {
    current: Arc<Current>,
    clock: Arc<Clock>,
}

struct Current(ArcSwap<(Identity, Arc<CertifiedKey>)>);

impl Credentials {
    pub fn new(identity: Identity, clock: Arc<Clock>) -> Result<Self, Error> {
        // A certificate has begun when it was made, whatever this machine's clock says.
        clock.raise(identity.not_before());
        let key = Arc::new(tls::certified(&identity)?);
        Ok(Self { current: Arc::new(Current(ArcSwap::from_pointee((identity, key)))), clock })
    }

    pub fn identity(&self) -> Identity {
        self.current.0.load().0.clone()
    }

    pub fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    /// The certificate to show now.
    pub fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.current.0.load().1)
    }

    /// From now on connections show this one, those of clients that were made before too.
    pub(super) fn replace(&self, identity: Identity) -> Result<(), Error> {
        let key = Arc::new(tls::certified(&identity)?);
        self.current.0.store(Arc::new((identity, key)));
        Ok(())
    }

    /// For connections to the control plane: trusts the cluster's CA and nothing else.
    pub fn client(&self, alpn: &[&[u8]]) -> Result<ClientConfig, Error> {
        let identity = self.identity();
        let trust = Trust::Ca(identity.ca_pem());
        let mut config = tls::client(&trust, Expect::ControlPlane, Some(&identity), alpn, &self.clock)?;
        config.client_auth_cert_resolver = self.current.clone();
        Ok(config)
    }

    /// For connections to other nodes: whoever dials says which one is meant.
    pub(crate) fn to_nodes(&self) -> Result<ClientConfig, Error> {
        let identity = self.identity();
        let trust = Trust::Ca(identity.ca_pem());
        let mut config = tls::client(&trust, Expect::Node, Some(&identity), &[tls::ALPN_PEER], &self.clock)?;
        config.client_auth_cert_resolver = self.current.clone();
        Ok(config)
    }

    /// For connections of other nodes.
    pub(crate) fn of_nodes(&self) -> Result<ServerConfig, Error> {
        let ca = self.identity().ca_pem();
        tls::server_with(self.current.clone(), &ca, Clients::Required, &[tls::ALPN_PEER], &self.clock)
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().1))
    }
}

impl ResolvesClientCert for Current {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().1))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Current").field(&self.0.load().0).finish()
    }
}
