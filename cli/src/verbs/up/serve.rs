//! Starting, serving and stopping.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use skiff_api::Name;
use skiff_disk::Disk;
use skiff_host::capabilities::{self, ClusterBuckets};
use skiff_host::link::Peer;
use skiff_host::tunnel::{Flow, Tunnels};
use skiff_host::{NodeHandle, NodeOptions};
use skiff_keyvalue::{Answer, Engine, Op};
use skiff_registry::ClientOptions;
use skiff_scheduler::ControlPlane;
use skiff_scheduler::link::{self as control_link, NodeLink};
use skiff_scheduler::plan::liveness::LivenessOptions;
use tokio::sync::oneshot;

use crate::args::UpArgs;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::verbs::serving::api::{self, Door};
use crate::verbs::serving::control::{Control, ControlOptions};
use crate::verbs::serving::data;
use crate::verbs::serving::data::Data;
use crate::verbs::serving::listen::{listen, local_addr};
use crate::verbs::serving::node::{self, GatewayArgs};
use crate::verbs::serving::process::{Stop, keep_memory_private};

/// How long a link that ended waits before the next one, so that a fault does not spin.
const RELINK_AFTER: Duration = Duration::from_millis(200);

pub(super) async fn serve(args: UpArgs) -> Result<(), Failure> {
    let mut stop = Stop::listen()?;
    let disk = Disk::real();
    let data = Data::open_control(&data::folder(args.data)?, &disk)?;
    let token = data.token(&disk)?;
    let api_listener = listen("the API", "--listen", args.listen)?;
    let gateway = GatewayArgs { plain: args.gateway, tls: args.tls, access_log: args.access_log }.open()?;
    let api_addr = local_addr(&api_listener)?;

    let registry = ClientOptions::new(api_addr.to_string()).token(Some(token.clone()));
    let options = node::options(data.join("node"), disk.clone(), gateway, registry)?;
    let options = NodeOptions { docker: args.docker.socket(), ..options };
    let mut control = Control::start(ControlOptions {
        data: &data,
        disk: &disk,
        token: &token,
        registry: args.registry,
        addresses: vec![api_addr.to_string()],
        liveness: LivenessOptions::default(),
        fleet: None,
    })
    .await?;
    let own = Arc::new(OwnBuckets(control.buckets.clone()));
    let tunnels = Arc::new(OwnTunnels(control.plane.tunnels()));
    let node = Arc::new(node::start(NodeOptions { buckets: Some(own), tunnels: Some(tunnels), ..options }).await?);
    let weak = Arc::downgrade(&node);
    let of_node = move || weak.upgrade().map(|node| node.metrics()).unwrap_or_default();
    control.plane.metrics().append(Arc::new(of_node));
    let (stop_api, api_stops) = oneshot::channel::<()>();
    let router = control.router.clone();
    let server = tokio::spawn(async move {
        if let Err(error) = api::serve(api_listener, router, Door::Plain, api_stops).await {
            tracing::error!(%error, "the API stopped");
        }
    });
    let link = tokio::spawn(keep_linked(Arc::clone(&control.plane), Arc::clone(&node)));

    let server_url = format!("http://{api_addr}");
    if let Err(failure) = (Context { server: server_url.clone(), token, ca: None }).write() {
        // A service of the machine has no home; its operators take the token from the data folder.
        let token = data.join("token");
        tracing::warn!(%failure, token = %token.display(), "there is no context: use --server and --token");
    }
    let tls = node.gateway_tls_addr().map(|addr| format!(" gateway-tls=https://{addr}")).unwrap_or_default();
    keep_memory_private();
    writeln!(io::stdout(), "ready api={server_url} gateway=http://{}{tls}", node.gateway_addr())
        .and_then(|()| io::stdout().flush())
        .map_err(|error| Failure::new(Exit::Internal, error).during("failed to say that the cluster is ready"))?;

    let outcome = tokio::select! {
        signal = stop.wait() => {
            tracing::info!(signal, "stopping: requests in flight are finished first");
            Ok(())
        }
        error = &mut control.sync_failed => {
            tracing::error!("stopping: the disk did not keep what the store wrote");
            Err(Failure::new(Exit::Internal, error))
        }
    };
    link.abort();
    control.quiet();
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
    control.shutdown().await;
    api::drain(server).await;
    outcome
}

/// The cluster's buckets, in this very process.
struct OwnBuckets(Engine);

impl ClusterBuckets for OwnBuckets {
    fn run<'a>(&'a self, namespace: &'a Name, bucket: &'a Name, op: Op) -> BoxFuture<'a, Result<Answer, String>> {
        let bucket = format!("{namespace}/{bucket}");
        async move { self.0.run(&bucket, op).await.map_err(|error| capabilities::told(&error)) }.boxed()
    }
}

/// Both ends of tunnels are in this process.
struct OwnTunnels(control_link::Tunnels);

impl Tunnels for OwnTunnels {
    fn take_up(&self, id: u64, output: Flow) -> BoxFuture<'_, Result<Flow, String>> {
        let input = self.0.take_up_here(id, output).map_err(|error| error.to_string());
        std::future::ready(input).boxed()
    }
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
            message = peer.recv() => match message {
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
