//! Questions to the control loop, which alone knows all that decisions are made from.

use skiff_api::why::{Rebalance, Why};
use skiff_api::{Name, ServiceKey, Uid};
use tokio::sync::{mpsc, oneshot};

/// Questions that wait. More callers than that wait themselves.
const WAITING_MAX: usize = 64;

#[derive(Debug)]
pub(crate) enum Query {
    Why(ServiceKey, oneshot::Sender<Option<Why>>),
    Rebalance(Effect, oneshot::Sender<Rebalance>),
    /// Whether a machine has a replica that names a bucket of a namespace.
    MayUse((Uid, Name, Name), oneshot::Sender<bool>),
}

/// Whether something is done or only planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    Real,
    Dry,
}

/// Asks the control loop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Oracle(mpsc::Sender<Query>);

impl Oracle {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Query>) {
        let (sender, queries) = mpsc::channel(WAITING_MAX);
        (Self(sender), queries)
    }

    /// One that nobody answers: for an API without a control loop.
    pub fn silent() -> Self {
        Self::new().0
    }

    /// Why a service's replicas are where they are. Nothing within if there is no such service, nothing at all once the
    /// loop has ended.
    pub async fn why(&self, service: ServiceKey) -> Option<Option<Why>> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Query::Why(service, answer)).await.ok()?;
        answered.await.ok()
    }

    /// Whether a machine has a replica that names a bucket of a namespace.
    pub async fn may_use(&self, bucket: (Uid, Name, Name)) -> Option<bool> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Query::MayUse(bucket, answer)).await.ok()?;
        answered.await.ok()
    }

    /// What a rebalancing moves; for real, it begins with it.
    pub async fn rebalance(&self, effect: Effect) -> Option<Rebalance> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Query::Rebalance(effect, answer)).await.ok()?;
        answered.await.ok()
    }
}
