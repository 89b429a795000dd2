//! The control plane put together: store, objects, control loop, links and API.
//!
//! ```text
//!   requests ──> router ──> Objects ──> Store <── control loop <── links <── nodes
//! ```
//! [`ControlPlane::start`] does all that can fail before it answers, so that a control plane that started runs. It serves
//! nothing by itself: whoever starts it mounts [`ControlPlane::router`] on a listener and brings its nodes with
//! [`ControlPlane::connect_node`].

use std::sync::Arc;

use axum::Router;
use skiff_api::Uid;
use skiff_keyvalue::Engine;
use skiff_link::{Authority, Clock};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::{self, ApiOptions, Images, Token};
use crate::controllers::{Control, Counters, Oracle, Parts, Recorder, Term, TermError};
use crate::fleet::{self, Fleet};
use crate::link::{Hub, LogRouter, NodeLink, Tunnels};
use crate::link_api::LogSource;
use crate::metrics::Metrics;
use crate::objects::{self, Events, Objects};
use crate::plan::Names;
use crate::plan::liveness::LivenessOptions;
use crate::store::{self, EventLog, Store};
use crate::vault::Vault;

/// What a control plane stands on.
pub struct ControlPlaneOptions {
    pub store: Arc<dyn Store>,
    pub events: EventLog,
    /// The registry, to pin the images of what is written.
    pub images: Arc<dyn Images>,
    /// What callers of the API must have.
    pub token: Token,
    /// What Secrets are sealed with.
    pub vault: Vault,
    /// The buckets that all nodes share.
    pub buckets: Engine,
    /// Seeds the names of replicas; a random number, unless a test wants the same names again.
    pub seed: u64,
    /// What other machines join with; nothing where the cluster is one process.
    pub fleet: Option<FleetOptions>,
    /// When nodes that cannot be heard are given up.
    pub liveness: LivenessOptions,
}

/// The cluster's authority, and what time it is there.
pub struct FleetOptions {
    pub authority: Arc<Authority>,
    pub clock: Arc<Clock>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Term(#[from] TermError),
    #[error("failed to create the default namespace")]
    Bootstrap(#[source] objects::Error),
    #[error("failed to read the cluster's objects")]
    Load(#[source] store::Error),
}

/// A running control plane.
pub struct ControlPlane {
    hub: Hub,
    logs: LogRouter,
    tunnels: Tunnels,
    objects: Objects,
    metrics: Metrics,
    router: Router,
    fleet: Option<Fleet>,
    stop: CancellationToken,
    control: JoinHandle<()>,
}

impl ControlPlane {
    /// Takes over the cluster in that store: whatever an earlier control plane still sends is older than what this one
    /// does, and is refused by the nodes.
    pub async fn start(options: ControlPlaneOptions) -> Result<Self, StartError> {
        let ControlPlaneOptions { store, events, images, token, vault, buckets, seed, fleet, liveness } = options;
        let objects = Objects::new(store);
        objects.bootstrap().await.map_err(StartError::Bootstrap)?;
        let term = Term::take(&**objects.store()).await?;
        let logs = LogRouter::default();
        let tunnels = Tunnels::new(logs.clone());
        let (hub, inbox) = Hub::new(logs.clone(), tunnels.clone());
        let (oracle, queries) = Oracle::new();
        let counters = Arc::new(Counters::default());
        let events = Events::new(events);
        let stop = CancellationToken::new();
        let control = Control::load(Parts {
            objects: objects.clone(),
            recorder: Recorder::new(events.clone()),
            term,
            names: Names::new(seed),
            logs: logs.clone(),
            inbox,
            queries,
            liveness,
            counters: Arc::clone(&counters),
            vault: vault.clone(),
        })
        .await
        .map_err(StartError::Load)?;
        let metrics = Metrics::new();
        metrics.append(Arc::new(move || counters.render()));
        let fleet = match fleet {
            Some(options) => Some(Fleet::open(&objects, options).await.map_err(StartError::Load)?),
            None => None,
        };
        let of_buckets = oracle.clone();
        let router = api::router(ApiOptions {
            objects: objects.clone(),
            events,
            images,
            logs: Arc::new(logs.clone()),
            tunnels: tunnels.clone(),
            oracle,
            token,
            vault,
            buckets: buckets.clone(),
            fleet: fleet.clone(),
            metrics: metrics.clone(),
            stop: stop.clone(),
        });
        let router = match &fleet {
            Some(fleet) => router.merge(fleet::router(
                objects.clone(),
                fleet.clone(),
                (buckets.clone(), of_buckets),
                tunnels.clone(),
            )),
            None => router,
        };
        if !term.is_settled() {
            tokio::spawn(term.settle(Arc::clone(objects.store()), stop.clone()));
        }
        let control = tokio::spawn(control.run(stop.clone()));
        Ok(Self { hub, logs, tunnels, objects, metrics, router, fleet, stop, control })
    }

    /// A link for a node in this process. The node speaks first.
    pub fn connect_node(&self) -> NodeLink {
        self.hub.connect()
    }

    /// A link for the machine that a certificate names; it speaks first, and for no other.
    pub fn connect_certified(&self, uid: Uid) -> NodeLink {
        self.hub.connect_certified(uid)
    }

    /// A second connection of that machine, for the lines of logs.
    pub fn connect_bulk(&self, uid: Uid) -> NodeLink {
        self.hub.connect_bulk(uid)
    }

    /// Which machines may be nodes; nothing where the cluster is one process.
    pub fn fleet(&self) -> Option<&Fleet> {
        self.fleet.as_ref()
    }

    /// The API, to be mounted on a listener.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// Where other parts of the process add their metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The logs of replicas, from the nodes that have them.
    pub fn logs(&self) -> Arc<dyn LogSource> {
        Arc::new(self.logs.clone())
    }

    /// Where nodes in this process take up tunnels.
    pub fn tunnels(&self) -> Tunnels {
        self.tunnels.clone()
    }

    /// The cluster's objects, as the API and the controllers see them.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Ends watches, logs and links, and finishes what is being written. Nodes go on with what they have.
    pub async fn shutdown(self) {
        self.stop.cancel();
        if let Err(error) = self.control.await {
            tracing::error!(%error, "the control loop did not end well");
        }
    }
}
