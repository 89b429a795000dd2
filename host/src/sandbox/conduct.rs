//! How a replica's guests have behaved: whether the next one is expected to compute.
//!
//! A guest that nobody expects to compute is noticed only at the next tick of the clock, and what it does in one go, such
//! as wiping its memory, not even then. So a replica whose guests do so again and again has them started in the lanes
//! ([`crate::sandbox::lane`]) right away, until they are quick again.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::sandbox::meter::SLICE;

/// Two that compute, close to each other, make a habit.
const HOT: u32 = 8;
const STEP: u32 = 4;
/// One that held its thread for so long at once is enough: the next may do the same, and everyone there waits again.
const LONG: Duration = Duration::from_millis(5);
/// Bounds how long a replica needs to be trusted again: so many quick requests, less [`HOT`].
const MAX: u32 = 16;

/// What is expected of a replica's next guest.
#[derive(Debug, Default)]
pub(super) struct Conduct(AtomicU32);

impl Conduct {
    pub(super) fn is_hot(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= HOT
    }

    /// A guest was caught computing after it held its thread for so long, or has ended without being caught.
    pub(super) fn saw(&self, computed: Duration) {
        let heat = self.0.load(Ordering::Relaxed);
        let next = match computed {
            quick if quick < SLICE / 2 => heat.saturating_sub(1),
            short if short < LONG => (heat + STEP).min(MAX),
            _ => (heat + HOT).min(MAX),
        };
        // Most replicas are always quick, and need not write.
        if next != heat {
            self.0.store(next, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_micros(50);

    #[test]
    fn a_habit_begins_with_the_second_and_ends_with_some_quick_ones() {
        let conduct = Conduct::default();
        conduct.saw(SLICE);
        assert!(!conduct.is_hot());
        conduct.saw(SLICE);
        assert!(conduct.is_hot());
        (0..100).for_each(|_| conduct.saw(SLICE));
        (0..MAX - HOT).for_each(|_| conduct.saw(QUICK));
        assert!(conduct.is_hot());
        conduct.saw(QUICK);
        assert!(!conduct.is_hot());
    }

    #[test]
    fn one_that_stalls_its_thread_is_enough() {
        let conduct = Conduct::default();
        conduct.saw(LONG);
        assert!(conduct.is_hot());
        conduct.saw(QUICK);
        assert!(!conduct.is_hot());
    }

    #[test]
    fn one_in_ten_is_no_habit() {
        let conduct = Conduct::default();
        assert!((0..1000).all(|request| {
            conduct.saw(if request % 10 == 0 { SLICE } else { QUICK });
            !conduct.is_hot()
        }));
    }
}
