//! Requests to servers outside.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use skiff_api::grant::Origin;
use tokio::time::{Instant, timeout_at};
use wasmtime_wasi_http::{Error as HttpError, RequestOptions, WasiBody};

use super::body::Received;
use super::connect::ConnectError;
use super::outbound::{Caller, Held, Sent, done};
use super::pool::{Lease, Pool, SendError, Sender};
use crate::metrics::{Refused, To};

/// What a guest that says nothing waits for a connection; and the most that it may say. A server that takes longer will
/// not answer at all.
const CONNECT: Duration = Duration::from_secs(10);
const CONNECT_MAX: Duration = Duration::from_secs(30);
/// The same for the head of the answer, and between two pieces of its body. The request that the guest answers ends
/// before that, unless its service has raised its own limits.
const READ: Duration = Duration::from_secs(30);
const READ_MAX: Duration = Duration::from_secs(600);

/// Connections that turn out to be closed before one is opened for the request.
const STALE_MAX: usize = 2;

pub(super) async fn send(
    caller: &Caller,
    origin: Origin,
    request: Request<WasiBody>,
    options: RequestOptions,
    held: Held,
) -> Result<(Response<WasiBody>, Sent), HttpError> {
    if !caller.template.allow.origin(&origin) {
        let what = format!("sends a request to {origin}, which it does not allow itself");
        return Err(caller.deny(Refused::Server, &what, &format!("allow: {{http: [\"{origin}\"]}}")));
    }
    let figures = &caller.reach.figures;
    figures.sent(To::Server);
    let sent = exchange(caller, origin, request, options, held).await;
    if sent.is_err() {
        figures.failed();
    }
    sent
}

async fn exchange(
    caller: &Caller,
    origin: Origin,
    request: Request<WasiBody>,
    options: RequestOptions,
    (lasting, permit): Held,
) -> Result<(Response<WasiBody>, Sent), HttpError> {
    let connect = options.connect_timeout.unwrap_or(CONNECT).min(CONNECT_MAX);
    let first_byte = options.first_byte_timeout.unwrap_or(READ).min(READ_MAX);
    let between = options.between_bytes_timeout.unwrap_or(READ).min(READ_MAX);
    let pool = caller.pool.get_or_init(Arc::default);
    let (sender, response) = sent(caller, pool, &origin, request, (connect, first_byte)).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(HttpError::HttpUpgradeFailed);
    }
    let lease = Some(Lease { pool: pool.clone(), origin, sender });
    let response = response.map(|incoming| {
        let received = Received { incoming, between, silence: None, lease, _lasting: lasting, _permit: permit };
        received.boxed_unsync()
    });
    Ok((response, done()))
}

/// The head of the answer, and the connection it came on.
async fn sent(
    caller: &Caller,
    pool: &Arc<Pool>,
    origin: &Origin,
    mut request: Request<WasiBody>,
    (connect, first_byte): (Duration, Duration),
) -> Result<(Sender, Response<hyper::body::Incoming>), HttpError> {
    for number in 0..=STALE_MAX {
        let kept = if number < STALE_MAX { pool.take(origin) } else { None };
        let is_kept = kept.is_some();
        let mut sender = match kept {
            Some(sender) => sender,
            None => open(caller, origin, connect).await?,
        };
        // One connection of h2 is for all requests to its server.
        if !is_kept && let Some(other) = sender.shared() {
            pool.keep(origin, other);
        }
        let deadline = Instant::now() + first_byte;
        let answered = timeout_at(deadline, sender.send(request)).await;
        match answered.map_err(|_| HttpError::ConnectionReadTimeout)? {
            Ok(response) => return Ok((sender, response)),
            Err(SendError::Failed(error)) => return Err(error),
            // The server closed it while it was idle, and has seen nothing of this request.
            Err(SendError::Unsent(again)) if is_kept => request = *again,
            Err(SendError::Unsent(_)) => return Err(HttpError::ConnectionTerminated),
        }
    }
    Err(HttpError::ConnectionTerminated)
}

async fn open(caller: &Caller, origin: &Origin, within: Duration) -> Result<Sender, HttpError> {
    let allow = &caller.template.allow;
    match caller.reach.connector.connect(origin, |ip| allow.address(origin, ip), within).await {
        Ok(opened) => Sender::open(opened).await,
        Err(ConnectError::Failed(error)) => Err(error),
        Err(ConnectError::Tls(failure)) => {
            caller.tell("OutboundFailed", format!("no TLS with {origin}: {}", failure.why));
            Err(failure.error)
        }
        Err(ConnectError::Prohibited(ip)) => {
            let what = format!("sends a request to {origin}, which is at {ip}: that is no public address");
            Err(caller.deny(Refused::Address, &what, &format!("allow: {{private: [\"{ip}\"]}}")))
        }
    }
}
