//! A control plane with its registry, without the port that both answer on.

use std::sync::Arc;

use axum::Router;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use skiff_disk::{Disk, SealKey};
use skiff_keyvalue::{Engine, Limits};
use skiff_registry::Registry;
use skiff_registry::store::Limits as RegistryLimits;
use skiff_scheduler::api::Token;
use skiff_scheduler::plan::liveness::LivenessOptions;
use skiff_scheduler::store::{self, RedbStore};
use skiff_scheduler::{ControlPlane, ControlPlaneOptions, FleetOptions, Vault};
use tokio::task::JoinHandle;

use super::data::{BUCKETS_FILE, Data, SECRETS_KEY, random_token};
use super::garbage;
use super::images::OwnRegistry;
use super::mirror::{Mirror, MirrorOptions};
use super::process::seed;
use super::rights::RegistryRights;
use crate::args::RegistryArgs;
use crate::exit::{Exit, Failure};
use crate::verbs::backup;

/// What a control plane stands on.
pub(in crate::verbs) struct ControlOptions<'a> {
    pub(in crate::verbs) data: &'a Data,
    pub(in crate::verbs) disk: &'a Disk,
    /// The admin token.
    pub(in crate::verbs) token: &'a str,
    pub(in crate::verbs) registry: RegistryArgs,
    /// What images of the cluster's own registry may be called by, `HOST:PORT`.
    pub(in crate::verbs) addresses: Vec<String>,
    /// When nodes are given up.
    pub(in crate::verbs) liveness: LivenessOptions,
    /// What other machines join with; nothing where the cluster is one process.
    pub(in crate::verbs) fleet: Option<FleetOptions>,
}

/// What the cluster's buckets may have: they are read by all nodes, and kept by one machine.
pub(in crate::verbs) const BUCKETS: Limits = Limits { bucket_bytes_max: 256 << 20, bytes_max: 4 << 30 };

/// What Secrets are sealed with: made at the first start, and kept ever after.
fn secrets_key(data: &Data, disk: &Disk) -> Result<SealKey, Failure> {
    let path = data.join(SECRETS_KEY);
    SealKey::open(disk, &path).map_err(|error| Failure::io("read the key of the secrets in", &path, error))
}

/// A control plane that runs, and its registry.
pub(in crate::verbs) struct Control {
    pub(in crate::verbs) plane: Arc<ControlPlane>,
    /// API and registry, to be mounted on a listener.
    pub(in crate::verbs) router: Router,
    /// Ends when the disk did not keep what the store wrote: only a new process can read it and tell.
    pub(in crate::verbs) sync_failed: BoxFuture<'static, store::Error>,
    /// What the registry knows a node by: made anew with each process, and told to nobody.
    pub(in crate::verbs) pulls: String,
    /// The buckets that all nodes share.
    pub(in crate::verbs) buckets: Engine,
    garbage: JoinHandle<()>,
}

impl Control {
    pub(in crate::verbs) async fn start(options: ControlOptions<'_>) -> Result<Self, Failure> {
        let ControlOptions { data, disk, token, registry, addresses, liveness, fleet } = options;
        let RegistryArgs { registry_tokens, anonymous_pull, blob_max, plain_http, mirror } = registry;
        let pulls = random_token()?;
        let nodes = Token::new(pulls.as_str());
        let scheme = if fleet.is_some() { "https" } else { "http" };
        let rights = RegistryRights::new(Token::new(token), nodes, anonymous_pull, registry_tokens, scheme)?;
        let limits = RegistryLimits { blob_bytes_max: blob_max.0, ..RegistryLimits::default() };
        let (store, registry) = open(data, disk, limits).await?;
        let sync_failed = store.sync_failed().boxed();
        let others = MirrorOptions { plain_http, mirrors: mirror };
        let buckets = Engine::new(disk.clone(), data.join(BUCKETS_FILE), BUCKETS);
        let mirror = Mirror::open(registry.clone(), data.join("copies"), others)?;
        let plane = ControlPlane::start(ControlPlaneOptions {
            events: store.events(),
            store: Arc::new(store),
            images: Arc::new(OwnRegistry::new(registry.clone(), addresses, mirror)),
            token: Token::new(token),
            vault: Vault::new(secrets_key(data, disk)?),
            buckets: buckets.clone(),
            seed: seed()?,
            fleet,
            liveness,
        })
        .await
        .map_err(|error| Failure::new(Exit::Internal, error).during("failed to start the control plane"))?;
        let of_registry = registry.clone();
        plane.metrics().append(Arc::new(move || of_registry.metrics()));
        let garbage = tokio::spawn(garbage::collect(plane.objects().clone(), registry.clone()));
        let store = Arc::clone(plane.objects().store());
        let backup = backup::router(Token::new(token), data.path().to_path_buf(), disk.clone(), store, buckets.clone());
        let router = plane.router().merge(skiff_registry::router(registry, Arc::new(rights))).merge(backup);
        Ok(Self { plane: Arc::new(plane), router, buckets, sync_failed, pulls, garbage })
    }

    /// Collects no more garbage: what is being answered stays.
    pub(in crate::verbs) fn quiet(&self) {
        self.garbage.abort();
    }

    /// Ends what the API still answers. Everybody else has let go of the control plane.
    pub(in crate::verbs) async fn shutdown(self) {
        self.quiet();
        if let Some(plane) = Arc::into_inner(self.plane) {
            plane.shutdown().await;
        }
    }
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
