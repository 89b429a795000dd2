//! One replica's way out: what a request is for, and whether it may go there.

use std::fmt::Write;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use skiff_api::grant::{Host, Origin, Scheme};
use skiff_api::id::{Name, ReplicaKey, ServiceKey};
use skiff_api::resource::Template;
use skiff_api::wire::{Assignment, Stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody};

use super::notes::Notes;
use super::pool::Pool;
use super::{Chain, Reach, http as servers, services};
use crate::logs::Sink;
use crate::metrics::{Outgoing, Refused};

/// Requests of one replica to others at once: four for each request that it answers, and enough of them that a service
/// which takes one request at a time can still ask several servers for it.
const CALLS_PER_REQUEST: usize = 4;
const CALLS_MIN: usize = 64;

/// Connections of one replica that carry what is not looked at: as many as pools of databases have.
const LINES_MAX: usize = 256;

/// The end of the names of services.
const INTERNAL: &str = "internal";

/// What carries on once there is a response. Everything here is carried by the response's body.
pub(crate) type Sent = Box<dyn Future<Output = Result<(), HttpError>> + Send>;

/// A request under way, as wasi:http's hooks return it.
pub(crate) type Sending = Box<dyn Future<Output = Result<(Response<WasiBody>, Sent), HttpError>> + Send>;

/// What a replica's guests reach. Cheap to clone.
#[derive(Clone, Default)]
pub struct Outbound(pub(super) Option<Arc<Caller>>);

/// A replica as one that calls.
pub(super) struct Caller {
    replica: ReplicaKey,
    pub(super) service: ServiceKey,
    pub(super) template: Arc<Template>,
    pub(super) reach: Arc<Reach>,
    pub(super) pool: OnceLock<Arc<Pool>>,
    calls: Arc<Semaphore>,
    pub(super) lines: Arc<Semaphore>,
    logs: Sink,
    notes: Notes,
    /// What else was told of the replica: a flood of the one must not hide the other.
    troubles: Notes,
}

/// A call that is counted while it lasts.
pub(super) struct Lasting(Arc<Outgoing>);

impl Lasting {
    pub(super) fn new(figures: &Arc<Outgoing>) -> Self {
        figures.in_flight(1);
        Self(figures.clone())
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        self.0.in_flight(-1);
    }
}

/// What a request is for.
#[derive(Debug, PartialEq, Eq)]
enum Destination {
    Service(ServiceKey),
    Server(Origin),
    /// A name of this cluster's that is no service's.
    Nobody(String),
}

impl Outbound {
    /// The way out of a replica. Without one ([`Outbound::default`]), every request is denied.
    pub(crate) fn new(assignment: &Assignment, logs: Sink, reach: Arc<Reach>) -> Self {
        let template = assignment.template.clone();
        let calls = (template.in_flight as usize).saturating_mul(CALLS_PER_REQUEST).max(CALLS_MIN);
        Self(Some(Arc::new(Caller {
            replica: assignment.replica.clone(),
            service: assignment.service_key(),
            template,
            reach,
            pool: OnceLock::new(),
            calls: Arc::new(Semaphore::new(calls.min(Semaphore::MAX_PERMITS))),
            lines: Arc::new(Semaphore::new(LINES_MAX)),
            logs,
            notes: Notes::default(),
            troubles: Notes::default(),
        })))
    }

    /// Tells of trouble with the replica as an event, unless it was told lately. Its log is the caller's affair.
    pub(crate) fn warn(&self, reason: &str, message: String) {
        if let Some(caller) = &self.0
            && caller.troubles.is_news(&message)
        {
            caller.reach.warn(&caller.replica, reason, message);
        }
    }

    /// Sends a request of a guest that answers one with this chain of callers.
    pub(crate) fn send(&self, chain: &Chain, request: Request<WasiBody>, options: Option<RequestOptions>) -> Sending {
        let Some(caller) = self.0.clone() else {
            return Box::new(std::future::ready(Err(HttpError::HttpRequestDenied)));
        };
        let chain = chain.clone();
        Box::new(async move {
            let options = options.unwrap_or_default();
            if *request.method() == Method::CONNECT {
                return Err(HttpError::HttpRequestMethodInvalid);
            }
            let Ok(permit) = caller.calls.clone().try_acquire_owned() else {
                caller.tell(
                    "OutboundLimit",
                    "too many requests to others at once (hint: raise http.inFlight)".to_owned(),
                );
                return Err(HttpError::ConnectionLimitReached);
            };
            let lasting = (Lasting::new(&caller.reach.figures), permit);
            match destination(request.uri())? {
                Destination::Service(to) => services::send(&caller, (&chain, &to), request, options, lasting).await,
                Destination::Server(origin) => servers::send(&caller, origin, request, options, lasting).await,
                Destination::Nobody(url) => {
                    let hint = "services are at http://NAME.NAMESPACE.internal, without a port";
                    Err(caller.deny(Refused::Malformed, &url, hint))
                }
            }
        })
    }
}

impl Caller {
    pub(super) fn replica(&self) -> &ReplicaKey {
        &self.replica
    }

    /// Refuses a request, and tells whoever can change that.
    pub(super) fn deny(&self, why: Refused, what: &str, hint: &str) -> HttpError {
        self.reach.figures.refused(why);
        self.tell("OutboundDenied", format!("{what} (hint: {hint})"));
        match why {
            Refused::Address => HttpError::DestinationIpProhibited,
            _ => HttpError::HttpRequestDenied,
        }
    }

    /// Tells it in the replica's log and as an event, unless it was told lately.
    pub(super) fn tell(&self, reason: &str, message: String) {
        if !self.notes.is_news(&message) {
            return;
        }
        let mut line = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(line, "{reason}: {message}");
        self.logs.for_request().write(Stream::System, line.as_bytes());
        self.reach.warn(&self.replica, reason, message);
    }
}

/// A response that is all there.
pub(super) fn whole(response: Response<Bytes>) -> (Response<WasiBody>, Sent) {
    let response = response.map(|bytes| Full::new(bytes).map_err(|never| match never {}).boxed_unsync());
    (response, done())
}

pub(super) fn done() -> Sent {
    Box::new(std::future::ready(Ok(())))
}

/// What a call holds until its answer was read.
pub(super) type Held = (Lasting, OwnedSemaphorePermit);

fn destination(uri: &http::Uri) -> Result<Destination, HttpError> {
    let scheme = match uri.scheme_str() {
        Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        _ => return Err(HttpError::HttpProtocolError),
    };
    let authority = uri.authority().ok_or(HttpError::HttpRequestUriInvalid)?;
    let origin = Origin::new(scheme, authority.as_str()).map_err(|_| HttpError::HttpRequestUriInvalid)?;
    let Host::Name(name) = &origin.host else { return Ok(Destination::Server(origin)) };
    Ok(match named(name) {
        Named::Outside => Destination::Server(origin),
        Named::Service(service) if scheme == Scheme::Http && origin.port == 80 => Destination::Service(service),
        Named::Service(_) | Named::Nobody => Destination::Nobody(origin.to_string()),
    })
}

/// Whose name a host's is.
pub(super) enum Named {
    Service(ServiceKey),
    /// It is a name of this cluster's, and no service's.
    Nobody,
    Outside,
}

/// `name` as [`Host`] has it.
pub(super) fn named(name: &str) -> Named {
    let Some(name) = name.strip_suffix(INTERNAL).filter(|rest| rest.is_empty() || rest.ends_with('.')) else {
        return Named::Outside;
    };
    let parts = name.strip_suffix('.').and_then(|name| name.split_once('.'));
    let service = parts.and_then(|(name, namespace)| {
        Some(ServiceKey { namespace: namespace.parse::<Name>().ok()?, name: name.parse::<Name>().ok()? })
    });
    service.map_or(Named::Nobody, Named::Service)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uri: &str) -> Option<Destination> {
        destination(&uri.parse().unwrap()).ok()
    }

    #[test]
    fn what_ends_in_internal_is_a_service_or_nobody() {
        let service = |name: &str, namespace: &str| {
            let key = ServiceKey { namespace: namespace.parse().unwrap(), name: name.parse().unwrap() };
            Some(Destination::Service(key))
        };
        for uri in ["http://cart.shop.internal/x", "http://CART.Shop.Internal.:80/"] {
            assert_eq!(of(uri), service("cart", "shop"), "{uri}");
        }
        for uri in [
            "https://cart.shop.internal/",
            "http://cart.shop.internal:8080/",
            "http://cart.internal/",
            "http://a.b.c.internal/",
            "http://internal/",
            "http://_x.shop.internal/",
        ] {
            assert!(matches!(of(uri), Some(Destination::Nobody(_))), "{uri}");
        }
        // Nobody can make a namespace of that name, so this finds nothing; it never becomes a look-up outside.
        assert_eq!(of("http://metadata.google.internal/"), service("metadata", "google"));
        for uri in ["http://notinternal/", "http://a.example/", "http://[::1]/", "http://internal.example/"] {
            assert!(matches!(of(uri), Some(Destination::Server(_))), "{uri}");
        }
        for uri in ["http://user@a.example/", "ftp://a.example/", "http://127.1/", "/x"] {
            assert_eq!(of(uri), None, "{uri}");
        }
    }
}
