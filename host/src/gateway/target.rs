//! A replica as the gateway sees it: how much it may do at once, and how it is drained.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use skiff_api::id::{ReplicaKey, ServiceKey};
use skiff_api::resource::{HttpTimeout, Template};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics::Figures;
use crate::sandbox::Runner;

/// What is cut off ends as soon as it is polled.
const CUT_MAX: Duration = Duration::from_secs(5);

/// A replica that answers requests.
pub(crate) struct Target {
    pub(super) replica: ReplicaKey,
    pub(super) service: ServiceKey,
    pub(super) runner: Runner,
    pub(super) timeout: HttpTimeout,
    pub(super) figures: Arc<Figures>,
    /// Cancelled when what is in flight has had its time.
    pub(super) cut: CancellationToken,
    gate: Arc<Gate>,
}

impl Target {
    pub(crate) fn new(replica: ReplicaKey, service: ServiceKey, runner: Runner, template: &Template) -> Self {
        let (timeout, figures) = (template.timeout.clone(), runner.figures().clone());
        let (cut, gate) = (CancellationToken::new(), Gate::new(template.in_flight));
        Self { replica, service, runner, timeout, figures, cut, gate }
    }

    /// Requests in flight and waiting.
    pub(super) fn load(&self) -> u32 {
        self.gate.inside.load(Ordering::Relaxed)
    }

    /// How many more requests it takes, at work or waiting.
    pub(super) fn room(&self) -> u32 {
        self.gate.max.saturating_mul(2).saturating_sub(self.load())
    }

    /// A place inside, and what a request needs to begin. Waits in the queue until `deadline`, which `None` puts off for
    /// ever. `queued` is called if it has to wait at all; what it returns lives as long as the wait.
    pub(super) async fn enter<Q>(&self, deadline: Option<Instant>, queued: impl Fn() -> Q) -> Result<Entered, Refused> {
        let entered = self.gate.enter(deadline, &queued).await?;
        if !self.runner.has_room() {
            let _queued = queued();
            by(deadline, self.runner.room()).await?;
        }
        Ok(entered)
    }

    /// Takes no new requests, and returns when the last one has ended, or was cut off because it took longer than `max`.
    pub(crate) async fn drain(&self, max: Duration) {
        if tokio::time::timeout(max, self.gate.close()).await.is_ok() {
            return;
        }
        self.runner.note(&format!("requests are cut off: they took longer than {} s to end", max.as_secs()));
        self.cut.cancel();
        if tokio::time::timeout(CUT_MAX, self.gate.close()).await.is_err() {
            tracing::warn!(replica = ?self.replica, "a request outlives its replica");
        }
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("replica", &self.replica).finish_non_exhaustive()
    }
}

async fn by<T>(deadline: Option<Instant>, wait: impl Future<Output = T>) -> Result<T, Refused> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, wait).await.map_err(|_| Refused::QueueTimeout),
        None => Ok(wait.await),
    }
}

/// Lets so many in at once, lets as many wait, and refuses the rest.
#[derive(Debug)]
pub(super) struct Gate {
    max: u32,
    permits: Arc<Semaphore>,
    /// Who has a permit or waits for one.
    inside: AtomicU32,
    closed: AtomicBool,
    left: Notify,
}

/// Why there is no way in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The replica is draining: look for another one.
    Closed,
    QueueFull,
    QueueTimeout,
}

/// A place inside. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Entered {
    gate: Arc<Gate>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Gate {
    fn new(max: u32) -> Arc<Self> {
        let max = max.max(1);
        Arc::new(Self {
            max,
            permits: Arc::new(Semaphore::new(max as usize)),
            inside: AtomicU32::new(0),
            closed: AtomicBool::new(false),
            left: Notify::new(),
        })
    }

    /// Waits in the queue until `deadline`, which `None` puts off for ever. `queued` is called if it has to wait at all;
    /// what it returns lives as long as the wait.
    pub(super) async fn enter<Q>(
        self: &Arc<Self>,
        deadline: Option<Instant>,
        queued: impl FnOnce() -> Q,
    ) -> Result<Entered, Refused> {
        // First in, then look: whoever closes looks only after it has closed, so one of the two sees the other.
        let before = self.inside.fetch_add(1, Ordering::SeqCst);
        let mut entered = Entered { gate: self.clone(), _permit: None };
        if self.closed.load(Ordering::SeqCst) {
            return Err(Refused::Closed);
        }
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            entered._permit = Some(permit);
            return Ok(entered);
        }
        if before >= self.max.saturating_mul(2) {
            return Err(Refused::QueueFull);
        }
        let _queued = queued();
        let permit = self.permits.clone().acquire_owned();
        let permit = by(deadline, permit).await?;
        entered._permit = Some(permit.map_err(|_| Refused::Closed)?);
        Ok(entered)
    }

    /// Who waits in the queue is still served.
    async fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if self.inside.load(Ordering::SeqCst) == 0 {
                return;
            }
            left.await;
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let before = self.gate.inside.fetch_sub(1, Ordering::SeqCst);
        if before == 1 && self.gate.closed.load(Ordering::SeqCst) {
            self.gate.left.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_secs(5))
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_wait_as_run_and_the_rest_is_refused() {
        let gate = Gate::new(2);
        let running = [gate.enter(soon(), || ()).await.unwrap(), gate.enter(soon(), || ()).await.unwrap()];
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let gate = gate.clone();
                tokio::spawn(async move { gate.enter(soon(), || ()).await })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(gate.enter(soon(), || ()).await.unwrap_err(), Refused::QueueFull);
        drop(running);
        for entered in waiting {
            entered.await.unwrap().unwrap();
        }
        assert_eq!(gate.inside.load(Ordering::SeqCst), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_at_its_deadline() {
        let gate = Gate::new(1);
        let _running = gate.enter(None, || ()).await.unwrap();
        assert_eq!(gate.enter(soon(), || ()).await.unwrap_err(), Refused::QueueTimeout);
        assert_eq!(gate.inside.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn closing_waits_for_who_is_inside_and_refuses_who_comes() {
        let gate = Gate::new(1);
        let running = gate.enter(None, || ()).await.unwrap();
        let closing = tokio::spawn({
            let gate = gate.clone();
            async move { gate.close().await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!closing.is_finished());
        assert_eq!(gate.enter(None, || ()).await.unwrap_err(), Refused::Closed);
        drop(running);
        closing.await.unwrap();
    }
}
