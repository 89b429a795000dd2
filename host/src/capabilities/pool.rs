//! One replica's connections to servers outside, kept for a while after their last use.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use skiff_api::grant::Origin;
use tokio::time::Instant;
use wasmtime_wasi_http::{Error as HttpError, WasiBody};

use super::connect::Opened;

/// Servers commonly close idle connections after 5 to 60 s; whoever sends on one that was just closed has to try again.
const IDLE_MAX: Duration = Duration::from_secs(15);
/// Idle connections of one replica to one server, and to all.
const IDLE_PER_ORIGIN_MAX: usize = 8;
const IDLE_ORIGINS_MAX: usize = 16;
/// A response's head, and what is buffered of its body, as for requests that come in.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// Finds servers that are gone without a word.
const H2_PING_EVERY: Duration = Duration::from_secs(30);

/// The idle ones. Nothing runs while there are none.
#[derive(Default)]
pub(super) struct Pool(Mutex<Idle>);

#[derive(Default)]
struct Idle {
    by_origin: HashMap<Origin, Vec<(Sender, Instant)>>,
    sweeping: bool,
}

/// The near end of a connection; a task of its own does its reading and writing. Dropping it ends the connection once
/// its last response is over.
pub(super) enum Sender {
    H1(http1::SendRequest<WasiBody>),
    H2(http2::SendRequest<WasiBody>),
}

/// A connection that is to be kept for the next request.
pub(super) struct Lease {
    pub(super) pool: Arc<Pool>,
    pub(super) origin: Origin,
    pub(super) sender: Sender,
}

impl Lease {
    /// The answer is over. One for h2 is in the pool already.
    pub(super) fn give_back(self) {
        if matches!(self.sender, Sender::H1(_)) {
            self.pool.keep(&self.origin, self.sender);
        }
    }
}

/// Why a request was not answered.
pub(super) enum SendError {
    /// The connection was gone before any of it was sent.
    Unsent(Box<Request<WasiBody>>),
    Failed(HttpError),
}

impl Sender {
    pub(super) async fn open(opened: Opened) -> Result<Self, HttpError> {
        let Opened { stream, is_h2, held } = opened;
        let io = TokioIo::new(stream);
        let broken = |error: hyper::Error| of_hyper(&error);
        if is_h2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder
                .timer(TokioTimer::new())
                .max_header_list_size(BUFFER_BYTES_MAX as u32)
                .keep_alive_interval(H2_PING_EVERY);
            let (sender, connection) = builder.handshake(io).await.map_err(broken)?;
            tokio::spawn(async move {
                // Whoever uses it hears of its end.
                let _ = connection.await;
                drop(held);
            });
            return Ok(Self::H2(sender));
        }
        let builder = {
            let mut builder = http1::Builder::new();
            builder.max_buf_size(BUFFER_BYTES_MAX);
            builder
        };
        let (sender, connection) = builder.handshake(io).await.map_err(broken)?;
        tokio::spawn(async move {
            let _ = connection.await;
            drop(held);
        });
        Ok(Self::H1(sender))
    }

    /// Puts the request into the form that the protocol wants, and sends it.
    pub(super) async fn send(&mut self, mut request: Request<WasiBody>) -> Result<Response<Incoming>, SendError> {
        match self {
            Self::H1(sender) => {
                let whole = std::mem::take(request.uri_mut());
                *request.uri_mut() = whole.path_and_query().cloned().map(Into::into).unwrap_or_default();
                sender.try_send_request(request).await.map_err(|error| {
                    unsent(error, |mut request| {
                        *request.uri_mut() = whole;
                        request
                    })
                })
            }
            Self::H2(sender) => {
                // h2 says it in `:authority`.
                let host = request.headers_mut().remove(http::header::HOST);
                sender.try_send_request(request).await.map_err(|error| {
                    unsent(error, |mut request| {
                        request.headers_mut().extend(host.map(|host| (http::header::HOST, host)));
                        request
                    })
                })
            }
        }
    }

    /// Another end of the same connection, if it carries several requests at once.
    pub(super) fn shared(&self) -> Option<Self> {
        match self {
            Self::H1(_) => None,
            Self::H2(sender) => Some(Self::H2(sender.clone())),
        }
    }

    fn is_usable(&self) -> bool {
        match self {
            Self::H1(sender) => sender.is_ready(),
            Self::H2(sender) => sender.is_ready(),
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::H1(sender) => sender.is_closed(),
            Self::H2(sender) => sender.is_closed(),
        }
    }
}

fn unsent(
    mut error: TrySendError<Request<WasiBody>>,
    restore: impl FnOnce(Request<WasiBody>) -> Request<WasiBody>,
) -> SendError {
    match error.take_message() {
        Some(request) => SendError::Unsent(Box::new(restore(request))),
        None => SendError::Failed(of_hyper(error.error())),
    }
}

/// What a guest may know of it.
pub(super) fn of_hyper(error: &hyper::Error) -> HttpError {
    use std::error::Error;
    if error.is_user() {
        // The guest's own body broke off.
        return HttpError::InternalError(Some("the request's body ended early".to_owned()));
    }
    if error.is_parse_too_large() {
        return HttpError::HttpResponseHeaderSectionSize(None);
    }
    if error.is_parse() {
        return HttpError::HttpProtocolError;
    }
    if error.is_timeout() {
        return HttpError::ConnectionReadTimeout;
    }
    let is_io = error.source().is_some_and(|cause| cause.is::<std::io::Error>());
    match error.is_incomplete_message() || error.is_closed() || error.is_canceled() || is_io {
        true => HttpError::ConnectionTerminated,
        false => HttpError::HttpProtocolError,
    }
}

impl Pool {
    /// An idle connection. One for h2 stays there for others.
    pub(super) fn take(&self, origin: &Origin) -> Option<Sender> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let senders = idle.by_origin.get_mut(origin)?;
        senders.retain(|(sender, _)| !sender.is_over());
        let at = senders.iter().rposition(|(sender, _)| sender.is_usable())?;
        if let (Sender::H2(sender), since) = &mut senders[at] {
            *since = Instant::now();
            return Some(Sender::H2(sender.clone()));
        }
        let (sender, _) = senders.remove(at);
        if senders.is_empty() {
            idle.by_origin.remove(origin);
        }
        Some(sender)
    }

    /// Keeps a connection whose response is over, or that takes others meanwhile.
    pub(super) fn keep(self: &Arc<Self>, origin: &Origin, sender: Sender) {
        if sender.is_over() {
            return;
        }
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.by_origin.len() >= IDLE_ORIGINS_MAX && !idle.by_origin.contains_key(origin) {
            return;
        }
        let senders = idle.by_origin.entry(origin.clone()).or_default();
        if senders.len() >= IDLE_PER_ORIGIN_MAX {
            senders.remove(0);
        }
        senders.push((sender, Instant::now()));
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !std::mem::replace(&mut idle.sweeping, true) {
            let pool = Arc::downgrade(self);
            runtime.spawn(async move {
                loop {
                    tokio::time::sleep(IDLE_MAX / 2).await;
                    match pool.upgrade() {
                        Some(pool) if pool.sweep() => {}
                        _ => return,
                    }
                }
            });
        }
    }

    /// Drops what was idle for too long. Answers whether anything is left to come back for.
    fn sweep(&self) -> bool {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.by_origin.retain(|_, senders| {
            senders.retain(|(sender, since)| !sender.is_over() && since.elapsed() < IDLE_MAX);
            !senders.is_empty()
        });
        idle.sweeping = !idle.by_origin.is_empty();
        idle.sweeping
    }
}
