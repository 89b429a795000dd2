//! The port for other nodes: who may come in, and what of theirs is served.

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, Request};
use hyper::body::Incoming;
use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto;
use skiff_api::id::Uid;
use skiff_link::tls::ALPN_PEER;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::super::answer::Refusal;
use super::super::connection::Builder;
use super::super::flight::{Flight, Queued};
use super::super::leash::Streams;
use super::super::serve::{Answer, LOOKS_MAX, Shared, deadline, here, refused};
use super::super::target::{Entered, Refused, Target};
use super::super::upgrade::Upgrade;
use super::hop::Hop;
use super::identity::Ends;
use super::pool::{BUFFER_BYTES_MAX, CONNECTION_WINDOW_BYTES, HEAD_BYTES_MAX, STREAM_WINDOW_BYTES, STREAMS_MAX};
use crate::capabilities::Chain;

/// Two round trips, on a node that may be busy.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Requests of one connection that were cancelled before they were seen: clients that leave are not the other node's fault.
const CANCELLED_MAX: usize = 1024;
/// Nobody says that a request is under way for longer.
const ELAPSED_MAX: Duration = Duration::from_secs(24 * 3600);

/// How other nodes are met.
#[derive(Debug)]
pub(in super::super) struct PeerDoor(Ends);

impl PeerDoor {
    pub(in super::super) fn new(ends: Ends) -> Self {
        Self(ends)
    }

    /// Makes sure that a node of this cluster is there, and answers with its id.
    pub(in super::super) async fn greet<S>(&self, stream: S) -> Result<(TlsStream<S>, Uid), NotANode>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let accepting = TlsAcceptor::from(self.0.server.clone()).accept(stream);
        let stream = timeout(HANDSHAKE_MAX, accepting).await.map_err(|_| NotANode::TooSlow)?;
        let stream = stream.map_err(NotANode::Handshake)?;
        let (_, connection) = stream.get_ref();
        if connection.alpn_protocol() != Some(ALPN_PEER) {
            return Err(NotANode::Protocol);
        }
        let peer = skiff_link::identity::Peer::of(connection).ok_or(NotANode::Name)?;
        Ok((stream, peer.uid))
    }
}

/// Why somebody is not let in.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum NotANode {
    #[error("the handshake took too long")]
    TooSlow,
    #[error("the handshake failed: {0}")]
    Handshake(#[source] std::io::Error),
    #[error("it does not speak as a node does")]
    Protocol,
    #[error("its certificate is not a node's")]
    Name,
}

/// As for clients, with more room: who comes is known.
pub(in super::super) fn builder() -> Builder {
    let mut builder = auto::Builder::new(Streams).http2_only();
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(2 * STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX)
        .max_send_buf_size(BUFFER_BYTES_MAX)
        .max_pending_accept_reset_streams(Some(CANCELLED_MAX))
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(15));
    builder
}

/// Answers a request of another node from a replica on this one, or not at all.
pub(in super::super) async fn serve(
    flight: &mut Flight,
    started: Instant,
    (mut parts, body): (Parts, Incoming),
) -> Result<Answer, Refusal> {
    let shared = &flight.client.shared;
    shared.metrics.peers.served();
    // Also on a connection from before it was removed.
    if let (Some(peers), Some(node)) = (&shared.peers, &flight.client.node)
        && peers.is_removed(node)
    {
        return Err(Refusal::NodeRemoved);
    }
    let hop = said(&mut parts.headers)?;
    if let Some(upgrade) = Upgrade::take(&mut parts.headers) {
        parts.extensions.insert(upgrade);
    }
    // Its time began where it came in.
    let started = started.checked_sub(hop.elapsed.min(ELAPSED_MAX)).unwrap_or(started);
    let place = enter(flight, &hop, started).await?;
    if !hop.chain.is_empty() {
        parts.extensions.insert(Chain::of(hop.chain));
    }
    here(flight, place, started, Request::from_parts(parts, body)).await
}

fn said(headers: &mut HeaderMap) -> Result<Hop, Refusal> {
    Hop::take(headers).ok_or(Refusal::BadHop)
}

async fn enter(flight: &Flight, hop: &Hop, started: Instant) -> Result<(Arc<Target>, Entered), Refusal> {
    let client = &flight.client;
    let mut is_full = false;
    for _ in 0..LOOKS_MAX {
        let target = pick(&client.shared, hop, is_full)?;
        match target.enter(deadline(&target, started), || Queued::new(client, &target)).await {
            Ok(entered) => return Ok((target, entered)),
            Err(Refused::Closed) => {}
            Err(Refused::QueueFull) if is_full => return Err(refused(&target, Refusal::QueueFull)),
            Err(Refused::QueueFull) => is_full = true,
            Err(Refused::QueueTimeout) => return Err(refused(&target, Refusal::QueueTimeout)),
        }
    }
    Err(Refusal::NoReplica(hop.to.clone()))
}

/// A replica on this node, also one that is about to stop.
fn pick(shared: &Shared, hop: &Hop, was_full: bool) -> Result<Arc<Target>, Refusal> {
    let services = shared.services.load();
    let gone = || Refusal::NoReplica(hop.to.clone());
    let callee = services.get(&hop.to).ok_or_else(gone)?;
    if let Some(caller) = hop.chain.last()
        && !callee.callers.include(&hop.to.namespace, caller)
    {
        return Err(Refusal::NotACaller { caller: caller.clone(), service: hop.to.clone() });
    }
    let picked = if was_full { callee.backend.emptiest() } else { callee.backend.pick() };
    picked.or_else(|| callee.backend.leaving()).cloned().ok_or_else(gone)
}
