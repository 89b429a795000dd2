//! HTTP to one replica and no other, for whoever reaches past the gateway: over a stream that leads here.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::HEAD_TIMEOUT;
use super::headers;
use super::inside::{Broken, Called, CalleeBody, put};
use super::target::Target;

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
