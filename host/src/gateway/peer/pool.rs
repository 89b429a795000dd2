//! Another node, and the connections to it.
//!
//! Each thread of the gateway has connections of its own, so that a request and what carries it are woken together. They
//! are made when they are needed; the other node ends those that nobody uses.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use skiff_api::id::Uid;
use skiff_link::names::node_server_name;
use skiff_link::tls::ALPN_PEER;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

use super::health::{Health, State};
use super::identity::Ends;
use super::tape::PeerBody;
use crate::metrics::Metrics;
use crate::reconcile::chain;

/// What a stream may have under way unread. A body that a node does not read stays with who sends it, but for this.
pub(super) const STREAM_WINDOW_BYTES: u32 = 64 << 10;
/// Requests at once on one connection.
pub(super) const STREAMS_MAX: u32 = 128;
/// All streams' windows: one that is not read must not keep the others waiting.
pub(super) const CONNECTION_WINDOW_BYTES: u32 = STREAMS_MAX * STREAM_WINDOW_BYTES;
/// A request's head or a response's: what the gateway takes, and what it adds.
pub(super) const HEAD_BYTES_MAX: u32 = 128 << 10;
/// What is buffered of a stream, as for clients.
pub(super) const BUFFER_BYTES_MAX: usize = 64 << 10;
/// Connections of one thread to one node; beyond that, requests wait for a stream.
const CONNECTIONS_EACH_MAX: usize = 4;
/// Threads with connections of their own; more share them.
const SHARDS_MAX: usize = 8;

/// One SYN may be lost, which is sent again after a second.
const CONNECT_MAX: Duration = Duration::from_millis(1300);
/// The same with the handshake, which a busy node answers late.
const DIAL_MAX: Duration = Duration::from_secs(3);

/// While requests are under way: a node that is gone without a word is known within two seconds.
const PING_EVERY: Duration = Duration::from_millis(500);
const PING_TIMEOUT: Duration = Duration::from_millis(1500);
/// A connection that has requests under way and says nothing for so long, not even to a ping, gets no new ones.
const SILENT_MS: u64 = 900;

thread_local! {
    static SHARD: Cell<usize> = const { Cell::new(0) };
}

/// This thread has connections of its own from now on.
pub(in super::super) fn own_shard(number: usize) {
    SHARD.set(number);
}

/// Milliseconds of a clock that does not jump; never zero.
pub(super) fn now_ms() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX - 1) + 1
}

/// Another node.
pub(crate) struct Peer {
    pub(super) uid: Uid,
    pub(super) address: String,
    pub(super) health: Health,
    /// `None` where its id is none: then it cannot be a node of this cluster.
    name: Option<ServerName<'static>>,
    ends: Ends,
    metrics: Arc<Metrics>,
    shards: Box<[Shard]>,
}

/// One thread's connections.
#[derive(Default)]
struct Shard {
    open: Mutex<Vec<Open>>,
    /// One is made at a time: who waits for it uses it, or fails with it.
    dialing: tokio::sync::Mutex<()>,
    failures: AtomicU64,
}

struct Open {
    sender: SendRequest<PeerBody>,
    line: Arc<Line>,
}

/// What is noted of a connection.
#[derive(Default)]
struct Line {
    streams: AtomicU32,
    busy_since: AtomicU64,
    heard_at: AtomicU64,
}

/// A place on a connection. Given back when it is dropped.
pub(super) struct Lease {
    pub(super) sender: SendRequest<PeerBody>,
    pub(super) stream: Stream,
}

/// A request under way on a connection.
pub(super) struct Stream(Arc<Line>);

/// Why there is no connection to a node.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreachable {
    #[error("its id is not one")]
    NoName,
    #[error("failed to connect")]
    Connect(#[source] io::Error),
    #[error("it did not answer in time")]
    TooSlow,
    #[error("it does not speak as a node does")]
    Protocol,
    #[error("failed to begin with HTTP/2")]
    Http2(#[source] hyper::Error),
    #[error("another request could not connect either")]
    Shared,
}

impl Peer {
    pub(super) fn new(uid: Uid, address: String, ends: Ends, metrics: Arc<Metrics>) -> Self {
        let shards = std::thread::available_parallelism().map_or(1, usize::from).min(SHARDS_MAX);
        let name = node_server_name(&uid).ok();
        let shards = (0..shards).map(|_| Shard::default()).collect();
        Self { uid, address, health: Health::default(), name, ends, metrics, shards }
    }

    /// Whether it is worth a request, as far as is known.
    pub(super) fn state(&self, now: u64) -> State {
        match self.health.state(now) {
            State::Good if self.shard().is_silent(now) => State::Ejected,
            state => state,
        }
    }

    /// It failed a request. `is_trial`: one that was to find out whether it would.
    pub(super) fn failed(&self, why: &dyn std::error::Error, is_trial: bool) {
        if self.health.failed(now_ms(), is_trial) {
            self.metrics.peers.ejected();
            let why = chain(why);
            tracing::info!(node = %self.uid, address = %self.address, why, "another node fails; it is left alone for a while");
        }
    }

    /// A connection with room for a request.
    pub(super) async fn lease(&self) -> Result<Lease, Unreachable> {
        let shard = self.shard();
        if let Some(lease) = shard.take() {
            return Ok(lease);
        }
        let before = shard.failures.load(Ordering::Relaxed);
        let _dialing = shard.dialing.lock().await;
        if let Some(lease) = shard.take() {
            return Ok(lease);
        }
        if shard.failures.load(Ordering::Relaxed) != before {
            return Err(Unreachable::Shared);
        }
        match timeout(DIAL_MAX, self.dial()).await.unwrap_or(Err(Unreachable::TooSlow)) {
            Ok(open) => {
                let lease = open.lease();
                shard.lock().push(open);
                Ok(lease)
            }
            Err(error) => {
                shard.failures.fetch_add(1, Ordering::Relaxed);
                Err(error)
            }
        }
    }

    async fn dial(&self) -> Result<Open, Unreachable> {
        let name = self.name.clone().ok_or(Unreachable::NoName)?;
        let connecting = timeout(CONNECT_MAX, TcpStream::connect(&self.address));
        let stream = connecting.await.map_err(|_| Unreachable::TooSlow)?.map_err(Unreachable::Connect)?;
        // Failing costs some latency, and no more.
        let _ = stream.set_nodelay(true);
        let tls = TlsConnector::from(self.ends.client.clone()).connect(name, stream).await;
        let tls = tls.map_err(Unreachable::Connect)?;
        if tls.get_ref().1.alpn_protocol() != Some(ALPN_PEER) {
            return Err(Unreachable::Protocol);
        }
        let line = Arc::new(Line::default());
        line.heard_at.store(now_ms(), Ordering::Relaxed);
        let io = TokioIo::new(Listened { stream: tls, line: line.clone() });
        let (sender, connection) = builder().handshake(io).await.map_err(Unreachable::Http2)?;
        let counted = Counted::new(&self.metrics);
        tokio::spawn(async move {
            // Whoever uses it hears of its end.
            let _ = connection.await;
            drop(counted);
        });
        Ok(Open { sender, line })
    }

    fn shard(&self) -> &Shard {
        &self.shards[SHARD.get() % self.shards.len()]
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("uid", &self.uid).field("address", &self.address).finish_non_exhaustive()
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEAD_BYTES_MAX)
        .max_send_buf_size(BUFFER_BYTES_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(false);
    builder
}

impl Shard {
    /// A place on the connection with the fewest requests, unless another connection should be made.
    fn take(&self) -> Option<Lease> {
        let mut open = self.lock();
        open.retain(|open| !open.sender.is_closed());
        let emptiest = open.iter().min_by_key(|open| open.line.streams.load(Ordering::Relaxed))?;
        let is_full = emptiest.line.streams.load(Ordering::Relaxed) >= STREAMS_MAX;
        (!is_full || open.len() >= CONNECTIONS_EACH_MAX).then(|| emptiest.lease())
    }

    fn is_silent(&self, now: u64) -> bool {
        self.lock().iter().any(|open| open.line.is_silent(now))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn lease(&self) -> Lease {
        if self.line.streams.fetch_add(1, Ordering::Relaxed) == 0 {
            self.line.busy_since.store(now_ms(), Ordering::Relaxed);
        }
        Lease { sender: self.sender.clone(), stream: Stream(self.line.clone()) }
    }
}

impl Line {
    fn is_silent(&self, now: u64) -> bool {
        let since = self.busy_since.load(Ordering::Relaxed).max(self.heard_at.load(Ordering::Relaxed));
        self.streams.load(Ordering::Relaxed) > 0 && now > since + SILENT_MS
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that is counted while it lasts.
struct Counted(Arc<Metrics>);

impl Counted {
    fn new(metrics: &Arc<Metrics>) -> Self {
        metrics.peers.peer_connections(1);
        Self(metrics.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.peers.peer_connections(-1);
    }
}

/// Notes when something is heard.
struct Listened<S> {
    stream: S,
    line: Arc<Line>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Listened<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.line.heard_at.store(now_ms(), Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Listened<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_silent_that_has_requests_and_says_nothing() {
        let line = Line::default();
        line.heard_at.store(1000, Ordering::Relaxed);
        assert!(!line.is_silent(5000), "nobody asks it anything");
        line.streams.store(1, Ordering::Relaxed);
        line.busy_since.store(5000, Ordering::Relaxed);
        assert!(!line.is_silent(5000 + SILENT_MS));
        assert!(line.is_silent(5001 + SILENT_MS));
        line.heard_at.store(5500, Ordering::Relaxed);
        assert!(!line.is_silent(5001 + SILENT_MS));
    }
}
