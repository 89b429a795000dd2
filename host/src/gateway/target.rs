//! A replica as the gateway sees it: how much it may do at once, and how it is drained.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use skiff_api::id::{ReplicaKey, ServiceKey};
use skiff_api::resource::{HttpTimeout, Template};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::answer::Refusal;
use super::driver::Driver;
use crate::metrics::Figures;

/// What is cut off ends as soon as it is polled.
const CUT_MAX: Duration = Duration::from_secs(5);

/// A replica that answers requests.
pub(crate) struct Target {
    pub(super) replica: ReplicaKey,
    pub(super) service: ServiceKey,
    pub(super) runner: Driver,
    pub(super) timeout: HttpTimeout,
    pub(super) figures: Arc<Figures>,
    /// Cancelled when what is in flight has had its time.
    pub(super) cut: CancellationToken,
    gate: Arc<Gate>,
}

impl Target {
    pub(crate) fn new(replica: ReplicaKey, service: ServiceKey, runner: Driver, template: &Template) -> Self {
        let (timeout, figures) = (template.timeout.clone(), runner.figures().clone());
        let (cut, gate) = (CancellationToken::new(), Gate::new(template.in_flight));
        Self { replica, service, runner, timeout, figures, cut, gate }
    }

    pub(crate) fn replica(&self) -> &ReplicaKey {
        &self.replica
    }

    /// Whether it is a container, which may end by itself.
    pub(crate) fn is_container(&self) -> bool {
        matches!(self.runner, Driver::Docker(_))
    }

    /// Whether it takes no new requests any more.
    pub(super) fn is_closed(&self) -> bool {
        self.gate.word.load(Ordering::Relaxed) & CLOSED != 0
    }

    /// Requests in flight and waiting.
    pub(super) fn load(&self) -> u32 {
        self.gate.load()
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
        // Who waited until the end is not let in after it.
        match self.cut.is_cancelled() {
            true => Err(Refused::Closed),
            false => Ok(entered),
        }
    }

    /// Counts a request that got no answer from here, and tells the service's people why.
    pub(super) fn refused(&self, refusal: &Refusal) {
        self.figures.refused(refusal.code());
        if let Some(reason) = refusal.trouble() {
            self.runner.warn(reason, refusal.to_string());
        }
    }

    /// Takes no new requests, and ends those that it has: there is no time left.
    pub(crate) fn cut_off(&self) {
        self.gate.shut();
        self.cut.cancel();
    }

    /// Takes no new requests, and returns when the last one has ended, or was cut off because it took longer than `max`, or
    /// because of the brake.
    pub(crate) async fn drain(&self, max: Duration, brake: &CancellationToken) {
        let drained = brake.run_until_cancelled(tokio::time::timeout(max, self.gate.close())).await;
        match drained {
            Some(Ok(())) => return,
            Some(Err(_)) => {
                self.runner.note(&format!("requests are cut off: they took longer than {} s to end", max.as_secs()));
            }
            None if self.load() > 0 => self.runner.note("requests are cut off: the node has lost its lease"),
            None => {}
        }
        self.cut_off();
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
///
/// Who is in, who waits and whether it is closed is one word: a request that need not wait changes it once when it comes and
/// once when it leaves, and takes no lock.
#[derive(Debug)]
pub(super) struct Gate {
    max: u32,
    /// Who is in, in the lower half; who waits above it, in units of [`WAITS`]; [`CLOSED`].
    word: AtomicU64,
    /// Told once for each that leaves while others wait.
    freed: Notify,
    left: Notify,
}

const WAITS: u64 = 1 << 32;
const CLOSED: u64 = 1 << 63;

fn inside(word: u64) -> u32 {
    word as u32
}

fn waiting(word: u64) -> u32 {
    ((word & !CLOSED) >> 32) as u32
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
pub(super) struct Entered(Arc<Gate>);

/// A place in the queue, the same.
struct Waits<'g>(&'g Gate);

impl Gate {
    fn new(max: u32) -> Arc<Self> {
        Arc::new(Self { max: max.max(1), word: AtomicU64::new(0), freed: Notify::new(), left: Notify::new() })
    }

    /// Waits in the queue until `deadline`, which `None` puts off for ever. `queued` is called if it has to wait at all;
    /// what it returns lives as long as the wait.
    pub(super) async fn enter<Q>(
        self: &Arc<Self>,
        deadline: Option<Instant>,
        queued: impl FnOnce() -> Q,
    ) -> Result<Entered, Refused> {
        // Who comes does not overtake who waits.
        let come = |word| (word & CLOSED == 0 && waiting(word) == 0 && inside(word) < self.max).then_some(word + 1);
        if self.change(come).is_ok() {
            return Ok(Entered(self.clone()));
        }
        // Not by who waits alone: a place that is free may be kept for one that waits and has not taken it yet.
        let is_full = |word| inside(word).saturating_add(waiting(word)) >= self.max.saturating_mul(2);
        let queue = |word| (word & CLOSED == 0 && !is_full(word)).then_some(word + WAITS);
        if let Err(word) = self.change(queue) {
            return Err(if word & CLOSED == 0 { Refused::QueueFull } else { Refused::Closed });
        }
        let waits = Waits(self);
        let _queued = queued();
        let turn = async {
            loop {
                let freed = self.freed.notified();
                tokio::pin!(freed);
                freed.as_mut().enable();
                // Who leaves looks for who waits after the place is free, so one of the two sees the other.
                let step_in = |word| (inside(word) < self.max).then_some(word - WAITS + 1);
                if self.change(step_in).is_ok() {
                    return;
                }
                freed.await;
            }
        };
        by(deadline, turn).await?;
        std::mem::forget(waits);
        Ok(Entered(self.clone()))
    }

    fn shut(&self) {
        self.word.fetch_or(CLOSED, Ordering::SeqCst);
    }

    /// Who waits in the queue is still served.
    async fn close(&self) {
        self.shut();
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if self.word.load(Ordering::SeqCst) == CLOSED {
                return;
            }
            left.await;
        }
    }

    /// Everyone who is inside or waits.
    fn load(&self) -> u32 {
        let word = self.word.load(Ordering::Relaxed);
        inside(word).saturating_add(waiting(word))
    }

    fn change(&self, next: impl FnMut(u64) -> Option<u64>) -> Result<u64, u64> {
        self.word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next)
    }

    /// Somebody who was counted is gone.
    fn leave(&self, counted: u64) {
        let word = self.word.fetch_sub(counted, Ordering::SeqCst) - counted;
        if waiting(word) > 0 {
            self.freed.notify_one();
        }
        if word == CLOSED {
            self.left.notify_waiters();
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.leave(1);
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.leave(WAITS);
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
        assert_eq!(gate.load(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_at_its_deadline() {
        let gate = Gate::new(1);
        let _running = gate.enter(None, || ()).await.unwrap();
        assert_eq!(gate.enter(soon(), || ()).await.unwrap_err(), Refused::QueueTimeout);
        assert_eq!(gate.load(), 1);
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

    /// Many threads, few places: never more inside than there are places, nobody is forgotten, also where some give up.
    #[test]
    fn nobody_is_forgotten_and_never_are_too_many_inside() {
        let gate = Gate::new(3);
        let (now, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for number in 0..6_u64 {
                let (gate, now, most) = (gate.clone(), now.clone(), most.clone());
                tasks.spawn(async move {
                    let mut entered = 0;
                    for round in 0..2000_u64 {
                        let deadline = match (number + round) % 5 {
                            0 => Some(Instant::now() + Duration::from_micros(20)),
                            _ => None,
                        };
                        let inside = match gate.enter(deadline, || ()).await {
                            Ok(inside) => inside,
                            Err(Refused::QueueTimeout) if deadline.is_some() => continue,
                            Err(refused) => panic!("{refused:?} at {:x}", gate.word.load(Ordering::SeqCst)),
                        };
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        tokio::task::yield_now().await;
                        now.fetch_sub(1, Ordering::SeqCst);
                        drop(inside);
                        entered += 1;
                    }
                    assert!(entered >= 1600, "{entered}");
                });
            }
            tasks.join_all().await;
        });
        assert_eq!(gate.load(), 0);
        assert!((1..=3).contains(&most.load(Ordering::SeqCst)), "{most:?}");
    }
}
