//! Starting, serving and stopping.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use skiff_api::NodeName;
use skiff_disk::Disk;
use skiff_host::capabilities::SystemNames;
use skiff_host::compile::{Compiler, Limits};
use skiff_host::gateway::{self, AccessLogTo, GatewayOptions, PairFiles, TlsOptions};
use skiff_host::link::Peer;
use skiff_host::sandbox::SandboxOptions;
use skiff_host::{Node, NodeHandle, NodeOptions};
use skiff_registry::store::Limits as RegistryLimits;
use skiff_registry::{ClientOptions, Registry};
use skiff_scheduler::api::Token;
use skiff_scheduler::link::NodeLink;
use skiff_scheduler::plan::liveness::LivenessOptions;
use skiff_scheduler::store::RedbStore;
use skiff_scheduler::{ControlPlane, ControlPlaneOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::args::{RegistryArgs, TlsArgs, UpArgs};
use crate::context::{Context, user_folder};
use crate::exit::{Exit, Failure};
use crate::verbs::up::api;
use crate::verbs::up::data::Data;
use crate::verbs::up::garbage;
use crate::verbs::up::images::OwnRegistry;
use crate::verbs::up::mirror::{Mirror, MirrorOptions};
use crate::verbs::up::rights::RegistryRights;

/// How long a link that ended waits before the next one, so that a fault does not spin.
const RELINK_AFTER: Duration = Duration::from_millis(200);
/// How long answers of the API may take once the process stops.
const API_DRAIN: Duration = Duration::from_secs(5);

pub(super) async fn serve(args: UpArgs) -> Result<(), Failure> {
    // Before anything is answered, so that a signal at any time stops in order.
    let mut stop = Stop::listen()?;
    let disk = Disk::real();
    let folder = match args.data {
        Some(folder) => folder,
        None => user_folder("XDG_DATA_HOME", ".local/share")?.join("skiff"),
    };
    let data = Data::open(&folder, &disk)?;
    let token = data.token(&disk)?;
    let RegistryArgs { registry_tokens, anonymous_pull, blob_max, plain_http, mirror } = args.registry;
    let rights = RegistryRights::new(Token::new(token.as_str()), anonymous_pull, registry_tokens)?;
    let limits = RegistryLimits { blob_bytes_max: blob_max.0, ..RegistryLimits::default() };
    let api_listener = listen("the API", "--listen", args.listen)?;
    let gateway = gateway(args.gateway, args.tls, args.access_log)?;
    let api_addr = local_addr(&api_listener)?;

    let (store, registry) = open(&data, &disk, limits).await?;
    let sync_failed = store.sync_failed();
    let others = MirrorOptions { plain_http, mirrors: mirror };
    let mirror = Mirror::open(registry.clone(), data.join("copies"), others)?;
    let control_plane = ControlPlane::start(ControlPlaneOptions {
        events: store.events(),
        store: Arc::new(store),
        images: Arc::new(OwnRegistry::new(registry.clone(), api_addr.to_string(), mirror)),
        token: Token::new(token.as_str()),
        seed: seed()?,
        liveness: LivenessOptions::default(),
    })
    .await
    .map_err(|error| Failure::new(Exit::Internal, error).during("failed to start the control plane"))?;
    let node = Node::start(NodeOptions {
        data: data.join("node"),
        disk: disk.clone(),
        name: node_name(),
        gateway,
        advertise: None,
        registry: ClientOptions::new(api_addr.to_string()).token(Some(token.clone())),
        compiler: Compiler::new(program()?, disk.clone(), Limits::default()),
        sandbox: SandboxOptions::default(),
        names: Arc::new(SystemNames::default()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        drain: NodeOptions::DRAIN,
    })
    .await
    .map_err(node_failure)?;
    let node = Arc::new(node);
    let weak = Arc::downgrade(&node);
    control_plane.metrics().append(Arc::new(move || weak.upgrade().map(|node| node.metrics()).unwrap_or_default()));
    let of_registry = registry.clone();
    control_plane.metrics().append(Arc::new(move || of_registry.metrics()));
    let garbage = tokio::spawn(garbage::collect(control_plane.objects().clone(), registry.clone()));
    let router = control_plane.router().merge(skiff_registry::router(registry, Arc::new(rights)));
    let (stop_api, api_stops) = oneshot::channel::<()>();
    let server = tokio::spawn(async move {
        if let Err(error) = api::serve(api_listener, router, api_stops).await {
            tracing::error!(%error, "the API stopped");
        }
    });
    let control_plane = Arc::new(control_plane);
    let link = tokio::spawn(keep_linked(Arc::clone(&control_plane), Arc::clone(&node)));

    let server_url = format!("http://{api_addr}");
    if let Err(failure) = (Context { server: server_url.clone(), token }).write() {
        // A service of the machine has no home; its operators take the token from the data folder.
        let token = data.join("token");
        tracing::warn!(%failure, token = %token.display(), "there is no context: use --server and --token");
    }
    let tls = node.gateway_tls_addr().map(|addr| format!(" gateway-tls=https://{addr}")).unwrap_or_default();
    writeln!(io::stdout(), "ready api={server_url} gateway=http://{}{tls}", node.gateway_addr())
        .and_then(|()| io::stdout().flush())
        .map_err(|error| Failure::new(Exit::Internal, error).during("failed to say that the cluster is ready"))?;

    let outcome = tokio::select! {
        signal = stop.wait() => {
            tracing::info!(signal, "stopping: requests in flight are finished first");
            Ok(())
        }
        // What was acknowledged is on the disk or not: only a new process can read it and tell.
        error = sync_failed => {
            tracing::error!("stopping: the disk did not keep what the store wrote");
            Err(Failure::new(Exit::Internal, error))
        }
    };
    link.abort();
    garbage.abort();
    // Its share of the node is gone when this returns.
    drop(link.await);
    if let Some(node) = Arc::into_inner(node) {
        tokio::select! {
            () = node.shutdown() => {}
            // A second signal means now.
            _ = stop.wait() => tracing::warn!("stopping at once"),
        }
    }
    // Fails where the API has stopped already.
    let _ = stop_api.send(());
    if let Some(control_plane) = Arc::into_inner(control_plane) {
        control_plane.shutdown().await;
    }
    if tokio::time::timeout(API_DRAIN, server).await.is_err() {
        tracing::warn!("stopped with answers of the API still under way");
    }
    outcome
}

/// Reads what is on disk. Blocking work, and all of it may find damage.
async fn open(data: &Data, disk: &Disk, limits: RegistryLimits) -> Result<(RedbStore, Registry), Failure> {
    let (store_path, registry_path, disk) = (data.join("store.redb"), data.join("registry"), disk.clone());
    let opened = tokio::task::spawn_blocking(move || {
        let store = RedbStore::open(disk.clone(), store_path).map_err(|error| Failure::new(Exit::Invalid, error))?;
        let registry = Registry::open_with(disk, registry_path, limits);
        let registry = registry.map_err(|error| Failure::new(Exit::Invalid, error))?;
        Ok((store, registry))
    });
    opened.await.map_err(|error| Failure::new(Exit::Internal, error))?
}

/// The gateway's doors, open but not yet answered.
fn gateway(plain: SocketAddr, tls: TlsArgs, access_log: Option<PathBuf>) -> Result<GatewayOptions, Failure> {
    let TlsArgs { gateway_tls, tls_cert, tls_key, gateway_redirect } = tls;
    if tls_cert.len() != tls_key.len() {
        let (certs, keys) = (tls_cert.len(), tls_key.len());
        let text = format!(
            "{certs} --tls-cert and {keys} --tls-key are given (hint: each certificate needs its key, in the same order)"
        );
        return Err(Failure::message(Exit::Invalid, text));
    }
    let mut options = GatewayOptions::from(listen("the gateway", "--gateway", plain)?);
    if let Some(addr) = gateway_tls {
        let listener = listen("the gateway's TLS", "--gateway-tls", addr)?;
        let pairs = tls_cert.into_iter().zip(tls_key).map(|(cert, key)| PairFiles { cert, key }).collect();
        options.tls = Some(TlsOptions { listener, pairs, redirect_port: gateway_redirect });
    }
    options.access_log = access_log.map(|path| match path.as_os_str() == "-" {
        true => AccessLogTo::Stdout,
        false => AccessLogTo::File(path),
    });
    Ok(options)
}

/// What the operator named and the node could not use is theirs to mend.
fn node_failure(error: skiff_host::Error) -> Failure {
    let exit = match &error {
        skiff_host::Error::Gateway(gateway::Error::Certificate(_) | gateway::Error::AccessLog { .. }) => Exit::Invalid,
        _ => Exit::Internal,
    };
    Failure::new(exit, error).during("failed to start the node")
}

fn listen(what: &str, flag: &str, addr: SocketAddr) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(addr).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            let text = format!(
                "failed to listen on {addr} for {what}: the address is in use (hint: stop what uses it, or choose another with {flag} HOST:PORT; port 0 takes a free one)"
            );
            Failure::message(Exit::InUse, text)
        }
        _ => Failure::message(Exit::Invalid, format!("failed to listen on {addr} for {what}: {error} (hint: choose another address with {flag})")),
    })?;
    listener.set_nonblocking(true).map_err(|error| Failure::new(Exit::Internal, error))?;
    Ok(listener)
}

fn local_addr(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(|error| Failure::new(Exit::Internal, error))
}

/// Keeps the two ends linked: when either is dropped, they are linked again.
async fn keep_linked(control_plane: Arc<ControlPlane>, node: Arc<NodeHandle>) {
    loop {
        relay(control_plane.connect_node(), node.link()).await;
        tracing::warn!("the link between node and control plane ended; linking again");
        tokio::time::sleep(RELINK_AFTER).await;
    }
}

/// Carries messages both ways until one end is dropped.
async fn relay(mut link: NodeLink, mut peer: Peer) {
    loop {
        let is_open = tokio::select! {
            message = peer.from_node.recv() => match message {
                Some(message) => link.to_control.send(message).await.is_ok(),
                None => false,
            },
            message = link.from_control.recv() => match message {
                Some(message) => peer.to_node.send(message).await.is_ok(),
                None => false,
            },
        };
        if !is_open {
            return;
        }
    }
}

/// The machine's name, made to fit.
fn node_name() -> NodeName {
    let host = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let fitting = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = host.chars().map(fitting).take(63).collect();
    let name = name.trim_matches('-');
    NodeName::new(if name.is_empty() { "node" } else { name })
}

/// This program, which compiles components under a hidden verb. Also when its file was replaced meanwhile.
fn program() -> Result<PathBuf, Failure> {
    let link = PathBuf::from("/proc/self/exe");
    match link.exists() {
        true => Ok(link),
        false => std::env::current_exe()
            .map_err(|error| Failure::new(Exit::Internal, error).during("failed to find this program's file")),
    }
}

fn seed() -> Result<u64, Failure> {
    getrandom::u64()
        .map_err(|error| Failure::message(Exit::Internal, format!("failed to get a random number: {error}")))
}

/// The signals that mean stop.
struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::new(Exit::Internal, error));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
