//! The listener of the API and the registry.
//!
//! Anybody on the network can connect before any token is asked for, so a connection costs little and ends by itself: its
//! head must come in time, and there is a bound on how many there are.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// How long a request's head may take, also the silence between two requests of a connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections at once. Each waits for a place in the listener's queue beyond that; a fifth of the file descriptors that
/// a machine commonly gives a process.
const CONNECTIONS_MAX: usize = 4096;
/// Requests at once on one h2 connection.
const H2_STREAMS_MAX: u32 = 256;
/// How long to wait when no connection can be accepted, as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stops`, then finishes what has begun.
pub(super) async fn serve(listener: TcpListener, router: Router, mut stops: oneshot::Receiver<()>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(H2_STREAMS_MAX).keep_alive_interval(HEAD_TIMEOUT);
    let builder = Arc::new(builder);
    let service = TowerToHyperService::new(router);
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
        let (builder, service, watcher) = (Arc::clone(&builder), service.clone(), graceful.watcher());
        tokio::spawn(async move {
            let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
            // A client that breaks off is no news.
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!(error, "a connection to the API ended early");
            }
            drop(place);
        });
    }
    drop(listener);
    graceful.shutdown().await;
    Ok(())
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
    Some((stream, place))
}
