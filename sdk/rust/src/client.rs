//! Requests to others: services of the cluster, and servers outside.
//!
//! ```no_run
//! use skiff_sdk::client::Call;
//!
//! fn price(id: u32) -> Result<String, skiff_sdk::Error> {
//!     let answer = Call::get(&format!("http://prices.shop.internal/{id}")).send()?;
//!     Ok(answer.ok()?.text()?)
//! }
//! ```
//! The manifest must grant each: `allow: {services: [prices]}`, or `allow: {http: ["https://api.example.com"]}`.

use std::fmt;
use std::io::Write as _;
use std::time::Duration;

use wasip2::http::outgoing_handler;
use wasip2::http::types::{ErrorCode, Fields, IncomingResponse, Method, OutgoingRequest, RequestOptions, Scheme};

use crate::body::{self, Body, BodyError};
use crate::request::BODY_BYTES_MAX;

/// A request that is put together, and then sent.
#[derive(Debug, Clone)]
#[must_use = "nothing is sent before `send`"]
pub struct Call {
    method: String,
    url: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    timeout: Option<Duration>,
}

impl Call {
    /// `url` is `http://…` or `https://…`.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self { method: method.into(), url: url.into(), headers: Vec::new(), body: Vec::new(), timeout: None }
    }

    pub fn get(url: &str) -> Self {
        Self::new("GET", url)
    }

    pub fn post(url: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new("POST", url).body(body)
    }

    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// A body of JSON.
    #[cfg(feature = "json")]
    pub fn json(self, value: &impl serde::Serialize) -> Result<Self, serde_json::Error> {
        Ok(self.header("content-type", "application/json").body(serde_json::to_vec(value)?))
    }

    /// How long to wait for a connection, and again for the head of the answer. Never longer than the host allows.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sends it and waits for the head of the answer, whatever its status.
    pub fn send(self) -> Result<Answer, CallError> {
        let Self { method, url, headers, body, timeout } = self;
        let failed = |why: Why| CallError { method: method.clone(), url: url.clone(), why };
        let (scheme, authority, path) = parts(&url).ok_or_else(|| failed(Why::Url))?;
        let mut headers = headers;
        if !body.is_empty() {
            headers.push(("content-length".to_owned(), body.len().to_string().into_bytes()));
        }
        let fields = Fields::from_list(&headers).map_err(|error| failed(Why::Head(error.to_string())))?;
        let request = OutgoingRequest::new(fields);
        let refused = |what: &str| failed(Why::Head(format!("{what} is not allowed in a request")));
        request.set_method(&method_of(&method)).map_err(|()| refused("the method"))?;
        request.set_scheme(Some(&scheme)).map_err(|()| refused("the scheme"))?;
        request.set_authority(Some(authority)).map_err(|()| refused("the host"))?;
        request.set_path_with_query(Some(path)).map_err(|()| refused("the path"))?;
        let options = timeout.map(options);
        let outgoing = request.body();
        let future = outgoing_handler::handle(request, options).map_err(|code| failed(Why::Host(code)))?;
        if let Ok(outgoing) = outgoing {
            // One that reads nothing of it may have answered all the same.
            body::send(outgoing, |writer| writer.write_all(&body));
        }
        let answered = loop {
            match future.get() {
                Some(answered) => break answered,
                None => future.subscribe().block(),
            }
        };
        match answered {
            Ok(Ok(response)) => Ok(Answer { url, inner: response }),
            Ok(Err(code)) => Err(failed(Why::Host(code))),
            Err(()) => Err(failed(Why::Url)),
        }
    }
}

fn options(timeout: Duration) -> RequestOptions {
    let options = RequestOptions::new();
    let nanoseconds = Some(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
    // A host that knows no such limit has its own.
    let _ = options.set_connect_timeout(nanoseconds);
    let _ = options.set_first_byte_timeout(nanoseconds);
    options
}

fn method_of(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

/// Scheme, host with port, path with query.
fn parts(url: &str) -> Option<(Scheme, &str, &str)> {
    let (scheme, rest) = match url.split_once("://")? {
        ("http", rest) => (Scheme::Http, rest),
        ("https", rest) => (Scheme::Https, rest),
        _ => return None,
    };
    let rest = rest.split('#').next()?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    // `http://host?x` has no path, and a request needs one.
    let path = if path.starts_with('/') { path } else { "/" };
    (!authority.is_empty()).then_some((scheme, authority, path))
}

/// An answer whose head is there.
#[derive(Debug)]
pub struct Answer {
    url: String,
    inner: IncomingResponse,
}

impl Answer {
    pub fn status(&self) -> u16 {
        self.inner.status()
    }

    /// The first value of a header, if it is text; the name in any case.
    pub fn header(&self, name: &str) -> Option<String> {
        String::from_utf8(self.inner.headers().get(name).into_iter().next()?).ok()
    }

    /// All headers, names in lower case.
    pub fn headers(&self) -> Vec<(String, Vec<u8>)> {
        self.inner.headers().entries()
    }

    /// The answer if its status is a success, else an error that has the status.
    pub fn ok(self) -> Result<Self, CallError> {
        match self.status() {
            200..300 => Ok(self),
            status => Err(self.failed(Why::Status(status))),
        }
    }

    /// The body as it comes.
    pub fn reader(self) -> Result<Body, CallError> {
        let body = self.inner.consume().ok().and_then(Body::new);
        body.ok_or_else(|| self.failed(Why::Body(BodyError::Cut)))
    }

    /// The whole body, up to [`BODY_BYTES_MAX`].
    pub fn bytes(self) -> Result<Vec<u8>, CallError> {
        let url = self.url.clone();
        let failed = |error| CallError { method: String::new(), url, why: Why::Body(error) };
        self.reader()?.bytes_up_to(BODY_BYTES_MAX).map_err(failed)
    }

    /// The whole body as text. Bytes that are no UTF-8 are replaced.
    pub fn text(self) -> Result<String, CallError> {
        self.bytes().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The whole body, read as JSON.
    #[cfg(feature = "json")]
    pub fn json<T: serde::de::DeserializeOwned>(self) -> Result<T, CallError> {
        let url = self.url.clone();
        let failed =
            |error: serde_json::Error| CallError { method: String::new(), url, why: Why::Json(error.to_string()) };
        serde_json::from_slice(&self.bytes()?).map_err(failed)
    }

    fn failed(&self, why: Why) -> CallError {
        CallError { method: String::new(), url: self.url.clone(), why }
    }
}

/// Why there is no answer, or none that can be used.
#[derive(Debug)]
pub struct CallError {
    method: String,
    url: String,
    why: Why,
}

#[derive(Debug)]
enum Why {
    Url,
    Head(String),
    Host(ErrorCode),
    Status(u16),
    Body(BodyError),
    #[cfg(feature = "json")]
    Json(String),
}

impl CallError {
    /// The status, if there was an answer and [`Answer::ok`] refused it.
    pub fn status(&self) -> Option<u16> {
        match self.why {
            Why::Status(status) => Some(status),
            _ => None,
        }
    }

    /// The host's own code, if the request got no answer.
    pub fn code(&self) -> Option<&ErrorCode> {
        match &self.why {
            Why::Host(code) => Some(code),
            _ => None,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, url, why } = self;
        match why {
            Why::Url => write!(f, "failed to ask {url:?}: this is no http:// or https:// address"),
            Why::Head(text) => write!(f, "failed to ask {url}: {text}"),
            Why::Host(ErrorCode::HttpRequestDenied) => write!(
                f,
                "failed to {method} {url}: not granted (hint: the service's `allow`, its namespace's, and the other's `http.callers` must agree)"
            ),
            Why::Host(code) => write!(f, "failed to {method} {url}: {code:?}"),
            Why::Status(status) => write!(f, "{url} answered {status}"),
            Why::Body(error) => write!(f, "failed to read the answer of {url}: {error}"),
            #[cfg(feature = "json")]
            Why::Json(error) => write!(f, "failed to read the answer of {url}: {error}"),
        }
    }
}

impl std::error::Error for CallError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_parts() {
        let of = |url| parts(url).map(|(scheme, host, path)| (matches!(scheme, Scheme::Https), host, path));
        assert_eq!(of("http://cart.shop.internal/a?b=c#d"), Some((false, "cart.shop.internal", "/a?b=c")));
        assert_eq!(of("https://example.com:8443"), Some((true, "example.com:8443", "/")));
        assert_eq!(of("https://example.com?x"), Some((true, "example.com", "/")));
        for bad in ["ftp://x", "//x", "x", "http:///a", "http://"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
