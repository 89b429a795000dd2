//! What the handlers share.

use std::sync::Arc;

use bytes::Bytes;
use skiff_keyvalue::Engine;
use tokio_util::sync::CancellationToken;

use super::auth::Token;
use super::images::Images;
use crate::controllers::Oracle;
use crate::fleet::Fleet;
use crate::link::Tunnels;
use crate::link_api::LogSource;
use crate::metrics::Metrics;
use crate::objects::{Events, Objects};
use crate::vault::Vault;

/// What the API server stands on.
pub struct ApiOptions {
    pub objects: Objects,
    pub events: Events,
    pub images: Arc<dyn Images>,
    pub logs: Arc<dyn LogSource>,
    pub tunnels: Tunnels,
    pub oracle: Oracle,
    pub token: Token,
    /// What Secrets are sealed with.
    pub vault: Vault,
    /// The buckets that all nodes share.
    pub buckets: Engine,
    /// Other machines; nothing where the cluster is one process.
    pub fleet: Option<Fleet>,
    pub metrics: Metrics,
    /// Ends watches and logs that are being followed, so that the server can stop.
    pub stop: CancellationToken,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct ApiState {
    pub(super) objects: Objects,
    pub(super) events: Events,
    pub(super) images: Arc<dyn Images>,
    pub(super) logs: Arc<dyn LogSource>,
    pub(super) tunnels: Tunnels,
    pub(super) oracle: Oracle,
    pub(super) token: Token,
    pub(super) vault: Vault,
    pub(super) buckets: Engine,
    pub(super) fleet: Option<Fleet>,
    pub(super) metrics: Metrics,
    pub(super) stop: CancellationToken,
    /// The OpenAPI document.
    pub(super) openapi: Bytes,
}

impl ApiState {
    pub(super) fn new(options: ApiOptions, openapi: Bytes) -> Self {
        let ApiOptions { objects, events, images, logs, tunnels, oracle, token, vault, buckets, fleet, metrics, stop } =
            options;
        Self { objects, events, images, logs, tunnels, oracle, token, vault, buckets, fleet, metrics, stop, openapi }
    }
}
