//! A registry: how it is reached, and how often it is asked.
//!
//! Requests are made here and not by a library of registries: the one that is kept up makes each once, without a bound on
//! what comes back, goes on without a login that failed, and cannot go on where a transfer broke off.
//!
//! ```text
//! pull, push, lists ──> retried ──> send ──> log in, if it is asked for (auth)
//!                                    └────> where it leads, if it may (reach)
//! ```
//! - What passes is tried again, with longer pauses, or after the time that the registry names.
//! - A redirect is followed for reading, and takes the login along to the same place only.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, LOCATION, WWW_AUTHENTICATE};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::sync::OnceCell;

use super::auth::Auth;
use super::challenge;
use super::error::Error;
use super::options::{ClientOptions, RegistryKind};
use super::reach;

/// The first pause before another attempt; each further one is twice as long. The control plane restarts within a
/// second or two.
const PAUSE: Duration = Duration::from_millis(200);

/// The shortest pause where the registry is asked too much and does not say when to come back.
const PAUSE_BUSY: Duration = Duration::from_secs(1);

/// The longest pause. Whoever gives more attempts than the default wants to sit a restart of the machine out.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// The longest pause that a registry may ask for. Public ones ask for hours once a day's share is used up: that is an
/// error, and no reason to wait.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// How often one request is led elsewhere. Registries lead once, to where they keep blobs.
const REDIRECTS_MAX: usize = 5;

/// The slowest line that an upload is waited for, a quarter of the slowest mobile network.
const UPLOAD_BYTES_PER_SECOND: u64 = 4 << 10;

/// A client of one registry. A cheap-clone handle.
#[derive(Debug, Clone)]
pub struct Client(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) http: reqwest::Client,
    /// The same without a bound on silence: while a body is sent, nothing comes back.
    uploads: reqwest::Client,
    pub(super) options: ClientOptions,
    pub(super) auth: Auth,
    base: OnceCell<Url>,
    /// Where the registry is, or two places of which the first is tried once.
    first: Url,
    second: Option<Url>,
}

/// One request.
pub(super) struct Call<'a> {
    pub(super) image: &'a str,
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
    /// What a token has to be good for.
    pub(super) scope: String,
}

/// The attempts that are left for one request, and the pause before the next.
pub(super) struct Attempts {
    left: u32,
    pause: Duration,
}

impl Client {
    pub fn new(options: ClientOptions) -> Result<Self, Error> {
        let (first, second) =
            candidates(&options).ok_or_else(|| Error::Endpoint { endpoint: options.endpoint.clone() })?;
        // Both an installed provider and one that is installed twice are fine: it is the same one.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = |idle: Option<Duration>| {
            let mut builder = reqwest::Client::builder()
                .connect_timeout(options.connect_timeout)
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .user_agent(concat!("skiff/", env!("CARGO_PKG_VERSION")));
            if let Some(idle) = idle {
                builder = builder.read_timeout(idle);
            }
            if options.kind == RegistryKind::Own {
                builder = builder.no_proxy();
            }
            if let Some(tls) = &options.tls {
                builder = builder.tls_backend_preconfigured(tls.clone());
            }
            builder.build().map_err(|source| Error::Setup { source: source.into() })
        };
        let (http, uploads) = (client(Some(options.idle_timeout))?, client(None)?);
        let auth = Auth::new(options.credential.clone(), options.kind == RegistryKind::Own);
        Ok(Self(Arc::new(Inner { http, uploads, options, auth, base: OnceCell::new(), first, second })))
    }

    /// The registry's address, as given.
    pub fn endpoint(&self) -> &str {
        &self.0.options.endpoint
    }
}

/// Where the registry is, or where it is first looked for and then.
fn candidates(options: &ClientOptions) -> Option<(Url, Option<Url>)> {
    let endpoint = options.endpoint.as_str();
    let url = |text: String| {
        let is_root = |url: &Url| url.path() == "/" && url.query().is_none() && url.username().is_empty();
        Url::parse(&text).ok().filter(|url| is_root(url) && url.host_str().is_some())
    };
    if endpoint.starts_with("http://") || endpoint.starts_with("https://") {
        return Some((url(endpoint.to_owned())?, None));
    }
    let (plain, tls) = (url(format!("http://{endpoint}"))?, url(format!("https://{endpoint}"))?);
    Some(match options.kind {
        RegistryKind::Own => (plain, None),
        RegistryKind::Foreign if !plain.host_str().is_some_and(reach::is_loopback) => (tls, None),
        RegistryKind::Foreign | RegistryKind::ForeignPlain => (tls, Some(plain)),
    })
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("endpoint", &self.options.endpoint).finish_non_exhaustive()
    }
}

impl Inner {
    /// The registry's root. Where there are two ways to it, that with TLS is tried once.
    pub(super) async fn base(&self) -> Url {
        let found = async {
            let Some(plain) = &self.second else { return self.first.clone() };
            match self.http.get(with_path(&self.first, "/v2/")).send().await {
                Err(error) if error.is_connect() => plain.clone(),
                _ => self.first.clone(),
            }
        };
        self.base.get_or_init(|| found).await.clone()
    }

    /// An address below the registry's root.
    pub(super) async fn url(&self, path: &str) -> Url {
        with_path(&self.base().await, path)
    }

    /// Makes a request. What comes back is the answer to it, good or bad, of the place where it ended.
    pub(super) async fn send(&self, call: Call<'_>) -> Result<Response, Error> {
        let Call { image, method, mut url, headers, body, scope } = call;
        let base = self.base().await;
        let (mut has_asked, mut redirects) = (false, 0);
        loop {
            let is_own = reach::is_same_origin(&base, &url);
            let client = if body.is_some() { &self.uploads } else { &self.http };
            let mut request = client.request(method.clone(), url.clone()).headers(headers.clone());
            if let Some(shown) = is_own.then(|| self.auth.header(&scope)).flatten() {
                request = request.header(AUTHORIZATION, shown);
            }
            if let Some(body) = &body {
                let line = Duration::from_secs(body.len() as u64 / UPLOAD_BYTES_PER_SECOND);
                request = request.timeout(self.options.idle_timeout + line).body(body.clone());
            }
            let answer = request.send().await.map_err(|error| self.broke_off(image, error.without_url()))?;
            if answer.status() == StatusCode::UNAUTHORIZED && is_own && !has_asked {
                has_asked = true;
                let offered = answer.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
                if let Some(challenge) = challenge::best(offered)
                    && self.log_in(image, &base, &challenge, &scope).await?
                {
                    continue;
                }
            }
            let is_reading = method == Method::GET || method == Method::HEAD;
            let Some(location) =
                answer.headers().get(LOCATION).filter(|_| answer.status().is_redirection() && is_reading)
            else {
                return Ok(answer);
            };
            redirects += 1;
            if redirects > REDIRECTS_MAX {
                return Err(self.protocol(image, format!("it leads on more than {REDIRECTS_MAX} times")));
            }
            url = self.led(image, &url, location.as_bytes()).await?;
        }
    }

    /// Where an answer from `url` leads, if it may.
    pub(super) async fn led(&self, image: &str, url: &Url, location: &[u8]) -> Result<Url, Error> {
        let location = str::from_utf8(location).ok().and_then(|text| url.join(text).ok());
        let location = location.ok_or_else(|| self.protocol(image, "it leads to something that is no address"))?;
        reach::check(&self.base().await, &location).await.map_err(|why| self.protocol(image, why))?;
        Ok(location)
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

fn with_path(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(path);
    url
}

impl Attempts {
    /// Waits for the time of another attempt; hands the error back if it was the last or another cannot help.
    pub(super) async fn after(&mut self, error: Error) -> Result<(), Error> {
        self.left = self.left.saturating_sub(1);
        let wanted = error.retry_after();
        if self.left == 0 || !error.is_transient() || wanted.is_some_and(|wanted| wanted > RETRY_AFTER_MAX) {
            return Err(error);
        }
        tracing::debug!(%error, left = self.left, "trying again");
        let busy = matches!(error, Error::Unavailable { status: 429, .. });
        let pause = if busy { self.pause.max(PAUSE_BUSY) } else { self.pause };
        tokio::time::sleep(wanted.map_or(pause, |wanted| wanted.max(self.pause))).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unavailable(status: u16, retry_after: Option<Duration>) -> Error {
        Error::Unavailable { endpoint: String::new(), status, message: String::new(), retry_after }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_longer_each_time_and_gives_up() {
        let began = tokio::time::Instant::now();
        let mut attempts = Attempts { left: 4, pause: PAUSE };
        let mut at = Vec::new();
        while attempts.after(unavailable(503, None)).await.is_ok() {
            at.push(began.elapsed().as_millis());
        }
        assert_eq!(at, [200, 600, 1400]);
        for (wanted, waited) in [(None, PAUSE_BUSY), (Some(7), Duration::from_secs(7)), (Some(0), PAUSE)] {
            let mut attempts = Attempts { left: 2, pause: PAUSE };
            let began = tokio::time::Instant::now();
            attempts.after(unavailable(429, wanted.map(Duration::from_secs))).await.unwrap();
            assert_eq!(began.elapsed(), waited);
        }
        let hours = Some(Duration::from_secs(6 * 3600));
        assert!(
            Attempts { left: 4, pause: PAUSE }.after(unavailable(429, hours)).await.is_err(),
            "nobody waits so long"
        );
        let denied = Error::Denied { image: "a:1".to_owned(), who: "token" };
        let mut attempts = Attempts { left: 4, pause: PAUSE };
        assert!(attempts.after(denied).await.is_err(), "another attempt is not allowed more");
    }

    #[test]
    fn keeps_secrets_out_of_debug_output() {
        let options = ClientOptions::new("localhost:1").token(Some("secret".to_owned()));
        assert!(!format!("{options:?}").contains("secret"));
        assert!(!format!("{:?}", Client::new(options).unwrap()).contains("secret"));
    }

    #[test]
    fn only_this_machine_may_do_without_tls() {
        let of = |registry: &str, plain| {
            let (first, second) = candidates(&ClientOptions::foreign(registry, plain, None)).unwrap();
            [Some(first), second].into_iter().flatten().map(|url| url.scheme().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(of("ghcr.io", false), ["https"]);
        assert_eq!(of("10.0.0.1:5000", false), ["https"]);
        assert_eq!(of("localhost:5000", false), ["https", "http"]);
        assert_eq!(of("10.0.0.1:5000", true), ["https", "http"]);
        for endpoint in ["a/b", "http://a/b", "https://u:p@a", "", "a?b"] {
            assert!(candidates(&ClientOptions::new(endpoint)).is_none(), "{endpoint}");
        }
    }
}
