//! A node, from its start to its end.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use skiff_api::id::{NodeName, Uid};
use skiff_api::wire::{Fence, Hello, PROTOCOL};
use skiff_disk::Disk;
use skiff_registry::{Client, ClientOptions};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};

use crate::artifact::{Artifacts, OpenError};
use crate::capabilities::{ClusterBuckets, Reach, Resolve, Stores};
use crate::capacity;
use crate::compile::{self, CompileError, Compiler};
use crate::docker::{Containers, Engine, Owner};
use crate::gateway::{self, Doors, Gateway, GatewayOptions, PeerOptions, PeerPort, Shared};
use crate::link::{self, Link, Peer};
use crate::logs::Logs;
use crate::metrics::print_code;
use crate::reconcile::{Command, Parts, Reconciler, Tools};
use crate::sandbox::{self, CodeFigures, Sandbox, SandboxOptions};
use crate::state::{Identity, StateError, StateFiles};
use crate::tunnel::Tunnels;

/// How long a start waits for the replicas that it has everything for, before the gateway answers "no replica" for those
/// that are late. Some thousand replicas start in this time.
const SETTLE_MAX: Duration = Duration::from_secs(2);

/// What buckets of one node may have: small machines have small disks.
const BUCKETS: skiff_keyvalue::Limits = skiff_keyvalue::Limits { bucket_bytes_max: 64 << 20, bytes_max: 1 << 30 };

/// What a node is made of.
pub struct NodeOptions {
    /// The node's data folder, which nobody else uses. Made if it is missing.
    pub data: PathBuf,
    pub disk: Disk,
    pub name: NodeName,
    /// Where the gateway listens, and how.
    pub gateway: GatewayOptions,
    /// What others dial to reach the gateway, `HOST:PORT`; by default the listener's own address. An address that means all
    /// of this machine's becomes the one that the link to the control plane goes out from.
    pub advertise: Option<String>,
    /// Who the cluster says that this node is. `None`: the node makes an id of its own, and keeps it.
    pub uid: Option<Uid>,
    /// Nodes of one site can dial one another. Empty: the only one.
    pub site: String,
    /// What the operator says of the node. It counts when the cluster first sees it; from then on people change labels there.
    pub labels: BTreeMap<String, String>,
    /// How it meets other nodes of its cluster. Without it, it serves what is on it and nothing else.
    pub peer: Option<PeerOptions>,
    /// The cluster's registry.
    pub registry: ClientOptions,
    pub compiler: Compiler,
    pub sandbox: SandboxOptions,
    /// The socket of the machine's Docker engine, where it runs containers.
    pub docker: Option<PathBuf>,
    /// The buckets that all nodes share. Without it, there are those of the node alone.
    pub buckets: Option<Arc<dyn ClusterBuckets>>,
    /// Where whoever wants to talk to something here is met. Without it, nobody can.
    pub tunnels: Option<Arc<dyn Tunnels>>,
    /// How names in the requests of guests are resolved.
    pub names: Arc<dyn Resolve>,
    /// Skiff's version, as the control plane is told.
    pub version: String,
    /// How long requests in flight may take when the node stops, or their replica does. Default 30 s: [`NodeOptions::DRAIN`].
    pub drain: Duration,
}

impl NodeOptions {
    /// What service managers commonly grant before they kill.
    pub const DRAIN: Duration = Duration::from_secs(30);
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to open the node's data folder {}", path.display())]
    Data {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to open the node's state")]
    State(#[source] StateError),
    #[error("failed to open the node's artifacts")]
    Artifacts(#[source] OpenError),
    #[error("failed to identify the compiler")]
    Compiler(#[source] CompileError),
    #[error("failed to start the sandbox")]
    Sandbox(#[source] sandbox::Error),
    #[error("failed to set up the registry client")]
    Registry(#[source] skiff_registry::client::Error),
    #[error("failed to start the gateway")]
    Gateway(#[source] gateway::Error),
    #[error("the thread that starts the node was stopped")]
    Thread(#[source] JoinError),
}

/// A node that is yet to be started.
#[derive(Debug)]
pub struct Node;

/// A node that runs. Dropped, it stops at once, as if the process had been killed.
#[derive(Debug)]
pub struct NodeHandle {
    gateway: Gateway,
    loaded: Loaded,
    logs: Logs,
    commands: mpsc::UnboundedSender<Command>,
    reconciler: Task,
    drain: Duration,
}

/// Asks what code is loaded. A function, so that whoever holds a node need not know what a sandbox is made of: the compiler
/// gives up on a future that does.
struct Loaded(Box<dyn Fn() -> CodeFigures + Send + Sync>);

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Loaded").field(&(self.0)()).finish()
    }
}

/// A task that ends with its owner.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Node {
    /// Starts a node with what it has on disk. It serves that when this returns, also when there is no control plane yet.
    pub async fn start(options: NodeOptions) -> Result<NodeHandle, Error> {
        let NodeOptions { gateway, drain, .. } = &options;
        let drain = *drain;
        let engine = options.docker.clone().map(Engine::new);
        let docker = match &engine {
            Some(engine) => engine.probe().await.unwrap_or_default(),
            None => String::new(),
        };
        let addr = gateway.plain.local_addr().map_err(|e| Error::Gateway(gateway::Error::Listener(e)))?;
        let (parts, doors, loaded, logs) =
            spawn_blocking(move || assemble(options, addr, (engine, docker))).await.map_err(Error::Thread)??;
        let shared = parts.gateway.clone();
        let (commands, asked) = mpsc::unbounded_channel();
        let (settled, wait) = oneshot::channel();
        let reconciler = Task(tokio::spawn(Reconciler::new(parts, settled).run(asked)));
        // Too late or not at all: the gateway serves what there is.
        let _ = tokio::time::timeout(SETTLE_MAX, wait).await;
        let gateway = Gateway::start(doors, shared).map_err(Error::Gateway)?;
        Ok(NodeHandle { gateway, loaded, logs, commands, reconciler, drain })
    }
}

impl NodeHandle {
    /// Links the node to a control plane in this process; an earlier link ends. The node says hello first.
    pub fn link(&self) -> Peer {
        self.link_from(None)
    }

    /// The same over a network: `from` is the address of this machine that the connection goes out from.
    pub fn link_from(&self, from: Option<IpAddr>) -> Peer {
        let (peer, link): (Peer, Link) = link::pair(from);
        // A node that has stopped drops its end, which its peer sees.
        let _ = self.commands.send(Command::Link(link));
        peer
    }

    pub fn gateway_addr(&self) -> SocketAddr {
        self.gateway.addr()
    }

    pub fn gateway_tls_addr(&self) -> Option<SocketAddr> {
        self.gateway.tls_addr()
    }

    /// Where it answers other nodes.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.gateway.peer_addr()
    }

    /// The node's figures in Prometheus' text format.
    pub fn metrics(&self) -> String {
        self.gateway.metrics() + &print_code((self.loaded.0)())
    }

    /// Stops without losing a request, unless one takes longer than the drain time.
    pub async fn shutdown(self) {
        let Self { gateway, loaded: _, logs, commands, mut reconciler, drain } = self;
        gateway.stop(drain).await;
        // Fails where it has stopped already.
        let _ = commands.send(Command::Stop);
        let _ = (&mut reconciler.0).await;
        // Nobody writes any more.
        let _ = spawn_blocking(move || logs.flush()).await;
    }
}

/// Everything that blocks.
fn assemble(
    options: NodeOptions,
    addr: SocketAddr,
    (engine, docker): (Option<Engine>, String),
) -> Result<(Parts, Doors, Loaded, Logs), Error> {
    let NodeOptions { data, disk, name, gateway, advertise, peer, uid, site, labels, .. } = options;
    let NodeOptions { registry, compiler, sandbox, names, version, drain, buckets, tunnels, .. } = options;
    // Before anything is written: what the operator named may be wrong.
    let GatewayOptions { plain, tls, access_log } = gateway;
    let reached_at = peer.as_ref().map(reached_at).transpose()?;
    let peer = peer.map(PeerPort::try_from).transpose().map_err(|e| Error::Gateway(gateway::Error::Peer(e)))?;
    let ends = peer.as_ref().map(|peer| peer.ends.clone());
    let doors = Doors::prepare(plain, tls, peer).map_err(Error::Gateway)?;
    let gateway = Arc::new(Shared::new(access_log, ends).map_err(Error::Gateway)?);
    disk.create_dir_all(&data).map_err(|source| Error::Data { path: data.clone(), source })?;
    let identity = Identity::open(&disk, &data, uid).map_err(Error::State)?;
    let files = StateFiles::open(disk.clone(), data.join("state")).map_err(Error::State)?;
    let desired = files.desired.read().map_err(Error::State)?;
    let routes = files.routes.read().map_err(Error::State)?;
    if let Some(peers) = &gateway.peers {
        peers.shut_out(&files.read_removed().map_err(Error::State)?);
    }
    let key = compile::key().map_err(Error::Compiler)?;
    let artifacts = Artifacts::open(disk.clone(), &data, &key).map_err(Error::Artifacts)?;
    let found = artifacts.found().map_err(|source| Error::Data { path: data.clone(), source })?;
    let client = Client::new(registry).map_err(Error::Registry)?;
    let sandbox = Sandbox::start(sandbox).map_err(Error::Sandbox)?;
    let containers = engine.map(|engine| {
        let (node, scratch, names) = (identity.uid.clone(), data.join("layers"), data.join("names"));
        Containers::new(Owner { node, engine, client: client.clone(), disk: disk.clone(), scratch, names })
    });
    let engine = skiff_keyvalue::Engine::new(disk.clone(), data.join("keyvalue.redb"), BUCKETS);
    let stores = Stores { node: engine, cluster: buckets };
    let logs = Logs::start(disk, data.join("logs"));
    let hello = Hello {
        protocol: PROTOCOL,
        node: name,
        uid: identity.uid,
        incarnation: identity.incarnation,
        version,
        platform: format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        gateway: advertise.unwrap_or_else(|| addr.to_string()),
        peer: reached_at,
        site,
        labels,
        capacity: capacity::of_this_machine(),
        engine: sandbox.report(),
        docker,
        fence: Fence::default(),
    };
    let (reach, refusals) = Reach::new(&gateway, names);
    let kept = (logs.clone(), gateway.metrics.clone(), reach);
    let loaded = Loaded(Box::new({
        let sandbox = sandbox.clone();
        move || sandbox.loaded()
    }));
    let tools = Tools::new((artifacts, client), compiler, (sandbox, containers), kept, (stores, tunnels), drain);
    Ok((Parts { tools, gateway, files, desired, routes, found, refusals, hello }, doors, loaded, logs))
}

/// What other nodes dial.
fn reached_at(peer: &PeerOptions) -> Result<String, Error> {
    let listens_at = || peer.listener.local_addr().map(|addr| addr.to_string());
    peer.advertise.clone().map_or_else(listens_at, Ok).map_err(|e| Error::Gateway(gateway::Error::Listener(e)))
}
