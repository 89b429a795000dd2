//! How to reach a registry.

use std::time::Duration;

/// Where the cluster's registry is, and how patient to be with it.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// `HOST:PORT` of the control plane, spoken to in plain http, or a whole `http://HOST:PORT`.
    pub endpoint: String,
    /// Sent as the password of a Basic login.
    pub token: Option<String>,
    /// For making the connection. A machine that is there answers within a round trip or two, also over a satellite.
    pub connect_timeout: Duration,
    /// How long the registry may say nothing at all. It may be busy syncing a few megabytes to a slow SD card.
    pub idle_timeout: Duration,
    /// How often a request is made in all, when connecting fails or the registry answers 429 or 5xx.
    pub attempts: u32,
}

impl ClientOptions {
    /// The endpoint with defaults for the rest.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            token: None,
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30),
            attempts: 4,
        }
    }

    #[must_use]
    pub fn token(self, token: Option<String>) -> Self {
        Self { token, ..self }
    }
}
