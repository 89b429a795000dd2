//! What an error of `oci-client` means to the user of an image.
//!
//! Its errors come in several forms for one cause: a status may be in its own error, in reqwest's, or be gone because
//! the body followed the specification; a transfer that broke off may be wrapped in an I/O error. All lead to the same
//! few errors here.

use std::io;

use oci_client::errors::{DigestError, OciDistributionError, OciEnvelope, OciErrorCode};

use super::error::Error;
use super::remote::Inner;

/// How much is quoted of an error that is not in the specification's shape: a proxy's page, for example.
const QUOTE_CHARS_MAX: usize = 200;

impl Inner {
    pub(super) fn endpoint(&self) -> String {
        self.options.endpoint.clone()
    }

    /// What a failed call means.
    pub(super) fn failed(&self, image: &str, e: OciDistributionError) -> Error {
        match e {
            OciDistributionError::RequestError(e) => self.broke_off(image, e),
            OciDistributionError::UnauthorizedError { .. } => self.refused(image, 401, ""),
            OciDistributionError::ServerError { code, message, .. } => self.refused(image, code, &message),
            OciDistributionError::RegistryError { envelope, .. } => {
                let status = envelope.errors.first().map_or(400, |first| usual_status(&first.code));
                self.refused_saying(image, status, listed(&envelope))
            }
            OciDistributionError::DigestError(e) => self.damaged(image, &e),
            e => self.protocol(image, e),
        }
    }

    /// What the failure of a stream means.
    pub(super) fn interrupted(&self, image: &str, e: io::Error) -> Error {
        let cause = match e.downcast::<reqwest::Error>() {
            Ok(e) => return self.broke_off(image, e),
            Err(e) => e,
        };
        match cause.downcast::<DigestError>() {
            Ok(e) => self.damaged(image, &e),
            Err(e) => self.protocol(image, e),
        }
    }

    /// What a failed transfer means.
    pub(super) fn broke_off(&self, image: &str, e: reqwest::Error) -> Error {
        if let Some(status) = e.status() {
            return self.refused(image, status.as_u16(), "");
        }
        let (endpoint, image) = (self.endpoint(), image.to_owned());
        match () {
            () if e.is_connect() => Error::Connect { endpoint, source: e },
            () if e.is_timeout() => Error::Timeout { endpoint, image, idle: self.options.idle_timeout },
            () => Error::Transfer { endpoint, image, source: e },
        }
    }

    /// What an answer with a status that is none of the good ones means. `body` is what came with it.
    pub(super) fn refused(&self, image: &str, status: u16, body: &str) -> Error {
        let message = match serde_json::from_str(body) {
            Ok(envelope) => listed(&envelope),
            Err(_) => body.chars().take(QUOTE_CHARS_MAX).collect(),
        };
        self.refused_saying(image, status, message)
    }

    fn refused_saying(&self, image: &str, status: u16, message: String) -> Error {
        let (endpoint, image) = (self.endpoint(), image.to_owned());
        match status {
            404 => Error::NotFound { endpoint, image },
            401 => Error::Unauthorized { endpoint, image },
            403 => Error::Denied { image },
            429 | 500 | 502 | 503 | 504 => Error::Unavailable { endpoint, status, message },
            _ => Error::Refused { endpoint, image, status, message },
        }
    }

    fn damaged(&self, image: &str, e: &DigestError) -> Error {
        if let DigestError::VerificationError { expected, actual } = e
            && let (Ok(expected), Ok(actual)) = (expected.parse(), actual.parse())
        {
            return Error::DigestMismatch { image: image.to_owned(), expected, actual };
        }
        self.protocol(image, e)
    }

    pub(super) fn protocol(&self, image: &str, why: impl ToString) -> Error {
        Error::Protocol { endpoint: self.endpoint(), image: image.to_owned(), why: why.to_string() }
    }
}

fn listed(envelope: &OciEnvelope) -> String {
    let entry = |e: &oci_client::errors::OciError| {
        let code = serde_json::to_value(&e.code).unwrap_or_default();
        format!("{}: {}", code.as_str().unwrap_or_default(), e.message)
    };
    envelope.errors.iter().map(entry).collect::<Vec<_>>().join("; ")
}

/// The status that an error code is sent with: the library drops it where the body has a code.
fn usual_status(code: &OciErrorCode) -> u16 {
    match code {
        OciErrorCode::BlobUnknown
        | OciErrorCode::BlobUploadUnknown
        | OciErrorCode::ManifestUnknown
        | OciErrorCode::NameUnknown
        | OciErrorCode::NotFound => 404,
        OciErrorCode::Unauthorized => 401,
        OciErrorCode::Denied => 403,
        OciErrorCode::Unsupported => 405,
        OciErrorCode::Toomanyrequests => 429,
        _ => 400,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Client, ClientOptions};
    use crate::hash::sha256;

    fn inner() -> std::sync::Arc<Inner> {
        Client::new(ClientOptions::new("localhost:1")).unwrap().0
    }

    fn failed(e: OciDistributionError) -> String {
        inner().failed("shop/cart:1", e).to_string()
    }

    fn answered(code: u16, body: &str) -> String {
        failed(OciDistributionError::ServerError { code, url: String::new(), message: body.to_owned() })
    }

    fn in_its_shape(code: &str) -> String {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"why"}}]}}"#);
        failed(OciDistributionError::RegistryError {
            envelope: serde_json::from_str(&body).unwrap(),
            url: String::new(),
        })
    }

    #[test]
    fn says_the_same_whatever_form_the_error_has() {
        for (status, code, expected) in [
            (404, "MANIFEST_UNKNOWN", "is not in the registry"),
            (403, "DENIED", "does not allow this on shop/cart:1"),
            (401, "UNAUTHORIZED", "does not accept this token"),
            (429, "TOOMANYREQUESTS", "is busy or failing: 429 TOOMANYREQUESTS: why"),
            (405, "UNSUPPORTED", "refused shop/cart:1: 405 UNSUPPORTED: why"),
            (400, "OF_ITS_OWN", "refused shop/cart:1: 400 OF_ITS_OWN: why"),
        ] {
            let body = format!(r#"{{"errors":[{{"code":"{code}","message":"why"}}]}}"#);
            for text in [in_its_shape(code), answered(status, &body)] {
                assert!(text.contains(expected), "{text}");
            }
        }
        assert!(answered(507, "full").contains("refused shop/cart:1: 507 full"));
        assert!(answered(502, &"x".repeat(1000)).len() < 400, "a proxy's page is quoted in part");
    }

    #[test]
    fn finds_the_cause_in_a_stream_that_broke_off() {
        let (expected, actual) = (sha256(b"a"), sha256(b"b"));
        let wrong = DigestError::VerificationError { expected: expected.to_string(), actual: actual.to_string() };
        let error = inner().interrupted("shop/cart:1", io::Error::other(wrong));
        assert!(
            matches!(error, Error::DigestMismatch { expected: e, actual: a, .. } if (&e, &a) == (&expected, &actual))
        );
        let error = inner().interrupted("shop/cart:1", io::Error::other("nonsense"));
        assert!(matches!(error, Error::Protocol { why, .. } if why == "nonsense"));
    }
}
