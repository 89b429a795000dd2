//! The node's lease: leave to run what may run in one place only.
//!
//! ```text
//!   node: asks, with its own time T ──> control plane: answers, while the link is the node's
//!   node: holds the lease until T + 30 s, once it has also heard on this link all that it should run
//! ```
//! The time is counted from before the question, by a clock of this machine that goes on while it sleeps, so nothing that is
//! late on its way makes a lease longer, and no clock is compared with another one. A control plane that answers nobody any
//! more on a link waits longer than a lease before it gives away what was there. After a link broke, only the whole of what
//! is wanted says what is still this node's; and after a restart of its process, what was begun is not begun again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use skiff_api::id::ReplicaKey;
use skiff_api::wire::{Assignment, LEASE_ASK_MS, LEASE_MS};

use super::actor::Reconciler;
use crate::plan::{Ended, RunningStage};

#[derive(Debug, Default)]
pub(super) struct Lease {
    /// When the last question was asked whose answer counts.
    granted_ms: Option<u64>,
    /// When the last question was asked that has an answer on this link.
    offered_ms: Option<u64>,
    /// When the last question was asked.
    asked_ms: Option<u64>,
    /// Whether all that is wanted was said on this link.
    knows: bool,
    /// What needs it.
    pub(super) tasks: BTreeSet<ReplicaKey>,
}

impl Lease {
    pub(super) fn new_link(&mut self) {
        self.knows = false;
        self.asked_ms = None;
        self.offered_ms = None;
    }

    /// An answer counts once it is known what is wanted. Until then, what was granted before goes on until its end.
    fn take(&mut self) {
        if self.knows {
            self.granted_ms = self.granted_ms.max(self.offered_ms);
        }
    }

    fn holds(&self, now_ms: u64) -> bool {
        self.granted_ms.is_some_and(|granted| now_ms < granted.saturating_add(LEASE_MS))
    }

    /// How long until the next question is due, or the lease ends. Milliseconds.
    fn due_in(&self, is_held: bool, now_ms: u64) -> u64 {
        let ask_at = self.asked_ms.map_or(now_ms, |asked| asked.saturating_add(LEASE_ASK_MS));
        let ends_at = self.granted_ms.filter(|_| is_held).map(|granted| granted.saturating_add(LEASE_MS));
        ends_at.map_or(ask_at, |ends| ends.min(ask_at)).saturating_sub(now_ms)
    }
}

impl Reconciler {
    /// When the lease needs something; never, where nothing needs a lease.
    pub(super) fn lease_due(&self) -> Option<Duration> {
        let needs = !self.lease.tasks.is_empty() || self.observed.is_leased;
        needs.then(|| Duration::from_millis(self.lease.due_in(self.observed.is_leased, now_ms())))
    }

    /// Asks for it, where that is due, and gives it up where it has ended.
    pub(super) fn tend_lease(&mut self) {
        let now_ms = now_ms();
        let is_due = |asked: u64| now_ms >= asked.saturating_add(LEASE_ASK_MS);
        if self.lease.asked_ms.is_none_or(is_due) {
            self.lease.asked_ms = Some(now_ms);
            if !self.lease.tasks.is_empty() {
                self.outbox.ask_lease(now_ms);
            }
        }
        self.judge_lease(now_ms);
    }

    pub(super) fn lease_granted(&mut self, asked_ms: u64) {
        let now_ms = now_ms();
        // Nobody has asked in what is yet to come.
        if asked_ms <= now_ms {
            self.lease.offered_ms = self.lease.offered_ms.max(Some(asked_ms));
        }
        self.judge_lease(now_ms);
    }

    /// What is wanted was said on this link.
    pub(super) fn lease_learns(&mut self, is_whole: bool) {
        self.lease.knows |= is_whole;
        self.judge_lease(now_ms());
    }

    fn judge_lease(&mut self, now_ms: u64) {
        self.lease.take();
        let is_leased = self.lease.holds(now_ms);
        if std::mem::replace(&mut self.observed.is_leased, is_leased) == is_leased {
            return;
        }
        if !is_leased && !self.lease.tasks.is_empty() {
            tracing::warn!(tasks = self.lease.tasks.len(), "lost the lease: what may run in one place only stops");
        }
        if !is_leased {
            // Those that were told to stop have no time left to do so.
            let stopping = |replica: &&ReplicaKey| {
                self.observed.running.get(*replica).is_some_and(|running| running.stage == RunningStage::Stopping)
            };
            let halts = self.lease.tasks.iter().filter(stopping).filter_map(|replica| self.workers.get(replica));
            halts.for_each(|halt| halt.stop(true));
        }
        self.dirty.replicas(self.lease.tasks.iter().cloned());
    }

    /// A task has ended: it does not run again.
    pub(super) fn end_task(&mut self, replica: &ReplicaKey, end: Ended) {
        self.lease.tasks.remove(replica);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_counted_from_the_question_and_needs_to_know_what_is_wanted() {
        let mut lease = Lease { offered_ms: Some(1_000), asked_ms: Some(1_500), ..Lease::default() };
        lease.take();
        assert!(!lease.holds(1_001));
        lease.knows = true;
        lease.take();
        assert!(lease.holds(1_001) && lease.holds(1_000 + LEASE_MS - 1) && !lease.holds(1_000 + LEASE_MS));
        assert_eq!(lease.due_in(true, 1_600), 1_500 + LEASE_ASK_MS - 1_600);
        assert_eq!(lease.due_in(true, 1_000 + LEASE_MS - 1), 0, "a question is due");
        lease.asked_ms = Some(1_000 + LEASE_MS - 10);
        assert_eq!(lease.due_in(true, 1_000 + LEASE_MS - 1), 1, "it ends");
        // A link that broke ends nothing before its time, and a new one prolongs nothing before it has said all.
        lease.new_link();
        assert!(lease.holds(1_001));
        assert_eq!(lease.due_in(true, 1_001), 0, "a new link is asked at once");
        lease.offered_ms = Some(1_000 + LEASE_MS);
        lease.take();
        assert!(!lease.holds(1_000 + LEASE_MS));
        lease.knows = true;
        lease.take();
        assert!(lease.holds(1_000 + LEASE_MS));
    }
}
