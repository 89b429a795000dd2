//! An incoming request.

use wasip2::http::types::{IncomingRequest, Method};

use crate::Error;
use crate::body::{Body, BodyError};

/// What [`Request::body`] reads at most: ample for JSON, and a small part of an instance's memory.
pub const BODY_BYTES_MAX: usize = 4 << 20;

/// An incoming request. Its parts are fetched from the host when they are first needed.
#[derive(Debug)]
pub struct Request {
    inner: IncomingRequest,
    method: String,
    path_and_query: String,
    params: Vec<(String, String)>,
}

impl Request {
    pub(crate) fn new(inner: IncomingRequest) -> Self {
        let method = match inner.method() {
            Method::Get => "GET".to_owned(),
            Method::Head => "HEAD".to_owned(),
            Method::Post => "POST".to_owned(),
            Method::Put => "PUT".to_owned(),
            Method::Delete => "DELETE".to_owned(),
            Method::Connect => "CONNECT".to_owned(),
            Method::Options => "OPTIONS".to_owned(),
            Method::Trace => "TRACE".to_owned(),
            Method::Patch => "PATCH".to_owned(),
            Method::Other(name) => name,
        };
        let path_and_query = inner.path_with_query().unwrap_or_default();
        Self { inner, method, path_and_query, params: Vec::new() }
    }

    /// In capitals: `GET`, `POST`, …
    pub fn method(&self) -> &str {
        &self.method
    }

    /// As it was sent, still percent-encoded, without the query; `/` if the request had none.
    pub fn path(&self) -> &str {
        match self.path_and_query.split('?').next() {
            None | Some("") => "/",
            Some(path) => path,
        }
    }

    /// What follows the question mark, as it was sent.
    pub fn query(&self) -> Option<&str> {
        self.path_and_query.split_once('?').map(|(_, query)| query)
    }

    /// The first value of `name` in a query such as `a=1&b=two+words`, decoded. Bytes that are no UTF-8 are replaced.
    pub fn query_value(&self, name: &str) -> Option<String> {
        let pairs = self.query()?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.map(|(key, value)| (decoded(key), value)).find(|(key, _)| key == name).map(|(_, value)| decoded(value))
    }

    /// The host that the caller asked for, with its port if it named one.
    pub fn authority(&self) -> Option<String> {
        self.inner.authority()
    }

    /// The first value of a header, if it is text; the name in any case.
    pub fn header(&self, name: &str) -> Option<String> {
        let values = self.inner.headers().get(name);
        String::from_utf8(values.into_iter().next()?).ok()
    }

    /// All headers, names in lower case.
    pub fn headers(&self) -> Vec<(String, Vec<u8>)> {
        self.inner.headers().entries()
    }

    /// Reads the body, up to [`BODY_BYTES_MAX`]; see [`body_up_to`](Self::body_up_to).
    pub fn body(&mut self) -> Result<Vec<u8>, Error> {
        self.body_up_to(BODY_BYTES_MAX)
    }

    /// Reads the body. A larger one is a 413, a connection that broke on the way a 400, and so is reading twice.
    pub fn body_up_to(&mut self, bytes_max: usize) -> Result<Vec<u8>, Error> {
        self.reader()?.bytes_up_to(bytes_max).map_err(|error| match error {
            BodyError::TooLarge { bytes_max } => {
                Error::new(413, format!("the request's body is larger than {bytes_max} bytes"))
            }
            BodyError::Cut => Error::new(400, "the request's body ended early"),
        })
    }

    /// The body as it comes, for one that is large or has no end. Reading twice is a 400.
    pub fn reader(&mut self) -> Result<Body, Error> {
        let body = self.inner.consume().ok().and_then(Body::new);
        body.ok_or_else(|| Error::new(400, "the request's body was read before"))
    }

    /// Reads the body, up to [`BODY_BYTES_MAX`], as JSON. What does not fit the type is a 400 that says where.
    #[cfg(feature = "json")]
    pub fn json<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, Error> {
        let bytes = self.body()?;
        serde_json::from_slice(&bytes).map_err(|error| Error::new(400, format!("the body does not fit: {error}")))
    }

    /// What a name of the [`Router`](crate::Router)'s pattern stands for, decoded.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn set_params(&mut self, params: Vec<(String, String)>) {
        self.params = params;
    }
}

/// Undoes `application/x-www-form-urlencoded`; a percent sign without two hex digits stands for itself.
fn decoded(text: &str) -> String {
    decoded_with(text, b' ')
}

/// The same of a path, where a plus is a plus.
pub(crate) fn percent_decoded(text: &str) -> String {
    decoded_with(text, b'+')
}

fn decoded_with(text: &str, plus: u8) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'+', _) => bytes.push(plus),
            (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                bytes.push(hex(*high) << 4 | hex(*low));
                rest = after;
            }
            _ => bytes.push(*first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values_are_decoded() {
        assert_eq!(decoded("two+words%21"), "two words!");
        assert_eq!(decoded("%C3%bcber"), "über");
        assert_eq!(decoded("100%"), "100%");
        assert_eq!(decoded("%zz%4"), "%zz%4");
        assert_eq!(decoded("%ff"), "\u{fffd}");
        assert_eq!(percent_decoded("a+b%20c"), "a+b c");
    }
}
