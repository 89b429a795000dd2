//! The gateway's own answers.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;
use skiff_api::id::ServiceKey;

use super::body::AnswerBody;
use super::peer::Verdict;
use crate::sandbox::Failure;

/// Tells the gateway's answers from a guest's.
pub(super) const ERROR_HEADER: HeaderName = HeaderName::from_static("x-skiff-error");

/// Why a request was not answered by a guest.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("nothing is served at {host}{path} (hint: `skiff get services` shows the routes)")]
    NoRoute { host: String, path: String },
    #[error("the request asks for no path (hint: send `GET /path` with a Host header, or `GET http://host/path`)")]
    BadTarget,
    #[error("the path has a '.' or '..' segment (hint: resolve it before asking)")]
    BadPath,
    #[error("{0} (hint: a request says exactly once which host it is for)")]
    BadHost(&'static str),
    #[error("the request has {0} header fields, more than {max} (hint: send fewer)", max = super::connection::HEADERS_MAX)]
    TooManyHeaders(usize),
    #[error("tunnels are not offered")]
    Connect,
    #[error("no replica of service {0} is ready (hint: `skiff describe service` shows why)")]
    NoReplica(ServiceKey),
    #[error("the replica of service {0} that was at work stopped (hint: try again)")]
    Stopped(ServiceKey),
    #[error("the node that answers for service {0} was lost (hint: what the request was to do may be done, or not)")]
    PeerLost(ServiceKey),
    #[error("service {service} does not let {caller} call it (hint: see http.callers)")]
    NotACaller { caller: ServiceKey, service: ServiceKey },
    #[error("the node that asks was removed from the cluster")]
    NodeRemoved,
    #[error("the request does not say what it is for (hint: this port is for nodes of the same cluster)")]
    BadHop,
    #[error("service {0} has as many requests in flight and waiting as it may (hint: raise replicas or http.inFlight)")]
    QueueFull(ServiceKey),
    #[error("no replica of service {0} was free in time (hint: raise replicas or http.inFlight)")]
    QueueTimeout(ServiceKey),
    #[error("service {0} sent no response in time (hint: see http.timeout.firstByte)")]
    FirstByteTimeout(ServiceKey),
    #[error("service {0} took longer than its total time (hint: see http.timeout.total)")]
    TotalTimeout(ServiceKey),
    #[error(
        "the call would be one too many in a chain of calls: {0} (hint: do these services call each other in a circle?)"
    )]
    CallDepth(String),
    #[error(transparent)]
    Guest(#[from] Failure),
}

/// Problem details (RFC 9457).
#[derive(Serialize)]
struct Problem<'a> {
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: String,
}

impl Refusal {
    /// Stable; [`crate::metrics`] lists them.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::NoRoute { .. } => "no-route",
            Self::BadTarget => "bad-target",
            Self::BadPath => "bad-path",
            Self::BadHost(_) => "bad-host",
            Self::TooManyHeaders(_) => "too-many-headers",
            Self::Connect => "method-not-allowed",
            Self::NoReplica(_) => "no-replica",
            Self::Stopped(_) => "replica-stopped",
            Self::PeerLost(_) => "peer-lost",
            Self::NotACaller { .. } => "not-a-caller",
            Self::BadHop => "bad-hop",
            Self::NodeRemoved => "node-removed",
            Self::QueueFull(_) => "queue-full",
            Self::QueueTimeout(_) => "queue-timeout",
            Self::FirstByteTimeout(_) => "first-byte-timeout",
            Self::TotalTimeout(_) => "total-timeout",
            Self::CallDepth(_) => "call-depth",
            Self::Guest(failure) => failure.code(),
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::NoRoute { .. } => StatusCode::NOT_FOUND,
            Self::BadTarget | Self::BadPath | Self::BadHost(_) | Self::BadHop => StatusCode::BAD_REQUEST,
            Self::PeerLost(_) => StatusCode::BAD_GATEWAY,
            Self::NotACaller { .. } | Self::NodeRemoved => StatusCode::FORBIDDEN,
            Self::TooManyHeaders(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoReplica(_) | Self::Stopped(_) | Self::QueueFull(_) | Self::QueueTimeout(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::FirstByteTimeout(_) | Self::TotalTimeout(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::CallDepth(_) => StatusCode::LOOP_DETECTED,
            Self::Guest(failure) => failure.status(),
        }
    }

    /// The reason of the event that tells the people of the service it is about; none where there is nothing to mend.
    pub(super) fn trouble(&self) -> Option<&'static str> {
        match self {
            Self::QueueFull(_) | Self::QueueTimeout(_) => Some("Overloaded"),
            Self::FirstByteTimeout(_) | Self::TotalTimeout(_) => Some("TimedOut"),
            Self::Guest(failure) => failure.trouble(),
            _ => None,
        }
    }

    /// What another node that passed the request on should make of it: where nothing was begun, that it may ask the next.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::NoReplica(_) => Some(Verdict::Gone),
            Self::QueueFull(_) => Some(Verdict::Full),
            Self::NotACaller { .. } => Some(Verdict::NotACaller),
            Self::Guest(Failure::PoolFull | Failure::CodeUnavailable) => Some(Verdict::Full),
            _ => None,
        }
    }

    fn retry_after_secs(&self) -> Option<u64> {
        match self {
            Self::Guest(failure) => failure.retry_after().map(|after| after.as_secs().max(1)),
            // Replicas start, and queues move, within a second; HTTP has no smaller unit.
            _ => (self.status() == StatusCode::SERVICE_UNAVAILABLE).then_some(1),
        }
    }

    pub(super) fn answer(&self) -> Response<AnswerBody> {
        let status = self.status();
        let code = self.code();
        let title = status.canonical_reason().unwrap_or_default();
        let problem = Problem { title, status: status.as_u16(), code, detail: self.to_string() };
        // Text and numbers cannot fail to be JSON.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut answer = Response::new(AnswerBody::whole(Bytes::from(body)));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(ERROR_HEADER, HeaderValue::from_static(code));
        if let Some(secs) = self.retry_after_secs() {
            headers.insert(RETRY_AFTER, HeaderValue::from(secs));
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_tried_again_says_when() {
        let service = ServiceKey { namespace: "default".parse().unwrap(), name: "cart".parse().unwrap() };
        for (refusal, status, retry) in [
            (Refusal::QueueFull(service.clone()), 503, true),
            (Refusal::NoReplica(service.clone()), 503, true),
            (Refusal::Guest(Failure::PoolFull), 503, true),
            (Refusal::FirstByteTimeout(service), 504, false),
            (Refusal::NoRoute { host: "a".to_owned(), path: "/".to_owned() }, 404, false),
        ] {
            let answer = refusal.answer();
            assert_eq!(answer.status().as_u16(), status);
            assert_eq!(answer.headers().contains_key(RETRY_AFTER), retry, "{refusal}");
            assert_eq!(answer.headers()[ERROR_HEADER], refusal.code());
        }
    }
}
