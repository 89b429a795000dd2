//! How to reach a registry.

use std::time::Duration;

use rustls::ClientConfig;

use super::credentials::Credential;

/// Where a registry is, who asks, and how patient to be with it.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// `HOST[:PORT]`, or with `http://` or `https://` before it.
    pub endpoint: String,
    pub kind: RegistryKind,
    /// Who asks. The cluster's registry gets it with every request, another one when it asks for it.
    pub credential: Option<Credential>,
    /// Whom to believe that it is the registry, and what to show it. `None`: whom this machine believes.
    pub tls: Option<ClientConfig>,
    /// For making the connection. A machine that is there answers within a round trip or two, also over a satellite.
    pub connect_timeout: Duration,
    /// How long the registry may say nothing at all. It may be busy syncing a few megabytes to a slow SD card.
    pub idle_timeout: Duration,
    /// How often a request is made in all, when connecting fails or the registry answers 429 or 5xx.
    pub attempts: u32,
}

/// Whose registry it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistryKind {
    /// The cluster's: plain http unless the endpoint says `https://`, no proxies.
    Own,
    /// Another: TLS, but that one on this machine may do without. Proxies of the environment are used.
    Foreign,
    /// Another, which may do without TLS wherever it is.
    ForeignPlain,
}

impl ClientOptions {
    /// The cluster's registry, with defaults for the rest.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            kind: RegistryKind::Own,
            credential: None,
            tls: None,
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30),
            attempts: 4,
        }
    }

    /// Another registry, as the `HOST[:PORT]` of an image names it.
    pub fn foreign(registry: &str, plain_http: bool, credential: Option<Credential>) -> Self {
        // Docker's own registry has another name for its images than for its users.
        let endpoint = match registry {
            "docker.io" | "index.docker.io" => "registry-1.docker.io",
            registry => registry,
        };
        let kind = if plain_http { RegistryKind::ForeignPlain } else { RegistryKind::Foreign };
        // Farther away than the control plane.
        let connect_timeout = Duration::from_secs(10);
        Self { kind, credential, connect_timeout, ..Self::new(endpoint) }
    }

    /// The token of the cluster's registry.
    #[must_use]
    pub fn token(self, token: Option<String>) -> Self {
        Self { credential: token.map(Credential::token), ..self }
    }

    #[must_use]
    pub fn tls(self, tls: Option<ClientConfig>) -> Self {
        Self { tls, ..self }
    }
}
