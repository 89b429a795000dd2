//! A registry: how it is reached, and how often it is asked.
//!
//! Requests are made by `oci-client`; what it leaves to its users is done around it.
//! - It logs in by asking `GET /v2/` first. Where that fails it goes on without the token, and a registry that is merely
//!   busy seems to refuse it. So the token is put where the outcome of a login is kept, and it never asks.
//! - It never tries again: [`Attempts`] does.
//! - It looks for proxies in the environment, where the cluster's own address is not to be looked for.
//! - It follows redirects and uploads to other places, without the token. The content is checked either way.
//! - It holds what a registry says about an error in memory, however much that is. Only the good answers have caps.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::token_cache::RegistryTokenType;
use oci_client::{Reference, RegistryOperation};
use reqwest::Url;

use super::error::Error;
use super::options::ClientOptions;

/// The first pause before another attempt; each further one is twice as long. The control plane restarts within a
/// second or two.
const PAUSE: Duration = Duration::from_millis(200);

/// The shortest pause where the registry is asked too much. Ours answers that with `Retry-After: 1`, which does not
/// reach us through `oci-client`.
const PAUSE_BUSY: Duration = Duration::from_secs(1);

/// The longest pause. Whoever gives more attempts than the default wants to sit a restart of the machine out.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A proxy for https alone, which is never spoken: naming any turns those of the environment off.
const PROXY: &str = "http://localhost:9";

/// What a token's user is called. The registry does not look at it.
pub(super) const USER: &str = "token";

/// A client of one registry. A cheap-clone handle.
#[derive(Debug, Clone)]
pub struct Client(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) oci: oci_client::Client,
    pub(super) http: reqwest::Client,
    pub(super) base: Url,
    pub(super) options: ClientOptions,
    /// `HOST:PORT`, also where the port is the usual one: the library takes some names without a port for others.
    registry: String,
}

/// The attempts that are left for one request, and the pause before the next.
pub(super) struct Attempts {
    left: u32,
    pause: Duration,
}

impl Client {
    pub fn new(options: ClientOptions) -> Result<Self, Error> {
        let invalid = || Error::Endpoint { endpoint: options.endpoint.clone() };
        let base = match options.endpoint.starts_with("http://") {
            true => options.endpoint.clone(),
            false => format!("http://{}", options.endpoint),
        };
        let base = Url::parse(&base).map_err(|_| invalid())?;
        if base.path() != "/" || base.query().is_some() {
            return Err(invalid());
        }
        let (Some(host), Some(port)) = (base.host_str(), base.port_or_known_default()) else { return Err(invalid()) };
        let registry = format!("{host}:{port}");
        // Both an installed provider and one that is installed twice are fine: it is the same one.
        drop(rustls::crypto::ring::default_provider().install_default());
        // This comes first: where the system has no CA certificates it is an error, in oci-client a panic.
        let http = reqwest::Client::builder()
            .connect_timeout(options.connect_timeout)
            .read_timeout(options.idle_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|source| Error::Setup { source: source.into() })?;
        let config = ClientConfig {
            protocol: ClientProtocol::Http,
            connect_timeout: Some(options.connect_timeout),
            read_timeout: Some(options.idle_timeout),
            https_proxy: Some(PROXY.to_owned()),
            user_agent: concat!("skiff/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let oci = oci_client::Client::try_from(config).map_err(|source| Error::Setup { source: source.into() })?;
        Ok(Self(Arc::new(Inner { oci, http, base, options, registry })))
    }

    /// The registry's address, as given.
    pub fn endpoint(&self) -> &str {
        &self.0.options.endpoint
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("endpoint", &self.options.endpoint).finish_non_exhaustive()
    }
}

impl Inner {
    /// How the library names an image, `reference` being a tag or a digest. The token is ready when this is.
    pub(super) async fn reference(&self, repository: &str, reference: &str) -> Reference {
        let image = Reference::with_tag(self.registry.clone(), repository.to_owned(), reference.to_owned());
        if let Some(token) = &self.options.token {
            self.oci.store_auth_if_needed(&self.registry, &self.auth()).await;
            for operation in [RegistryOperation::Pull, RegistryOperation::Push] {
                let login = RegistryTokenType::Basic(USER.to_owned(), token.clone());
                self.oci.tokens.insert(&image, operation, login).await;
            }
        }
        image
    }

    pub(super) fn auth(&self) -> RegistryAuth {
        match &self.options.token {
            Some(token) => RegistryAuth::Basic(USER.to_owned(), token.clone()),
            None => RegistryAuth::Anonymous,
        }
    }

    pub(super) fn attempts(&self) -> Attempts {
        Attempts { left: self.options.attempts, pause: PAUSE }
    }

    /// Makes a call, again if it fails for a passing reason.
    pub(super) async fn retried<T, F: Future<Output = Result<T, Error>>>(
        &self,
        mut call: impl FnMut() -> F,
    ) -> Result<T, Error> {
        let mut attempts = self.attempts();
        loop {
            match call().await {
                Ok(done) => return Ok(done),
                Err(error) => attempts.after(error).await?,
            }
        }
    }
}

impl Attempts {
    /// Waits for the time of another attempt; hands the error back if it was the last or another cannot help.
    pub(super) async fn after(&mut self, error: Error) -> Result<(), Error> {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 || !error.is_transient() {
            return Err(error);
        }
        tracing::debug!(%error, left = self.left, "trying again");
        let busy = matches!(error, Error::Unavailable { status: 429, .. });
        tokio::time::sleep(if busy { self.pause.max(PAUSE_BUSY) } else { self.pause }).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unavailable(status: u16) -> Error {
        Error::Unavailable { endpoint: String::new(), status, message: String::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_longer_each_time_and_gives_up() {
        let began = tokio::time::Instant::now();
        let mut attempts = Attempts { left: 4, pause: PAUSE };
        let mut at = Vec::new();
        while attempts.after(unavailable(503)).await.is_ok() {
            at.push(began.elapsed().as_millis());
        }
        assert_eq!(at, [200, 600, 1400]);
        let mut attempts = Attempts { left: 2, pause: PAUSE };
        let began = tokio::time::Instant::now();
        attempts.after(unavailable(429)).await.unwrap();
        assert_eq!(began.elapsed(), PAUSE_BUSY);
        let denied = Error::Denied { image: "a:1".to_owned() };
        let mut attempts = Attempts { left: 4, pause: PAUSE };
        assert!(attempts.after(denied).await.is_err(), "another attempt is not allowed more");
    }

    #[test]
    fn keeps_the_token_out_of_debug_output() {
        let client = Client::new(ClientOptions::new("localhost:1").token(Some("secret".to_owned()))).unwrap();
        assert!(!format!("{client:?}").contains("secret"));
    }
}
