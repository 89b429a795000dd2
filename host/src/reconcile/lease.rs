//! What the lease starts and stops. [`Lease`] says when it is held.
//!
//! What needs it stops as soon as it is lost: tasks and workers are told to and not waited for, requests in flight are cut,
//! containers are killed. A service's replica begins again with the next lease. A task does not, nor does one that an earlier
//! process of this node may have begun: what had come of that, nobody knows any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use skiff_api::id::ReplicaKey;
use skiff_api::wire::Assignment;
use tokio_util::sync::CancellationToken;

use super::actor::Reconciler;
use crate::plan::{Action, Ended, Lease, RunningStage};

/// The lease, and what needs it.
#[derive(Debug, Default)]
pub(super) struct Holders {
    pub(super) lease: Lease,
    /// What needs it, but for tasks that have ended.
    pub(super) replicas: BTreeSet<ReplicaKey>,
    /// What ends a replica at once, from its start on.
    brakes: BTreeMap<ReplicaKey, CancellationToken>,
}

impl Holders {
    /// Those of an earlier process: services begin again with a lease, tasks do not.
    pub(super) fn of(desired: &BTreeMap<ReplicaKey, Assignment>) -> Self {
        let needs =
            |(_, assignment): &(&ReplicaKey, &Assignment)| assignment.needs_lease() && assignment.task.is_none();
        let replicas = desired.iter().filter(needs).map(|(replica, _)| replica.clone()).collect();
        Self { replicas, ..Self::default() }
    }

    /// What a start of it, and its end, listen to. One that needs no lease is never braked.
    pub(super) fn brake(&mut self, assignment: &Assignment) -> CancellationToken {
        let brake = CancellationToken::new();
        if assignment.needs_lease() {
            self.brakes.insert(assignment.replica.clone(), brake.clone());
        }
        brake
    }

    /// The same, when it ends.
    pub(super) fn brake_of(&self, replica: &ReplicaKey) -> CancellationToken {
        self.brakes.get(replica).cloned().unwrap_or_default()
    }

    pub(super) fn forget(&mut self, replica: &ReplicaKey) {
        self.brakes.remove(replica);
    }
}

impl Reconciler {
    /// When the lease needs something; never, where nothing needs a lease.
    pub(super) fn lease_due(&self) -> Option<Duration> {
        let needs = !self.holders.replicas.is_empty() || self.observed.is_leased;
        needs.then(|| Duration::from_millis(self.holders.lease.due_in(self.observed.is_leased, now_ms())))
    }

    /// Asks for it, where that is due, and gives it up where it has ended.
    pub(super) fn tend_lease(&mut self) {
        let now_ms = now_ms();
        if self.holders.lease.asks(now_ms) && !self.holders.replicas.is_empty() {
            self.outbox.ask_lease(now_ms);
        }
        self.judge_lease(now_ms);
    }

    pub(super) fn lease_granted(&mut self, asked_ms: u64) {
        let now_ms = now_ms();
        self.holders.lease.offered(asked_ms, now_ms);
        self.judge_lease(now_ms);
    }

    /// What is wanted was said on this link.
    pub(super) fn lease_learns(&mut self, is_whole: bool) {
        self.holders.lease.learns(is_whole, self.desired.fence.epoch);
        self.judge_lease(now_ms());
    }

    fn judge_lease(&mut self, now_ms: u64) {
        let is_leased = self.holders.lease.holds(now_ms);
        if std::mem::replace(&mut self.observed.is_leased, is_leased) == is_leased {
            return;
        }
        if !is_leased {
            self.lose_lease();
        }
        self.dirty.replicas(self.holders.replicas.iter().cloned());
    }

    /// Before the next plan, so that nothing goes on for which a lease comes back meanwhile.
    fn lose_lease(&mut self) {
        if !self.holders.replicas.is_empty() {
            let replicas = self.holders.replicas.len();
            tracing::warn!(replicas, "lost the lease: what may run in one place only stops");
        }
        for (replica, brake) in self.holders.brakes.clone() {
            brake.cancel();
            match self.observed.running.get(&replica).map(|running| running.stage) {
                Some(RunningStage::Ready) => self.begin(Action::Stop(replica)),
                // Those that were told to stop have no time left to do so.
                Some(RunningStage::Stopping) => self.workers.get(&replica).into_iter().for_each(|halt| halt.stop(true)),
                Some(RunningStage::Starting) | None => {}
            }
        }
    }

    /// A task has ended: it does not run again.
    pub(super) fn end_task(&mut self, replica: &ReplicaKey, end: Ended) {
        self.holders.replicas.remove(replica);
        self.observed.ended.entry(replica.clone()).or_insert(end);
    }
}

/// The tasks that an earlier process of this node may have begun. Whether it has, nobody knows any more.
pub(super) fn begun_before(desired: &BTreeMap<ReplicaKey, Assignment>) -> BTreeMap<ReplicaKey, Ended> {
    let tasks = desired.iter().filter(|(_, assignment)| assignment.task.is_some());
    let ended =
        |assignment: &Assignment| Ended::interrupted(&assignment.uid, "was interrupted by a restart of its node");
    tasks.map(|(replica, assignment)| (replica.clone(), ended(assignment))).collect()
}

/// Since the machine was started, its sleep included.
fn now_ms() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    u64::try_from(time.tv_sec).unwrap_or_default() * 1000 + u64::try_from(time.tv_nsec).unwrap_or_default() / 1_000_000
}
