//! The listener, the threads that accept from it, and how they stop.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use http::uri::Scheme;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::client::Client;
use super::connection::{self, Builder};
use super::serve::Shared;

/// Open connections; more wait in the kernel's queue until one ends. A process gets 20,000 file descriptors on common
/// machines, of which loaded components take one each.
const CONNECTIONS_MAX: usize = 8192;
/// Out of file descriptors or memory: the next attempt would fail as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to set up the gateway's listener")]
    Listener(#[source] io::Error),
    #[error("failed to start a thread of the gateway")]
    Thread(#[source] io::Error),
}

/// Answers requests from its start until it is stopped; dropped, it stops at once.
#[derive(Debug)]
pub struct Gateway {
    addr: SocketAddr,
    shared: Arc<Shared>,
    /// No new connections; those that are open end.
    drain: CancellationToken,
    /// Nobody waits any more.
    stop: CancellationToken,
    threads: Vec<JoinHandle<()>>,
}

impl Gateway {
    /// Begins to accept. Until then the kernel holds connections back, which loses none.
    pub(crate) fn start(listener: StdListener, shared: Arc<Shared>) -> Result<Self, Error> {
        let addr = listener.local_addr().map_err(Error::Listener)?;
        listener.set_nonblocking(true).map_err(Error::Listener)?;
        let mut gateway =
            Self { addr, shared, drain: CancellationToken::new(), stop: CancellationToken::new(), threads: Vec::new() };
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        for number in 0..threads {
            let worker = Worker {
                listener: listener.try_clone().map_err(Error::Listener)?,
                builder: connection::builder(),
                connections: connections.clone(),
                shared: gateway.shared.clone(),
                // One for each thread: its lock is taken whenever a connection is polled.
                drain: gateway.drain.child_token(),
                stop: gateway.stop.clone(),
                open: TaskTracker::new(),
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Thread)?;
            let thread = std::thread::Builder::new()
                .name(format!("gateway-{number}"))
                .spawn(move || runtime.block_on(worker.run()))
                .map_err(Error::Thread)?;
            gateway.threads.push(thread);
        }
        Ok(gateway)
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The gateway's figures in Prometheus' text format.
    pub fn metrics(&self) -> String {
        self.shared.metrics.print()
    }

    /// Stops without losing a request, unless one takes longer than `deadline`.
    pub async fn stop(mut self, deadline: Duration) {
        self.shared.draining.store(true, Ordering::Relaxed);
        self.drain.cancel();
        let threads = std::mem::take(&mut self.threads);
        let mut joined = tokio::task::spawn_blocking(move || {
            // A thread that panicked has nothing left to drain.
            threads.into_iter().for_each(|thread| drop(thread.join()));
        });
        if tokio::time::timeout(deadline, &mut joined).await.is_err() {
            tracing::warn!("requests are cut off: they took longer than {} s to end", deadline.as_secs());
            self.stop.cancel();
            drop(joined.await);
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What one thread of the gateway has.
struct Worker {
    listener: StdListener,
    builder: Builder,
    connections: Arc<Semaphore>,
    shared: Arc<Shared>,
    drain: CancellationToken,
    stop: CancellationToken,
    open: TaskTracker,
}

impl Worker {
    async fn run(self) {
        let stop = self.stop.clone();
        tokio::select! {
            () = self.serve() => {}
            // The runtime is dropped then, and what runs on it.
            () = stop.cancelled() => {}
        }
    }

    async fn serve(self) {
        let accepting = self.listener.try_clone().and_then(TcpListener::from_std);
        match accepting {
            Ok(listener) => tokio::select! {
                () = self.accept_all(&listener) => {}
                () = self.drain.cancelled() => {}
            },
            Err(error) => tracing::error!(%error, "failed to listen; this thread serves nothing"),
        }
        self.accept_queued().await;
        let Self { listener, open, .. } = self;
        drop(listener);
        open.close();
        open.wait().await;
    }

    async fn accept_all(&self, listener: &TcpListener) {
        loop {
            // Nobody closes the semaphore.
            let Ok(permit) = self.connections.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, client)) => self.open(stream, client, Some(permit)),
                Err(error) => pause(&error).await,
            }
        }
    }

    /// Clients whose connection the kernel has made believe that they are served. The cap does not hold for them: it is
    /// their last chance.
    async fn accept_queued(&self) {
        loop {
            match self.listener.accept() {
                Ok((stream, client)) => match nonblocking(stream) {
                    Ok(stream) => self.open(stream, client, None),
                    Err(error) => tracing::warn!(%error, "failed to take over a connection"),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => pause(&error).await,
            }
        }
    }

    fn open(&self, stream: TcpStream, client: SocketAddr, permit: Option<OwnedSemaphorePermit>) {
        let (builder, drain) = (self.builder.clone(), self.drain.clone());
        let client = Client::new(self.shared.clone(), client.ip(), Scheme::HTTP);
        self.open.spawn(async move {
            connection::run(&builder, client, stream, drain).await;
            drop(permit);
        });
    }
}

fn nonblocking(stream: StdStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

async fn pause(error: &io::Error) {
    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) {
        tracing::warn!(%error, "failed to accept a connection");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}
