//! HTTP to one replica and no other, for whoever reaches past the gateway: over a stream that leads here, or to see whether
//! it is well.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::HEAD_TIMEOUT;
use super::headers;
use super::inside::{Broken, Called, CalleeBody, put};
use super::target::Target;
use crate::health::Check;

/// How checks of health call themselves.
pub(crate) const CHECKER: &str = "skiff-health";

type Body = UnsyncBoxBody<Bytes, Broken>;

/// Serves a connection until it ends.
pub(crate) async fn serve_one(target: Arc<Target>, stream: impl AsyncRead + AsyncWrite + Send + 'static) {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder.http2().timer(TokioTimer::new());
    let service = service_fn(move |request| {
        let target = target.clone();
        async move { Ok::<_, Infallible>(answer(target, request).await) }
    });
    let connection = builder.serve_connection(TokioIo::new(Box::pin(stream)), service);
    if let Err(error) = pin!(connection).await {
        tracing::debug!(error, "a forwarded connection ended early");
    }
}

/// A replica, and the path that it is asked for. It is not kept for that.
pub(crate) struct Checked {
    target: Weak<Target>,
    path: String,
}

impl Checked {
    pub(crate) fn new(target: &Arc<Target>, path: Option<&str>) -> Self {
        Self { target: Arc::downgrade(target), path: path.unwrap_or("/").to_owned() }
    }

    /// Whether it still takes requests, so that what it answered means something.
    pub(crate) fn is_there(&self) -> bool {
        self.target.upgrade().is_some_and(|target| !target.is_closed())
    }
}

impl Check for Checked {
    async fn check(&self) -> Result<(), String> {
        match self.target.upgrade() {
            Some(target) => check(&target, &self.path).await,
            None => Err("it is gone".to_owned()),
        }
    }
}

/// Whether a replica answers `GET path` as one that is well does. An error says what it did instead.
async fn check(target: &Arc<Target>, path: &str) -> Result<(), String> {
    let host = format!("{}.{}.internal", target.service.name, target.service.namespace);
    let request = Request::get(path).header(HOST, host).header(USER_AGENT, CHECKER).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| format!("GET {path} failed: {error}"))?;
    let status = match put(target.clone(), request).await {
        Called::Whole(response) => response.status(),
        // What it goes on to say is not waited for.
        Called::Streams(head, _) => head.status,
        Called::NotACaller | Called::Impatient => return Err(format!("GET {path} got no answer")),
    };
    match status.is_success() || status.is_redirection() {
        true => Ok(()),
        false => Err(format!("GET {path} was answered with {}", status.as_u16())),
    }
}

async fn answer(target: Arc<Target>, mut request: Request<Incoming>) -> Response<Body> {
    headers::end_here(request.headers_mut());
    match put(target, request).await {
        Called::Whole(response) => {
            response.map(|bytes| Full::new(bytes).map_err(|never| match never {}).boxed_unsync())
        }
        Called::Streams(head, body) => Response::from_parts(head, streamed(body)),
        // Nobody asked whether the caller may, or how long it waits.
        Called::NotACaller | Called::Impatient => Response::new(Body::default()),
    }
}

fn streamed(body: CalleeBody) -> Body {
    let frames = futures_util::stream::unfold(body, |mut body| async move { Some((body.next().await?, body)) });
    StreamBody::new(frames).boxed_unsync()
}
