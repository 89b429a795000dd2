//! From an origin to a connection, past the check of its address.
//!
//! The address that is checked is the one that is connected to: a name is resolved once, here, and nothing resolves it
//! again behind the check. So a name that changes its addresses between two look-ups gains nothing.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use skiff_api::grant::{Host, Origin, Scheme};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use wasmtime_wasi_http::Error as HttpError;

use super::Resolve;
use super::tls::{Tls, TlsFailure};
use crate::metrics::Outgoing;

/// Connections of all replicas to the outside. A process gets 20,000 descriptors on common machines, of which clients and
/// loaded code take most.
const CONNECTIONS_MAX: usize = 2048;

/// Addresses of a name that are tried: a name has one or two, some have dozens.
const ADDRESSES_MAX: usize = 4;

#[derive(Debug)]
pub(super) struct Connector {
    names: Arc<dyn Resolve>,
    tls: Tls,
    room: Arc<Semaphore>,
    figures: Arc<Outgoing>,
}

/// A connection that carries nothing yet.
pub(super) struct Opened {
    pub(super) stream: Either<TcpStream, TlsStream<TcpStream>>,
    pub(super) is_h2: bool,
    pub(super) held: Held,
}

/// A connection's place among those of the node.
pub(super) struct Held {
    _permit: OwnedSemaphorePermit,
    figures: Arc<Outgoing>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.figures.connections(-1);
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum ConnectError {
    /// The host has only addresses that are not granted, this one among them.
    Prohibited(IpAddr),
    /// What the guest gets, and what its people should read.
    Tls(TlsFailure),
    Failed(HttpError),
}

impl From<HttpError> for ConnectError {
    fn from(error: HttpError) -> Self {
        Self::Failed(error)
    }
}

impl Connector {
    pub(super) fn new(names: Arc<dyn Resolve>, figures: Arc<Outgoing>) -> Self {
        Self { names, tls: Tls::default(), room: Arc::new(Semaphore::new(CONNECTIONS_MAX)), figures }
    }

    /// Connects to an address of the origin that is granted.
    pub(super) async fn connect(
        &self,
        origin: &Origin,
        is_granted: impl Fn(IpAddr) -> bool,
        within: Duration,
    ) -> Result<Opened, ConnectError> {
        let deadline = Instant::now() + within;
        let addresses = match &origin.host {
            Host::Ip(ip) => vec![*ip],
            Host::Name(name) => timeout_at(deadline, self.names.resolve(name))
                .await
                .map_err(|_| HttpError::DnsTimeout)?
                .map_err(|error| HttpError::DnsError { rcode: Some(error.to_string()), info_code: None })?,
        };
        let granted: Vec<IpAddr> = addresses.iter().copied().filter(|ip| is_granted(*ip)).collect();
        if granted.is_empty() {
            return Err(match addresses.first() {
                Some(ip) => ConnectError::Prohibited(*ip),
                None => HttpError::DestinationNotFound.into(),
            });
        }
        let held = self.hold()?;
        let stream = dial(&granted, origin.port, deadline).await?;
        // Failing costs some latency, and no more.
        let _ = stream.set_nodelay(true);
        if origin.scheme == Scheme::Http {
            return Ok(Opened { stream: Either::Left(stream), is_h2: false, held });
        }
        let secured = timeout_at(deadline, self.tls.connect(origin, stream)).await;
        let (stream, is_h2) = secured.map_err(|_| HttpError::ConnectionTimeout)?.map_err(ConnectError::Tls)?;
        Ok(Opened { stream: Either::Right(stream), is_h2, held })
    }

    /// The addresses of a host, which nobody has checked.
    pub(super) async fn resolve(&self, name: &str) -> std::io::Result<Vec<IpAddr>> {
        self.names.resolve(name).await
    }

    fn hold(&self) -> Result<Held, HttpError> {
        let permit = self.room.clone().try_acquire_owned().map_err(|_| HttpError::ConnectionLimitReached)?;
        self.figures.connections(1);
        Ok(Held { _permit: permit, figures: self.figures.clone() })
    }
}

/// One address after the other, each with its share of the time that is left.
async fn dial(addresses: &[IpAddr], port: u16, deadline: Instant) -> Result<TcpStream, HttpError> {
    let count = addresses.len().min(ADDRESSES_MAX);
    let mut failed = HttpError::DestinationNotFound;
    for (number, ip) in addresses.iter().take(count).enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(count - number).unwrap_or(1);
        failed = match tokio::time::timeout(share, TcpStream::connect(SocketAddr::new(*ip, port))).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => of_io(&error),
            Err(_) => HttpError::ConnectionTimeout,
        };
    }
    Err(failed)
}

fn of_io(error: &std::io::Error) -> HttpError {
    use std::io::ErrorKind as K;
    match error.kind() {
        K::ConnectionRefused => HttpError::ConnectionRefused,
        K::TimedOut => HttpError::ConnectionTimeout,
        K::NetworkUnreachable | K::HostUnreachable | K::AddrNotAvailable => HttpError::DestinationUnavailable,
        _ => HttpError::ConnectionTerminated,
    }
}
