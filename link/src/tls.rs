//! TLS between machines of a cluster: version 1.3, the cluster's authority, and names that only it gives out.
//!
//! Who is at the other end is decided by [`Expect`], not by the address that was dialled: machines move, and are reached by
//! many names. Sessions are not resumed: connections last, and a certificate that was revoked counts at the next one.

use std::borrow::Cow;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
};

use crate::clock::unix_time;
use crate::{Clock, Error, Identity, names, pem};

/// Messages between control plane and node.
pub const ALPN_CONTROL: &[u8] = b"skiff-control/1";
/// What is large, between control plane and node.
pub const ALPN_BULK: &[u8] = b"skiff-bulk/1";
/// Requests between nodes.
pub const ALPN_PEER: &[u8] = b"skiff-peer/1";
pub const ALPN_H1: &[u8] = b"http/1.1";
pub const ALPN_H2: &[u8] = b"h2";

/// How a client knows the cluster's authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Its certificate, PEM.
    Ca(String),
    /// The SHA-256 of its certificate, in hexadecimal, as a join token has it: the server shows the certificate.
    Hash(String),
}

/// Who a client wants to talk to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// The control plane, whatever host was dialled.
    ControlPlane,
    /// The node whose name ([`names::node_server_name`]) the connection is made with.
    Node,
}

/// Whose certificates a server takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// It asks for none.
    None,
    /// Nobody's or a node's, also one that has expired and may be renewed: ask [`crate::Peer::is_expired`].
    Optional,
    /// A node's.
    Required,
}

/// A client's side. `alpn` is what it offers, the best first.
pub fn client(
    trust: &Trust,
    expect: Expect,
    identity: Option<&Identity>,
    alpn: &[&[u8]],
    clock: &Arc<Clock>,
) -> Result<ClientConfig, Error> {
    let trust = match trust {
        Trust::Ca(pem) => Trusted::Roots(roots(pem, clock)?),
        Trust::Hash(hash) => Trusted::Hash(hash.to_ascii_lowercase()),
    };
    let provider = provider();
    let name = match expect {
        Expect::ControlPlane => Some(names::control_plane_server_name()?),
        Expect::Node => None,
    };
    let verifier = ServerVerifier { trust, name, provider: Arc::clone(&provider) };
    let builder = ClientConfig::builder_with_details(provider, Arc::<Clock>::clone(clock))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(Error::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        Some(identity) => {
            builder.with_client_auth_cert(identity.chain().to_vec(), identity.private_key()).map_err(Error::Tls)?
        }
        None => builder.with_no_client_auth(),
    };
    config.resumption = rustls::client::Resumption::disabled();
    config.alpn_protocols = protocols(alpn);
    Ok(config)
}

/// A server's side, with a certificate that stays.
pub fn server(
    identity: &Identity,
    clients: Clients,
    alpn: &[&[u8]],
    clock: &Arc<Clock>,
) -> Result<ServerConfig, Error> {
    let resolver = Arc::new(SingleCertAndKey::from(certified(identity)?));
    server_with(resolver, &identity.ca_pem(), clients, alpn, clock)
}

/// A server's side, with certificates that are renewed.
pub fn server_with(
    resolver: Arc<dyn ResolvesServerCert>,
    ca_pem: &str,
    clients: Clients,
    alpn: &[&[u8]],
    clock: &Arc<Clock>,
) -> Result<ServerConfig, Error> {
    let provider = provider();
    let builder = ServerConfig::builder_with_details(Arc::clone(&provider), Arc::<Clock>::clone(clock))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(Error::Tls)?;
    let verifier = |anonymous: bool| -> Result<Arc<dyn ClientCertVerifier>, Error> {
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca_pem, clock)?), provider);
        let builder = if anonymous { builder.allow_unauthenticated() } else { builder };
        builder.build().map_err(|error| Error::read("the authority's certificate", error))
    };
    let builder = match clients {
        Clients::None => builder.with_no_client_auth(),
        Clients::Optional => builder.with_client_cert_verifier(Arc::new(AlsoExpired(verifier(true)?))),
        Clients::Required => builder.with_client_cert_verifier(verifier(false)?),
    };
    let mut config = builder.with_cert_resolver(resolver);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = protocols(alpn);
    Ok(config)
}

/// A certificate as a server shows it.
pub fn certified(identity: &Identity) -> Result<CertifiedKey, Error> {
    CertifiedKey::from_der(identity.chain().to_vec(), identity.private_key(), &provider()).map_err(Error::Tls)
}

fn protocols(alpn: &[&[u8]]) -> Vec<Vec<u8>> {
    alpn.iter().map(|protocol| protocol.to_vec()).collect()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// It is at least as late as when the authority began.
fn roots(ca_pem: &str, clock: &Clock) -> Result<RootCertStore, Error> {
    let ca = pem::certificate(ca_pem, "the authority's certificate")?;
    clock.raise(pem::not_before(&pem::parse(&ca, "the authority's certificate")?));
    let mut roots = RootCertStore::empty();
    roots.add(ca).map_err(Error::Tls)?;
    Ok(roots)
}

#[derive(Debug)]
enum Trusted {
    Roots(RootCertStore),
    Hash(String),
}

impl Trusted {
    /// Whom to trust with what a server showed, and how late it is at least.
    fn roots(
        &self,
        shown: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(Cow<'_, RootCertStore>, UnixTime), rustls::Error> {
        let hash = match self {
            Self::Roots(roots) => return Ok((Cow::Borrowed(roots), now)),
            Self::Hash(hash) => hash,
        };
        let ca = shown.iter().find(|ca| pem::hash(ca) == *hash).ok_or(CertificateError::UnknownIssuer)?;
        let parsed = pem::parse(ca, "the authority's certificate").map_err(|_| CertificateError::BadEncoding)?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone())?;
        Ok((Cow::Owned(roots), now.max(unix_time(pem::not_before(&parsed)))))
    }
}

/// Takes only certificates of the cluster's authority, for one name.
#[derive(Debug)]
struct ServerVerifier {
    trust: Trusted,
    /// Nothing: the name that the connection is made with.
    name: Option<ServerName<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let (roots, now) = self.trust.roots(intermediates, now)?;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        // The authority signs for machines itself: nothing stands between.
        rustls::client::verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], now, algorithms)?;
        rustls::client::verify_server_name(&parsed, self.name.as_ref().unwrap_or(server_name))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::ServerDoesNotSupportTls12Or13.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Takes a certificate that has expired as if it were its last second: what it may still do is decided above.
#[derive(Debug)]
struct AlsoExpired(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for AlsoExpired {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match self.0.verify_client_cert(end_entity, intermediates, now) {
            Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
                self.0.verify_client_cert(end_entity, intermediates, not_after)
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests;
