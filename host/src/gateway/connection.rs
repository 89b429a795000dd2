//! One client connection, from its first byte to its end.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use super::body::Counted;
use super::metrics::Gauge;
use super::serve::{Shared, serve};

/// For a request's head, and between two requests: what browsers keep idle connections for is longer, but they take a
/// closed one well.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A client that reads nothing for so long holds a replica's place for nothing.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// A request's head, and what is buffered of its body: no sane head is larger, and a slow one costs no more.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// Requests at once on one h2 connection: browsers use 100; more of them is one client taking all of a service.
const H2_STREAMS_MAX: u32 = 256;
/// Finds h2 clients that are gone without a word, whose streams hold places.
const H2_PING_EVERY: Duration = Duration::from_secs(30);
const H2_PING_TIMEOUT: Duration = Duration::from_secs(15);
/// When it drains, a connection serves what was on its way for so long before it is told to end: a request that crosses
/// the goodbye would be lost.
const DRAIN_LINGER: Duration = Duration::from_millis(250);

pub(super) type Builder = auto::Builder<TokioExecutor>;

/// hyper's defaults bound the number of headers (100) and of reset streams.
pub(super) fn builder() -> Builder {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(BUFFER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS_MAX)
        .max_header_list_size(BUFFER_BYTES_MAX as u32)
        .keep_alive_interval(H2_PING_EVERY)
        .keep_alive_timeout(H2_PING_TIMEOUT);
    builder
}

/// Serves a connection until it ends. From the moment that `drain` is cancelled it is brought to an end without losing a
/// request.
pub(super) async fn run(
    builder: &Builder,
    shared: Arc<Shared>,
    (stream, client): (TcpStream, IpAddr),
    drain: CancellationToken,
) {
    let _counted = Counted::new(&shared, Gauge::Connections);
    // Failing costs some latency, and no more.
    let _ = stream.set_nodelay(true);
    let spoke = Arc::new(AtomicBool::new(false));
    let io = TokioIo::new(Watched { stream, spoke: spoke.clone(), stalled: None });
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(serve(shared, client, request).await) }
    });
    let mut connection = pin!(builder.serve_connection(io, service));

    // hyper's clock starts with the protocol, which is known from the first byte.
    let silent = async {
        tokio::time::sleep(HEAD_TIMEOUT).await;
        if spoke.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    let mut end = pin!(async {
        tokio::select! {
            () = silent => {}
            () = drain.cancelled() => tokio::time::sleep(DRAIN_LINGER).await,
        }
    });
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = &mut end => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = ended {
        // Clients go away at any moment: that is no event for a log that people read.
        tracing::debug!(%client, error, "connection ended early");
    }
}

/// A stream that notes whether its peer ever spoke, and that gives up on one that does not read.
struct Watched {
    stream: TcpStream,
    spoke: Arc<AtomicBool>,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Watched {
    fn write<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(written) = write(Pin::new(&mut self.stream), cx) {
            self.stalled = None;
            return Poll::Ready(written);
        }
        let deadline = || Box::pin(tokio::time::sleep_until(Instant::now() + WRITE_TIMEOUT));
        let stalled = self.stalled.get_or_insert_with(deadline);
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        if !self.spoke.load(Ordering::Relaxed) {
            self.spoke.store(true, Ordering::Relaxed);
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.write(cx, |stream, cx| stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, |stream, cx| stream.poll_write_vectored(cx, bufs))
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
