//! The node's lease: leave to run what may run in one place only.
//!
//! ```text
//!   node: asks, with its own time T ──> control plane: answers, while the link is the node's
//!   node: holds the lease until T + 30 s, once it has also heard on this link all that it should run
//! ```
//! The time is counted from before the question, by a clock of this machine that goes on while it sleeps, so nothing that is
//! late on its way makes a lease longer, and no clock is compared with another one. A control plane that answers nobody any
//! more on a link waits longer than a lease before it gives away what was there. After a link broke, only the whole of what
//! is wanted says what is still this node's. A control plane that was restored from a backup, which its epoch shows, knows
//! nothing of what was granted before: with its first word, that ends.

use skiff_api::wire::{LEASE_ASK_MS, LEASE_MS};

/// What is known of it. Times are milliseconds of one clock of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lease {
    /// When the last question was asked whose answer counts.
    granted_ms: Option<u64>,
    /// When the last question was asked that has an answer on this link.
    offered_ms: Option<u64>,
    /// When the last question was asked.
    asked_ms: Option<u64>,
    /// Whether all that is wanted was said on this link.
    knows: bool,
    /// The cluster's, as it was told last.
    epoch: u64,
}

impl Lease {
    pub fn new_link(&mut self) {
        self.knows = false;
        self.asked_ms = None;
        self.offered_ms = None;
    }

    /// Whether a question is due. Whoever asks this asks that one.
    pub fn asks(&mut self, now_ms: u64) -> bool {
        let is_due = self.asked_ms.is_none_or(|asked| now_ms >= asked.saturating_add(LEASE_ASK_MS));
        if is_due {
            self.asked_ms = Some(now_ms);
        }
        is_due
    }

    /// An answer to what was asked then.
    pub fn offered(&mut self, asked_ms: u64, now_ms: u64) {
        // Nobody has asked in what is yet to come.
        if asked_ms <= now_ms {
            self.offered_ms = self.offered_ms.max(Some(asked_ms));
        }
        self.take();
    }

    /// What is wanted was said on this link, in this epoch: all of it, or what of it changed.
    pub fn learns(&mut self, is_whole: bool, epoch: u64) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.granted_ms = None;
        }
        self.knows |= is_whole;
        self.take();
    }

    /// An answer counts once it is known what is wanted. Until then, what was granted before goes on until its end.
    fn take(&mut self) {
        if self.knows {
            self.granted_ms = self.granted_ms.max(self.offered_ms);
        }
    }

    pub fn holds(&self, now_ms: u64) -> bool {
        self.granted_ms.is_some_and(|granted| now_ms < granted.saturating_add(LEASE_MS))
    }

    /// How long until the next question is due, or the lease ends.
    pub fn due_in(&self, is_held: bool, now_ms: u64) -> u64 {
        let ask_at = self.asked_ms.map_or(now_ms, |asked| asked.saturating_add(LEASE_ASK_MS));
        let ends_at = self.granted_ms.filter(|_| is_held).map(|granted| granted.saturating_add(LEASE_MS));
        ends_at.map_or(ask_at, |ends| ends.min(ask_at)).saturating_sub(now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_counted_from_the_question_and_needs_to_know_what_is_wanted() {
        let mut lease = Lease::default();
        assert!(lease.asks(1_000) && !lease.asks(1_500));
        lease.offered(1_000, 1_500);
        assert!(!lease.holds(1_501));
        lease.learns(false, 0);
        assert!(!lease.holds(1_501), "a change is not the whole");
        lease.learns(true, 0);
        assert!(lease.holds(1_501) && lease.holds(1_000 + LEASE_MS - 1) && !lease.holds(1_000 + LEASE_MS));
        assert_eq!(lease.due_in(true, 1_600), 1_000 + LEASE_ASK_MS - 1_600);
        assert_eq!(lease.due_in(true, 1_000 + LEASE_MS - 1), 0, "a question is due");
        assert!(lease.asks(1_000 + LEASE_MS - 10));
        assert_eq!(lease.due_in(true, 1_000 + LEASE_MS - 1), 1, "it ends");
        // A link that broke ends nothing before its time, and a new one prolongs nothing before it has said all.
        lease.new_link();
        assert!(lease.holds(1_001));
        assert_eq!(lease.due_in(true, 1_001), 0, "a new link is asked at once");
        lease.offered(1_000 + LEASE_MS, 1_000 + LEASE_MS);
        assert!(!lease.holds(1_000 + LEASE_MS));
        lease.learns(true, 0);
        assert!(lease.holds(1_000 + LEASE_MS));
    }

    #[test]
    fn what_is_yet_to_come_grants_nothing_and_another_epoch_ends_it() {
        let mut lease = Lease::default();
        lease.learns(true, 1);
        lease.offered(9_000, 1_000);
        assert!(!lease.holds(1_000));
        lease.offered(1_000, 1_000);
        assert!(lease.holds(1_001));
        lease.new_link();
        lease.learns(false, 2);
        assert!(!lease.holds(1_001), "a restored control plane did not grant it");
        lease.learns(true, 2);
        assert!(!lease.holds(1_001));
        lease.offered(1_100, 1_100);
        assert!(lease.holds(1_101));
    }
}
