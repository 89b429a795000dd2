//! The listener of the API and the registry, and behind TLS that of the nodes' links.
//!
//! Anybody on the network can connect before any token is asked for, so a connection costs little and ends by itself: its
//! handshake and its head must come in time, what is answered must be read, and there is a bound on how many there are.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinHandle;

use super::tls::{Guest, TlsDoor};

/// How long a request's head may take, also the silence between two requests of a connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may read nothing of what it is sent, or be gone without a word.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// A request's head, and what is buffered of its body: queries and tokens are short.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// How a connection of HTTP/2 begins. Until it is there, or something else is, hyper does not know which of its clocks counts.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Between two looks at a preface that comes in pieces, as none of a good client does.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Connections at once. Each waits for a place in the listener's queue beyond that; a fifth of the file descriptors that
/// a machine commonly gives a process.
const CONNECTIONS_MAX: usize = 4096;
/// Requests at once on one h2 connection.
const H2_STREAMS_MAX: u32 = 256;
/// How long to wait when no connection can be accepted, as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long answers of the API may take once the process stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Waits for a server that was told to stop.
pub(in crate::verbs) async fn drain(server: JoinHandle<()>) {
    if tokio::time::timeout(DRAIN, server).await.is_err() {
        tracing::warn!("stopped with answers of the API still under way");
    }
}

/// How a connection begins.
#[derive(Clone)]
pub(in crate::verbs) enum Door {
    /// With a request.
    Plain,
    /// With a handshake.
    Tls(Arc<TlsDoor>),
}

/// Serves until `stops`, then finishes what has begun.
pub(in crate::verbs) async fn serve(
    listener: TcpListener,
    router: Router,
    door: Door,
    mut stops: oneshot::Receiver<()>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let http = Http::new(router);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            _ = &mut stops => break,
        };
        let Some((stream, place)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (door, http, watcher) = (door.clone(), http.clone(), graceful.watcher());
        tokio::spawn(async move {
            match door {
                Door::Plain if speaks(&stream).await => http.serve(stream, Version::Either, None, watcher).await,
                Door::Plain => {}
                Door::Tls(tls) => tls.answer(stream, place, http, watcher).await,
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
    Ok(())
}

/// Which protocol a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Either,
    Http1,
    Http2,
}

/// Answers requests. Cheap to clone.
#[derive(Clone)]
pub(super) struct Http(Arc<Parts>);

struct Parts {
    either: Builder<TokioExecutor>,
    http1: Builder<TokioExecutor>,
    http2: Builder<TokioExecutor>,
    service: TowerToHyperService<Router>,
}

impl Http {
    fn new(router: Router) -> Self {
        let service = TowerToHyperService::new(router);
        let (http1, http2) = (builder().http1_only(), builder().http2_only());
        Self(Arc::new(Parts { either: builder(), http1, http2, service }))
    }

    /// Answers the requests of one connection. What is known of who is at its other end goes into each.
    pub(super) async fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        version: Version,
        guest: Option<Guest>,
        watcher: Watcher,
    ) {
        let builder = match version {
            Version::Either => &self.0.either,
            Version::Http1 => &self.0.http1,
            Version::Http2 => &self.0.http2,
        };
        let parts = Arc::clone(&self.0);
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            if let Some(guest) = &guest {
                guest.introduce(&mut request);
            }
            parts.service.call(request)
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
        // A client that breaks off is no news.
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(error, "a connection to the API ended early");
        }
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(BUFFER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS_MAX)
        .max_header_list_size(BUFFER_BYTES_MAX as u32)
        .keep_alive_interval(HEAD_TIMEOUT);
    builder
}

/// Whether a client says in time which protocol it speaks. Takes nothing off the connection.
async fn speaks(stream: &TcpStream) -> bool {
    let mut came = [0; PREFACE.len()];
    let known = async {
        loop {
            match stream.peek(&mut came).await {
                Ok(0) | Err(_) => return false,
                Ok(count) if count < PREFACE.len() && PREFACE.starts_with(&came[..count]) => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Ok(_) => return true,
            }
        }
    };
    tokio::time::timeout(HEAD_TIMEOUT, known).await.unwrap_or(false)
}

/// A connection and its place, or nothing where the machine has none to give now.
async fn accept(
    listener: &tokio::net::TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    let (stream, _) = listener.accept().await.ok()?;
    // Watches and logs are small pieces that should not wait for more.
    let _ = stream.set_nodelay(true);
    // Where the system does not have it, such a connection ends when its client does.
    let _ = set_tcp_user_timeout(&stream, u32::try_from(WRITE_TIMEOUT.as_millis()).unwrap_or(u32::MAX));
    Some((stream, place))
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    use super::*;

    /// Where it listens, and what stops it.
    fn serving() -> (std::net::SocketAddr, oneshot::Sender<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (addr, (stop, stops)) = (listener.local_addr().unwrap(), oneshot::channel());
        let router = Router::new().route("/", get(|| async { "served" }));
        tokio::spawn(serve(listener, router, Door::Plain, stops));
        (addr, stop)
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_says_nothing_or_half_of_it_is_sent_home() {
        let (addr, _stop) = serving();
        for said in [&b""[..], b"P", &PREFACE[..PREFACE.len() - 1], b"GET / HTTP/1.1\r\nhost: a\r\nx: "] {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            stream.write_all(said).await.unwrap();
            let start = Instant::now();
            let ended = tokio::time::timeout(10 * HEAD_TIMEOUT, stream.read_to_end(&mut Vec::new())).await;
            let (said, took) = (String::from_utf8_lossy(said), start.elapsed());
            assert!(ended.is_ok() && took < HEAD_TIMEOUT + Duration::from_secs(1), "{said:?}: {took:?}");
        }
    }

    #[tokio::test]
    async fn a_request_in_pieces_is_served() {
        let (addr, _stop) = serving();
        let mut stream = TcpStream::connect(addr).await.unwrap();
        for piece in [&b"P"[..], b"RI / HTTP/1.1\r\nhost: a\r\n", b"connection: close\r\n\r\n"] {
            stream.write_all(piece).await.unwrap();
            stream.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    }
}
