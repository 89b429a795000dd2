//! A container that answers requests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use skiff_api::wire::Stream;

use super::upgrade;
use crate::capabilities::{Listed, Outbound};
use crate::gateway::Upgrade;
use crate::logs::Sink;
use crate::metrics::Figures;
use crate::sandbox::{Body, Failure};

/// It is on this machine: a connection is there at once, or the container does not take any.
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Shorter than servers keep a connection that is not used.
const IDLE_MAX: Duration = Duration::from_secs(4);
/// Connections kept for the next request.
const IDLE_CONNECTIONS_MAX: usize = 64;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type RequestBody = UnsyncBoxBody<Bytes, BoxError>;

/// A container, as the gateway calls it.
pub(crate) struct Callee {
    /// None: it has no port for requests.
    address: Option<SocketAddr>,
    client: Client<HttpConnector, RequestBody>,
    logs: Sink,
    /// Where its troubles are told.
    outbound: Outbound,
    figures: Arc<Figures>,
    /// For who comes without HTTP.
    _listed: Option<Listed>,
}

impl Callee {
    pub(crate) fn new(address: Option<SocketAddr>, logs: Sink, outbound: Outbound, figures: Arc<Figures>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_MAX));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(connector);
        let listed = address.and_then(|address| outbound.listens_at(address.ip()));
        Self { address, client, logs, outbound, figures, _listed: listed }
    }

    pub(crate) fn figures(&self) -> &Arc<Figures> {
        &self.figures
    }

    /// Adds a line of the node's own to the replica's log.
    pub(crate) fn note(&self, line: &str) {
        self.logs.for_request().write(Stream::System, format!("{line}\n").as_bytes());
    }

    pub(crate) fn warn(&self, reason: &str, message: String) {
        self.outbound.warn(reason, message);
    }

    /// Puts a request to it. A request on a kept connection that the container has closed meanwhile goes over a new one.
    pub(crate) async fn call<B>(&self, request: Request<B>) -> Result<Response<Body>, Failure>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let Some(address) = self.address else {
            let why = "it has no port for requests (hint: name one in `ports`)".to_owned();
            return Err(Failure::Unreachable { why });
        };
        let (mut parts, body) = request.into_parts();
        if !parts.headers.contains_key(HOST) {
            let authority = parts.uri.authority().map_or("localhost", |authority| authority.as_str());
            let host = HeaderValue::from_str(authority).unwrap_or(HeaderValue::from_static("localhost"));
            parts.headers.insert(HOST, host);
        }
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let uri = Uri::builder().scheme("http").authority(address.to_string()).path_and_query(path).build();
        parts.uri = uri.map_err(|error| Failure::BadRequest { why: error.to_string() })?;
        parts.version = Version::HTTP_11;
        if let Some(upgrade) = parts.extensions.remove::<Upgrade>() {
            parts.extensions.clear();
            return upgrade::call(address, Request::from_parts(parts, body), upgrade).await;
        }
        parts.extensions.clear();
        let is_empty = body.is_end_stream();
        let body: RequestBody = match is_empty {
            true => http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync(),
            false => body.map_err(|error| BoxError::from(Box::new(error))).boxed_unsync(),
        };
        let answer = self.client.request(Request::from_parts(parts, body)).await;
        let answer = answer.map_err(|error| Failure::Unreachable { why: crate::reconcile::chain(&error) })?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failure::Unreachable {
                why: "it goes on in another protocol, which nobody asked for".to_owned(),
            });
        }
        let (mut head, body) = answer.into_parts();
        head.version = Version::HTTP_11;
        head.extensions.clear();
        let body = body.map_err(|error| Failure::IncompleteBody { why: crate::reconcile::chain(&error) });
        Ok(Response::from_parts(head, Body::elsewhere(body.boxed_unsync())))
    }
}
