//! How much is tried again: a share of what is sent, so that a cluster in trouble does not get twice the load.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// What a request adds, and what trying one again takes: one in five.
const DEPOSIT: i64 = 200;
const PRICE: i64 = 1000;
/// What a second adds, so that where few requests come all of them may be tried again: ten.
const PER_MS: u64 = 10;
/// What is saved up at most: the requests of one moment to a node that is lost in it.
const SAVED_MAX: i64 = 200 * PRICE;

/// Times are in milliseconds of any clock that does not jump.
#[derive(Debug)]
pub(super) struct Budget {
    saved: AtomicI64,
    at: AtomicU64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { saved: AtomicI64::new(SAVED_MAX), at: AtomicU64::new(0) }
    }
}

impl Budget {
    /// A request is sent for the first time.
    pub(super) fn add(&self) {
        // Full most of the time; some more than full does no harm.
        if self.saved.load(Ordering::Relaxed) < SAVED_MAX {
            self.saved.fetch_add(DEPOSIT, Ordering::Relaxed);
        }
    }

    /// Whether one may be sent again.
    pub(super) fn take(&self, now: u64) -> bool {
        let before = self.at.fetch_max(now, Ordering::Relaxed);
        let earned = i64::try_from(now.saturating_sub(before).saturating_mul(PER_MS)).unwrap_or(SAVED_MAX);
        self.saved.fetch_add(earned.min(SAVED_MAX), Ordering::Relaxed);
        let pay = |saved: i64| (saved >= PRICE).then(|| saved.min(SAVED_MAX) - PRICE);
        self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_five_and_ten_each_second() {
        let budget = Budget::default();
        let taken = |now| (0..100_000).take_while(|_| budget.take(now)).count();
        assert_eq!(taken(5), 200);
        assert_eq!(taken(5), 0);
        assert_eq!(taken(1005), 10);
        (0..50).for_each(|_| budget.add());
        assert_eq!(taken(1005), 10);
        assert_eq!(taken(3_600_000), 200);
        // A clock that stands still gives nothing.
        assert_eq!(taken(3_600_000), 0);
    }
}
