//! How long to wait before the control plane is dialled again.

use std::time::Duration;

/// A control plane that restarts is back within a second or two.
const FIRST: Duration = Duration::from_millis(400);
/// The longest: a machine that comes back has its nodes within this. A dial costs a packet or two.
const LONGEST: Duration = Duration::from_secs(5);
/// A link that lived so long was a good one, and what comes next is a new fault.
pub(super) const STEADY: Duration = Duration::from_secs(5);

/// Pauses that double, each of which is cut short by chance: nodes that lost one control plane together do not come back
/// together.
#[derive(Debug)]
pub(super) struct Pause {
    next: Duration,
}

impl Pause {
    pub(super) fn new() -> Self {
        Self { next: FIRST }
    }

    /// The next pause; `chance` is any number. At least half of the whole pause, and less than all of it.
    pub(super) fn take(&mut self, chance: u64) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(LONGEST);
        let half = whole / 2;
        let micros = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
        half + Duration::from_micros(chance % micros)
    }

    /// The longest there is, from now on: whoever is refused is refused again.
    pub(super) fn slow(&mut self) {
        self.next = LONGEST;
    }

    pub(super) fn reset(&mut self) {
        self.next = FIRST;
    }
}

/// Any number.
pub(super) fn chance() -> u64 {
    getrandom::u64().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_within_bounds_and_differ() {
        let mut pause = Pause::new();
        let mut wholes = Vec::new();
        for _ in 0..6 {
            let before = pause.next;
            let taken = pause.take(chance());
            assert!(taken >= before / 2 && taken < before, "{taken:?} of {before:?}");
            wholes.push(before.as_millis());
        }
        assert_eq!(wholes, [400, 800, 1600, 3200, 5000, 5000]);
        pause.reset();
        assert_eq!(pause.take(0), Duration::from_millis(200));
        pause.slow();
        let one = pause.take(1_000);
        pause.slow();
        assert_ne!(one, pause.take(2_000), "two nodes do not come at once");
    }
}
