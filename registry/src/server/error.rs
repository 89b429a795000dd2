//! Errors in the shape and with the codes of the distribution specification.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::store;

/// One failed request.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    pub(super) message: String,
}

#[derive(Serialize)]
struct Body {
    errors: [Entry; 1],
}

#[derive(Serialize)]
struct Entry {
    code: &'static str,
    message: String,
}

impl Failure {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(super) fn name_invalid(name: &str) -> Self {
        let name: String = name.chars().take(80).collect();
        Self::new(StatusCode::BAD_REQUEST, "NAME_INVALID", format!("repository name {name:?} is not valid"))
    }

    pub(super) fn digest_invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "DIGEST_INVALID", message)
    }

    pub(super) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message)
    }

    pub(super) fn unauthorized() -> Self {
        let hint = "no valid token was sent (hint: log in with any user name and a token as the password)";
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", hint)
    }

    pub(super) fn denied(what: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "DENIED", format!("the token does not allow this on {what}"))
    }

    pub(super) fn too_slow() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "BLOB_UPLOAD_INVALID",
            "the body stopped coming (hint: go on from where it is)",
        )
    }

    /// The blocking thread is gone: the process is stopping, or there is a bug.
    pub(super) fn stopped() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNKNOWN", "the registry is stopping (hint: try again)")
    }
}

impl From<store::Error> for Failure {
    fn from(e: store::Error) -> Self {
        use store::Error as E;
        let (status, code) = match &e {
            E::Repository { .. } => (StatusCode::BAD_REQUEST, "NAME_INVALID"),
            E::Tag { .. } => (StatusCode::BAD_REQUEST, "TAG_INVALID"),
            E::UploadUnknown { .. } => (StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN"),
            E::UploadOffset { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID"),
            E::UploadsTooMany { .. } | E::UploadsTooManyOfClient { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS")
            }
            E::UploadDigest { .. } => (StatusCode::BAD_REQUEST, "DIGEST_INVALID"),
            E::BlobTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"),
            E::ManifestInvalid { .. } => (StatusCode::BAD_REQUEST, "MANIFEST_INVALID"),
            E::ManifestBlobUnknown { .. } => (StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN"),
            _ if e.is_disk_full() => {
                tracing::error!(error = %e, "the registry's disk is full");
                let message = format!("{e}: the disk is full (hint: free some space on the control plane's machine)");
                return Self::new(StatusCode::INSUFFICIENT_STORAGE, "UNKNOWN", message);
            }
            _ => {
                // The cause has paths of the server in it: it belongs into the log, not into the answer.
                tracing::error!(error = %e, cause = ?std::error::Error::source(&e), "the registry failed");
                (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN")
            }
        };
        Self::new(status, code, e.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response =
            (status, Json(Body { errors: [Entry { code: self.code, message: self.message }] })).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Basic realm=\"skiff\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
