//! Whether a node, or a service on it, is worth a request.
//!
//! ```text
//! Good ── failed ──> Ejected (0.5 s, 1 s, 2 s .. 10 s) ── time over ──> Due ── one request ──> Good, or Ejected for longer
//! ```
//! What fails while it is ejected counts once: a node that is lost fails all its requests together.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// The first time that something is left alone, and the longest. A node that restarts takes a second; one that stays away
/// leaves the routes before the third time.
const EJECTED_MIN: Duration = Duration::from_millis(500);
const EJECTED_MAX: Duration = Duration::from_secs(10);
/// How long the request that tries it again may take before another one does.
const TRIAL: Duration = Duration::from_secs(2);
/// Faults of the node in a row: fewer may be chance.
const FAULTS_MAX: u32 = 5;

/// Times are in milliseconds of any clock that does not jump.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Zero: it is not.
    ejected_until: AtomicU64,
    failures: AtomicU32,
    faults: AtomicU32,
}

/// In the order in which they are preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// It may be tried again: by one request, see [`Health::try_again`].
    Due,
    Good,
    Ejected,
}

impl Health {
    pub(super) fn state(&self, now: u64) -> State {
        match self.ejected_until.load(Ordering::Relaxed) {
            0 => State::Good,
            until if until <= now => State::Due,
            _ => State::Ejected,
        }
    }

    /// Whether the caller is the one that tries it again.
    pub(super) fn try_again(&self, now: u64) -> bool {
        let trial = |until| (until != 0 && until <= now).then_some(now + ms(TRIAL));
        self.ejected_until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, trial).is_ok()
    }

    /// Answers whether it is ejected by that.
    pub(super) fn failed(&self, now: u64, is_trial: bool) -> bool {
        if self.state(now) == State::Ejected && !is_trial {
            return false;
        }
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).min(16);
        let length = EJECTED_MIN.saturating_mul(1 << failures).min(EJECTED_MAX);
        self.ejected_until.store(now + ms(length), Ordering::Relaxed);
        true
    }

    /// It answered, but for lack of what its node should have. Answers whether it is ejected by that.
    pub(super) fn faulted(&self, now: u64) -> bool {
        let faults = self.faults.fetch_add(1, Ordering::Relaxed) + 1;
        faults >= FAULTS_MAX && self.failed(now, true)
    }

    /// It is left alone for a while, for no fault.
    pub(super) fn avoid(&self, now: u64) {
        self.ejected_until.store(now + ms(EJECTED_MIN), Ordering::Relaxed);
    }

    pub(super) fn succeeded(&self) {
        // Most succeed: nothing is written for those, as the line is shared by all threads.
        for word in [&self.failures, &self.faults] {
            if word.load(Ordering::Relaxed) != 0 {
                word.store(0, Ordering::Relaxed);
            }
        }
        if self.ejected_until.load(Ordering::Relaxed) != 0 {
            self.ejected_until.store(0, Ordering::Relaxed);
        }
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_costs_more_and_one_request_tries_again() {
        let health = Health::default();
        assert_eq!(health.state(1), State::Good);
        let mut now = 1000;
        for length in [500, 1000, 2000, 4000, 8000, 10_000, 10_000] {
            assert!(health.failed(now, true));
            assert!(!health.failed(now, false), "it is one failure, however many notice it");
            assert_eq!(health.state(now + length - 1), State::Ejected);
            now += length;
            assert_eq!(health.state(now), State::Due);
            assert!(health.try_again(now));
            assert!(!health.try_again(now), "one is enough");
            assert_eq!(health.state(now), State::Ejected);
        }
        // The one that tried was cancelled: another one does.
        assert!(health.try_again(now + ms(TRIAL)));
        health.succeeded();
        assert_eq!(health.state(now), State::Good);
        assert!(!health.try_again(now));
        health.failed(now, false);
        assert_eq!(health.state(now + 500), State::Due, "it starts over");
    }

    #[test]
    fn some_faults_in_a_row_are_too_many() {
        let health = Health::default();
        for _ in 0..3 {
            for _ in 1..FAULTS_MAX {
                assert!(!health.faulted(5));
            }
            health.succeeded();
        }
        assert!((1..=FAULTS_MAX).any(|_| health.faulted(5)));
        assert_eq!(health.state(5), State::Ejected);
    }
}
