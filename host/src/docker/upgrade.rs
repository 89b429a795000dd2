//! A request to a container that asks to go on in another protocol.

use std::net::SocketAddr;
use std::pin::pin;

use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::io::ReaderStream;

use super::call::CONNECT_MAX;
use crate::gateway::Upgrade;
use crate::reconcile::chain;
use crate::sandbox::{Body, Failure};

fn unreachable(error: &dyn std::error::Error) -> Failure {
    Failure::Unreachable { why: chain(error) }
}

/// Puts it over a connection of its own. The request's body is what is said once the container goes on in that protocol,
/// and the answer's what it says. One that does not, answers as to any request.
pub(super) async fn call<B>(
    address: SocketAddr,
    request: Request<B>,
    upgrade: Upgrade,
) -> Result<Response<Body>, Failure>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let dialled = timeout(CONNECT_MAX, TcpStream::connect(address)).await;
    let dialled = dialled.map_err(|_| Failure::Unreachable { why: "it did not take the connection".to_owned() })?;
    let stream = dialled.map_err(|error| unreachable(&error))?;
    let shaken = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|error| unreachable(&error))?;
    tokio::spawn(connection.with_upgrades());
    let (mut parts, says) = request.into_parts();
    parts.uri = parts.uri.path_and_query().cloned().map(Into::into).unwrap_or_default();
    parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(UPGRADE, upgrade.0);
    let answer = sender.send_request(Request::from_parts(parts, Empty::<Bytes>::new())).await;
    let mut answer = answer.map_err(|error| unreachable(&error))?;
    let on_upgrade = hyper::upgrade::on(&mut answer);
    let (mut head, body) = answer.into_parts();
    head.version = Version::HTTP_11;
    head.extensions.clear();
    if head.status != StatusCode::SWITCHING_PROTOCOLS {
        let body = body.map_err(|error| Failure::IncompleteBody { why: chain(&error) });
        return Ok(Response::from_parts(head, Body::elsewhere(body.boxed_unsync())));
    }
    let upgraded = on_upgrade.await.map_err(|error| unreachable(&error))?;
    let (reads, mut writes) = tokio::io::split(TokioIo::new(upgraded));
    // It ends with what is said, whose other end is gone when nobody wants the answer any more.
    tokio::spawn(async move {
        let mut says = pin!(says);
        while let Some(Ok(frame)) = says.frame().await {
            if let Ok(bytes) = frame.into_data()
                && (writes.write_all(&bytes).await.is_err() || writes.flush().await.is_err())
            {
                break;
            }
        }
        let _ = writes.shutdown().await;
    });
    let frames = ReaderStream::new(reads).map(|bytes| match bytes {
        Ok(bytes) => Ok(http_body::Frame::data(bytes)),
        Err(error) => Err(Failure::IncompleteBody { why: error.to_string() }),
    });
    Ok(Response::from_parts(head, Body::elsewhere(StreamBody::new(frames).boxed_unsync())))
}
