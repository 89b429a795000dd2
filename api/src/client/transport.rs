//! Requests and answers.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use rustls::ClientConfig;
use serde::de::DeserializeOwned;

use crate::client::Error;
use crate::problem::Problem;

/// How long a connection may take to be made. On a local network it takes milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After so long without a word the other side is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(20);
/// How long one answer that is not a stream may take; the server gives up earlier.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// More than the largest list that the server sends in one piece.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Where the control plane is, and who asks.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// `https://HOST:PORT`, or `http://` where there is no TLS.
    pub server: String,
    /// Empty: none is shown.
    pub token: String,
    /// Whom to believe that it is the control plane, and what to show it. `None`: whom this machine believes.
    pub tls: Option<ClientConfig>,
}

impl ClientOptions {
    pub fn new(server: impl Into<String>, token: impl Into<String>) -> Self {
        Self { server: server.into(), token: token.into(), tls: None }
    }

    #[must_use]
    pub fn tls(self, tls: Option<ClientConfig>) -> Self {
        Self { tls, ..self }
    }
}

/// A cheap-clone client.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: String,
}

impl Client {
    /// Errors: a server that is no `http://` or `https://` URL.
    pub fn new(options: ClientOptions) -> Result<Self, Error> {
        // Both an installed provider and one that is installed twice are fine: it is the same one.
        drop(rustls::crypto::ring::default_provider().install_default());
        let not_url = |why: &str| {
            let server = &options.server;
            Error::Options(format!(
                "failed to use the server {server:?}: {why} (hint: write https://HOST:PORT, or http:// where there is no TLS)"
            ))
        };
        let base = Url::parse(&options.server).map_err(|error| not_url(&error.to_string()))?;
        if !["http", "https"].contains(&base.scheme()) || base.host_str().is_none() {
            return Err(not_url("it is not an http URL"));
        }
        if options.token.bytes().any(|b| !b.is_ascii_graphic()) {
            return Err(Error::Options("failed to use the token: it has a character that no token has".to_owned()));
        }
        // Whoever waits for the next word of a stream learns in time that nobody is there any more.
        let builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(SILENCE)
            .http2_keep_alive_interval(SILENCE)
            .http2_keep_alive_timeout(SILENCE)
            .no_proxy();
        let builder = match options.tls {
            Some(tls) => builder.tls_backend_preconfigured(tls),
            None => builder,
        };
        let http = builder
            .build()
            .map_err(|error| Error::Options(format!("failed to make an HTTP client: {}", chain(&error))))?;
        Ok(Self { http, base, token: options.token })
    }

    /// As given.
    pub fn server(&self) -> String {
        self.base.as_str().trim_end_matches('/').to_owned()
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    pub(crate) fn request(&self, method: Method, path: &str, query: &[(&str, String)]) -> RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.http.request(method, url);
        match self.token.is_empty() {
            true => request,
            false => request.bearer_auth(&self.token),
        }
    }

    /// Sends a request and reads its JSON answer.
    pub(crate) async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        let response = self.send(request.timeout(ANSWER_TIMEOUT)).await?;
        let body = self.body(response).await?;
        serde_json::from_slice(&body).map_err(|error| Error::NotSkiff { server: self.server(), why: error.to_string() })
    }

    /// Sends a request; an answer that is not a success becomes an error.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        let response = request.send().await.map_err(|error| self.failure(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body = self.body(response).await?;
        Err(self.problem(status, &body))
    }

    fn problem(&self, status: StatusCode, body: &[u8]) -> Error {
        match serde_json::from_slice::<Problem>(body) {
            Ok(problem) => Error::Problem(problem),
            Err(_) => Error::NotSkiff { server: self.server(), why: format!("it answered {status}") },
        }
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, Error> {
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.failure(&error))? {
            if body.len() + piece.len() > ANSWER_BYTES_MAX {
                let why = format!("it is larger than {ANSWER_BYTES_MAX} bytes");
                return Err(Error::Broken { server: self.server(), why });
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    pub(crate) fn failure(&self, error: &reqwest::Error) -> Error {
        let (server, why) = (self.server(), chain(error));
        match error.is_connect() {
            true if is_distrusted(error) => Error::Untrusted { server, why },
            true => Error::Unreachable { server, why },
            false if error.is_timeout() => Error::Broken { server, why: "it took too long".to_owned() },
            false => Error::Broken { server, why },
        }
    }
}

/// Whether somebody answered who could not show to be who was asked for.
fn is_distrusted(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return matches!(tls, rustls::Error::InvalidCertificate(_));
    }
    // What an I/O error was made from is not among its sources, and it may be another one.
    let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    let inner = inner.map(|inner| inner as &(dyn std::error::Error + 'static));
    inner.or_else(|| error.source()).is_some_and(is_distrusted)
}

/// The innermost cause says what happened; what stands around it repeats the URL.
fn chain(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use std::io;

    use rustls::CertificateError;

    use super::*;

    #[test]
    fn a_bad_certificate_is_found_however_deep_it_is() {
        let bad = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        assert!(is_distrusted(&bad()));
        assert!(is_distrusted(&io::Error::other(io::Error::other(bad()))));
        assert!(!is_distrusted(&io::Error::other(rustls::Error::DecryptError)));
        assert!(!is_distrusted(&io::Error::from(io::ErrorKind::ConnectionRefused)));
    }
}
