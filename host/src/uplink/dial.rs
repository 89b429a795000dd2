//! One connection to the control plane.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustls::ClientConfig;
use skiff_link::names;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::address::Address;

/// A machine that is there answers within a round trip or two, also over a satellite.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Two more round trips, and the signatures of a slow machine under load.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Longer than a good attempt takes, even over a satellite; shorter than the second try of a lost first packet.
const NEXT_ATTEMPT: Duration = Duration::from_millis(700);
/// Under way at once.
const ATTEMPTS: usize = 4;

#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("failed to reach the control plane at {server}: {source}")]
    Unreachable { server: Address, source: io::Error },
    #[error("failed to agree with the control plane at {server}: {source}")]
    Handshake { server: Address, source: io::Error },
    #[error(transparent)]
    Name(#[from] skiff_link::Error),
}

/// Dials. Another attempt begins while the first is under way: on a network that loses a fifth of its packets one attempt
/// waits seconds for a second try of its first packet, and a node that is not heard for so long is given up.
pub(super) async fn dial(server: &Address, config: &Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, DialError> {
    let mut attempts = FuturesUnordered::from_iter([attempt(server, config)]);
    let mut begun = 1;
    loop {
        tokio::select! {
            Some(done) = attempts.next() => match done {
                Err(error) if attempts.is_empty() => return Err(error),
                Err(_) => {}
                Ok(stream) => return Ok(stream),
            },
            () = tokio::time::sleep(NEXT_ATTEMPT), if begun < ATTEMPTS => {
                attempts.push(attempt(server, config));
                begun += 1;
            }
        }
    }
}

async fn attempt(server: &Address, config: &Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, DialError> {
    let connected = within(CONNECT_TIMEOUT, TcpStream::connect(server.host_and_port())).await;
    let stream = connected.map_err(|source| DialError::Unreachable { server: server.clone(), source })?;
    // Statuses are small, and somebody waits for them.
    let _ = stream.set_nodelay(true);
    let connector = TlsConnector::from(Arc::clone(config));
    let name = names::control_plane_server_name()?;
    let agreed = within(HANDSHAKE_TIMEOUT, connector.connect(name, stream)).await;
    agreed.map_err(|source| DialError::Handshake { server: server.clone(), source })
}

async fn within<T>(limit: Duration, doing: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("nothing was heard for {} s", limit.as_secs()));
    tokio::time::timeout(limit, doing).await.unwrap_or_else(|_| Err(late()))
}
