//! How a replica's guests have behaved: whether the next one is expected to compute.
//!
//! A guest that nobody expects to compute is noticed only at the next tick of the clock, and what it does in one go, such
//! as wiping its memory, not even then. So a replica whose guests do so again and again has them started in the lanes
//! ([`crate::sandbox::lane`]) right away, until they are quick again.

use std::sync::atomic::{AtomicU32, Ordering};

/// Two that compute, close to each other, make a habit.
const HOT: u32 = 8;
const STEP: u32 = 4;
/// Bounds how long a replica needs to be trusted again: so many quick requests, less [`HOT`].
const MAX: u32 = 16;

/// What is expected of a replica's next guest.
#[derive(Debug, Default)]
pub(super) struct Conduct(AtomicU32);

impl Conduct {
    pub(super) fn is_hot(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= HOT
    }

    /// A guest has ended, that computed for long or was quick.
    pub(super) fn saw(&self, computed: bool) {
        let heat = self.0.load(Ordering::Relaxed);
        let next = if computed { (heat + STEP).min(MAX) } else { heat.saturating_sub(1) };
        // Most replicas are always quick, and need not write.
        if next != heat {
            self.0.store(next, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_habit_begins_with_the_second_and_ends_with_some_quick_ones() {
        let conduct = Conduct::default();
        conduct.saw(true);
        assert!(!conduct.is_hot());
        conduct.saw(true);
        assert!(conduct.is_hot());
        (0..100).for_each(|_| conduct.saw(true));
        (0..MAX - HOT).for_each(|_| conduct.saw(false));
        assert!(conduct.is_hot());
        conduct.saw(false);
        assert!(!conduct.is_hot());
    }

    #[test]
    fn one_in_ten_is_no_habit() {
        let conduct = Conduct::default();
        assert!((0..1000).all(|request| {
            conduct.saw(request % 10 == 0);
            !conduct.is_hot()
        }));
    }
}
