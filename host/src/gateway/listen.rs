//! The listener, the threads that accept from it, and how they stop.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::error::SendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::{AccessLog, AccessLogTo};
use super::client::Client;
use super::connection::{self, Builder};
use super::io::Watched;
use super::peer::{self, PeerDoor, PeerPort};
use super::serve::Shared;
use super::tls::{HANDSHAKES_MAX, NoHandshake, PairError, PairFiles, Tls};
use crate::metrics::Handshake;

/// Open connections; more wait in the kernel's queue until one ends. A process gets 20,000 file descriptors on common
/// machines, of which loaded components take one each.
const CONNECTIONS_MAX: usize = 8192;
/// The same of other nodes, which clients must not keep out: some for each of a large site's nodes.
const PEER_CONNECTIONS_MAX: usize = 4096;
/// Out of file descriptors or memory: the next attempt would fail as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where the gateway listens, and how.
#[derive(Debug)]
pub struct GatewayOptions {
    pub plain: StdListener,
    pub tls: Option<TlsOptions>,
    /// Where a line for each request goes; by default nowhere.
    pub access_log: Option<AccessLogTo>,
}

/// The gateway's door for TLS.
#[derive(Debug)]
pub struct TlsOptions {
    pub listener: StdListener,
    /// At least one; the first is for clients that name no host, or one that is in no certificate.
    pub pairs: Vec<PairFiles>,
    /// The port that clients of the plain door are sent to with a redirect; without one they are served.
    pub redirect_port: Option<u16>,
}

impl From<StdListener> for GatewayOptions {
    fn from(plain: StdListener) -> Self {
        Self { plain, tls: None, access_log: None }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to set up the gateway's listener")]
    Listener(#[source] io::Error),
    #[error("failed to start a thread of the gateway")]
    Thread(#[source] io::Error),
    #[error("failed to set up TLS: there is no certificate (hint: name one and its key)")]
    NoCertificate,
    #[error("failed to use a certificate")]
    Certificate(#[source] PairError),
    #[error("failed to set up TLS")]
    Tls(#[source] rustls::Error),
    #[error("failed to set up the port for other nodes")]
    Peer(#[source] skiff_link::Error),
    #[error("failed to open the access log {to}")]
    AccessLog {
        to: AccessLogTo,
        #[source]
        source: io::Error,
    },
}

/// Listeners that are ready to be answered.
#[derive(Debug)]
pub(crate) struct Doors {
    plain: (StdListener, Door),
    tls: Option<(StdListener, Door)>,
    peer: Option<(StdListener, Door)>,
}

/// How clients of a listener are met.
#[derive(Debug, Clone)]
pub(super) enum Door {
    Plain {
        /// Where they are sent, if they are not served.
        redirect_port: Option<u16>,
    },
    Tls(Arc<Tls>),
    /// They are other nodes.
    Peer(Arc<PeerDoor>),
}

impl Doors {
    /// Reads certificates. Blocks.
    pub(crate) fn prepare(plain: StdListener, tls: Option<TlsOptions>, peer: Option<PeerPort>) -> Result<Self, Error> {
        plain.set_nonblocking(true).map_err(Error::Listener)?;
        let peer = peer.map(|PeerPort { listener, ends }| {
            listener.set_nonblocking(true).map_err(Error::Listener)?;
            Ok((listener, Door::Peer(Arc::new(PeerDoor::new(ends)))))
        });
        let peer = peer.transpose()?;
        let Some(TlsOptions { listener, pairs, redirect_port }) = tls else {
            return Ok(Self { plain: (plain, Door::Plain { redirect_port: None }), tls: None, peer });
        };
        listener.set_nonblocking(true).map_err(Error::Listener)?;
        let (first, others) = pairs.split_first().ok_or(Error::NoCertificate)?;
        let tls = Tls::new(first.clone(), others.to_vec())?;
        let tls = Some((listener, Door::Tls(Arc::new(tls))));
        Ok(Self { plain: (plain, Door::Plain { redirect_port }), tls, peer })
    }
}

/// Answers requests from its start until it is stopped; dropped, it stops at once.
#[derive(Debug)]
pub struct Gateway {
    addr: SocketAddr,
    tls_addr: Option<SocketAddr>,
    peer_addr: Option<SocketAddr>,
    shared: Arc<Shared>,
    /// No new connections; those that are open end.
    drain: CancellationToken,
    /// Nobody waits any more.
    stop: CancellationToken,
    threads: Vec<JoinHandle<()>>,
}

impl Gateway {
    /// Begins to accept. Until then the kernel holds connections back, which loses none.
    pub(crate) fn start(doors: Doors, shared: Arc<Shared>) -> Result<Self, Error> {
        let addr = |(listener, _): &(StdListener, Door)| listener.local_addr().map_err(Error::Listener);
        let peer_addr = doors.peer.as_ref().map(addr).transpose()?;
        let (addr, tls_addr) = (addr(&doors.plain)?, doors.tls.as_ref().map(addr).transpose()?);
        let (drain, stop) = (CancellationToken::new(), CancellationToken::new());
        let mut gateway = Self { addr, tls_addr, peer_addr, shared, drain, stop, threads: Vec::new() };
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let peer_connections = Arc::new(Semaphore::new(PEER_CONNECTIONS_MAX));
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let (house, handed) = House::new(threads);
        for (number, handed) in handed.into_iter().enumerate() {
            let open = |(listener, door): &(StdListener, Door)| Ok((listener.try_clone()?, door.clone()));
            let doors = std::iter::once(&doors.plain).chain(&doors.tls).chain(&doors.peer).map(open);
            let worker = Worker {
                number,
                house: house.clone(),
                doors: doors.collect::<io::Result<_>>().map_err(Error::Listener)?,
                builder: connection::builder(),
                peer_builder: peer::builder(),
                connections: connections.clone(),
                peer_connections: peer_connections.clone(),
                handshakes: handshakes.clone(),
                shared: gateway.shared.clone(),
                // One for each thread: its lock is taken whenever a connection is polled.
                drain: gateway.drain.child_token(),
                stop: gateway.stop.clone(),
                open: TaskTracker::new(),
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Thread)?;
            let thread = std::thread::Builder::new()
                .name(format!("gateway-{number}"))
                .spawn(move || runtime.block_on(worker.run(handed)))
                .map_err(Error::Thread)?;
            gateway.threads.push(thread);
        }
        Ok(gateway)
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.tls_addr
    }

    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.peer_addr
    }

    /// The node's figures in Prometheus' text format.
    pub fn metrics(&self) -> String {
        self.shared.metrics.print()
    }

    /// Stops without losing a request, unless one takes longer than `deadline`.
    pub async fn stop(mut self, deadline: Duration) {
        self.shared.draining.store(true, Ordering::Relaxed);
        self.drain.cancel();
        let threads = std::mem::take(&mut self.threads);
        let shared = self.shared.clone();
        let mut joined = tokio::task::spawn_blocking(move || {
            // A thread that panicked has nothing left to drain.
            threads.into_iter().for_each(|thread| drop(thread.join()));
            shared.access.iter().for_each(AccessLog::flush);
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

/// All threads of the gateway. Whoever of them is awake accepts a connection, and the one with the fewest serves it: else one
/// that is quick to accept would have them all, and the others nothing to do.
struct House {
    rooms: Box<[Room]>,
}

struct Room {
    /// Connections that the thread serves, or is about to.
    open: AtomicUsize,
    handed: mpsc::UnboundedSender<Handed>,
}

/// A connection on its way from the thread that accepted it to the one that serves it.
struct Handed {
    stream: StdStream,
    addr: SocketAddr,
    door: Door,
    permits: (Permit, Permit),
    counted: Counted,
}

/// A connection that is counted while it lasts.
struct Counted(Arc<House>, usize);

impl House {
    fn new(threads: usize) -> (Arc<Self>, Vec<mpsc::UnboundedReceiver<Handed>>) {
        let (rooms, handed) = (0..threads)
            .map(|_| {
                let (sender, receiver) = mpsc::unbounded_channel();
                (Room { open: AtomicUsize::new(0), handed: sender }, receiver)
            })
            .unzip::<_, _, Vec<_>, _>();
        (Arc::new(Self { rooms: rooms.into() }), handed)
    }

    /// A place in the emptiest room; of equal ones in `own`.
    fn place(self: &Arc<Self>, own: usize) -> Counted {
        let open = |room: usize| self.rooms[room].open.load(Ordering::Relaxed);
        let emptiest = (0..self.rooms.len()).min_by_key(|room| (open(*room), *room != own)).unwrap_or(own);
        Counted::new(self.clone(), emptiest)
    }
}

impl Counted {
    fn new(house: Arc<House>, room: usize) -> Self {
        house.rooms[room].open.fetch_add(1, Ordering::Relaxed);
        Self(house, room)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.rooms[self.1].open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one thread of the gateway has.
struct Worker {
    number: usize,
    house: Arc<House>,
    doors: Vec<(StdListener, Door)>,
    builder: Builder,
    peer_builder: Builder,
    connections: Arc<Semaphore>,
    peer_connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    shared: Arc<Shared>,
    drain: CancellationToken,
    stop: CancellationToken,
    open: TaskTracker,
}

impl Worker {
    async fn run(self, handed: mpsc::UnboundedReceiver<Handed>) {
        peer::own_shard(self.number);
        let stop = self.stop.clone();
        tokio::select! {
            () = self.serve(handed) => {}
            // The runtime is dropped then, and what runs on it.
            () = stop.cancelled() => {}
        }
    }

    async fn serve(self, mut handed: mpsc::UnboundedReceiver<Handed>) {
        let all = futures_util::future::join_all(self.doors.iter().map(|(listener, door)| self.answer(listener, door)));
        let taking = async {
            while let Some(handed) = handed.recv().await {
                self.take_over(handed);
            }
        };
        tokio::select! {
            _ = all => {}
            () = taking => {}
            () = self.drain.cancelled() => {}
        }
        // Who hands one over from now on has it back.
        handed.close();
        while let Some(handed) = handed.recv().await {
            self.take_over(handed);
        }
        for (listener, door) in &self.doors {
            self.accept_queued(listener, door).await;
        }
        let Self { doors, open, .. } = self;
        drop(doors);
        open.close();
        open.wait().await;
    }

    async fn answer(&self, listener: &StdListener, door: &Door) {
        match listener.try_clone().and_then(TcpListener::from_std) {
            Ok(listener) => self.accept_all(&listener, door).await,
            Err(error) => tracing::error!(%error, "failed to listen; this thread serves nothing"),
        }
    }

    async fn accept_all(&self, listener: &TcpListener, door: &Door) {
        loop {
            // Nobody closes the semaphores.
            let connections = match door {
                Door::Peer(_) => &self.peer_connections,
                Door::Plain { .. } | Door::Tls(_) => &self.connections,
            };
            let Ok(permit) = connections.clone().acquire_owned().await else { return };
            let handshake = match door {
                Door::Plain { .. } | Door::Peer(_) => None,
                Door::Tls(_) => self.handshakes.clone().acquire_owned().await.ok(),
            };
            match listener.accept().await {
                Ok((stream, client)) => self.accepted((stream, client), door, (Some(permit), handshake)),
                Err(error) => pause(&error).await,
            }
        }
    }

    /// Serves a connection here, or hands it to a thread that has fewer.
    fn accepted(&self, (stream, addr): (TcpStream, SocketAddr), door: &Door, permits: (Permit, Permit)) {
        let counted = self.house.place(self.number);
        if counted.1 == self.number {
            return self.open((stream, addr), door, permits, counted);
        }
        let stream = match stream.into_std() {
            Ok(stream) => stream,
            Err(error) => return tracing::warn!(%error, "failed to hand over a connection"),
        };
        let room = &self.house.rooms[counted.1].handed;
        if let Err(SendError(back)) = room.send(Handed { stream, addr, door: door.clone(), permits, counted }) {
            self.take_over(back);
        }
    }

    fn take_over(&self, Handed { stream, addr, door, permits, counted }: Handed) {
        match TcpStream::from_std(stream) {
            Ok(stream) => self.open((stream, addr), &door, permits, counted),
            Err(error) => tracing::warn!(%error, "failed to take over a connection"),
        }
    }

    /// Clients whose connection the kernel has made believe that they are served. The caps do not hold for them: it is
    /// their last chance.
    async fn accept_queued(&self, listener: &StdListener, door: &Door) {
        loop {
            match listener.accept() {
                Ok((stream, client)) => match nonblocking(stream) {
                    Ok(stream) => {
                        let counted = Counted::new(self.house.clone(), self.number);
                        self.open((stream, client), door, (None, None), counted);
                    }
                    Err(error) => tracing::warn!(%error, "failed to take over a connection"),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => pause(&error).await,
            }
        }
    }

    fn open(
        &self,
        (stream, addr): (TcpStream, SocketAddr),
        door: &Door,
        (permit, handshake): (Permit, Permit),
        counted: Counted,
    ) {
        let drain = self.drain.clone();
        let builder = match door {
            Door::Peer(_) => self.peer_builder.clone(),
            Door::Plain { .. } | Door::Tls(_) => self.builder.clone(),
        };
        let mut client = Client::new(self.shared.clone(), addr.ip(), door);
        // Failing costs some latency, and no more.
        let _ = stream.set_nodelay(true);
        let stream = Watched::new(stream, client.leash.clone());
        match door {
            Door::Plain { .. } => drop(self.open.spawn(async move {
                connection::run(&builder, client, stream, drain).await;
                drop((permit, counted));
            })),
            Door::Tls(tls) => {
                let tls = tls.clone();
                drop(self.open.spawn(async move {
                    if let Some(stream) = greet(&tls, &client, stream).await {
                        drop(handshake);
                        connection::run(&builder, client, stream, drain).await;
                    }
                    drop((permit, counted));
                }));
            }
            Door::Peer(peer) => {
                let peer = peer.clone();
                drop(self.open.spawn(async move {
                    match peer.greet(stream).await {
                        Ok((stream, node)) => {
                            client.node = Some(node);
                            connection::run(&builder, client, stream, drain).await;
                        }
                        Err(error) => {
                            client.shared.metrics.peers.stranger();
                            tracing::warn!(client = %client.addr, %error, "nobody but a node of this cluster may come in here");
                        }
                    }
                    drop((permit, counted));
                }));
            }
        }
    }
}

type Permit = Option<OwnedSemaphorePermit>;

async fn greet(tls: &Arc<Tls>, client: &Client, stream: Watched) -> Option<TlsStream<Watched>> {
    let metrics = &client.shared.metrics;
    match tls.accept(stream).await {
        Ok(stream) => {
            metrics.handshake(Handshake::Done);
            Some(stream)
        }
        Err(NoHandshake::Failed(error)) => {
            metrics.handshake(Handshake::Failed);
            tracing::debug!(client = %client.addr, %error, "a TLS handshake failed");
            None
        }
        Err(NoHandshake::TooSlow) => {
            metrics.handshake(Handshake::TooSlow);
            None
        }
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
