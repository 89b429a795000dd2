//! How fast a replica may write its log.

use std::fmt;
use std::time::Duration;

/// Sustained. A person reads a few KiB/s; a node with ten noisy replicas still leaves its disk to others.
const BYTES_PER_SECOND: u64 = 1 << 20;
/// At once: a stack trace of every request in flight fits.
const BURST_BYTES: u64 = 1 << 20;
/// Once it drops, it drops until so much is free again, so that a flood makes four gaps a second, each said in a line,
/// instead of thousands.
const RESUME_BYTES: u64 = BURST_BYTES / 4;

/// What may be written now.
#[derive(Debug)]
pub(super) struct Limit {
    free: u64,
    refilled: Duration,
    dropped: Option<Dropped>,
}

/// What a flood cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Dropped {
    pub(super) lines: u64,
    pub(super) bytes: u64,
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lines, bytes } = self;
        write!(f, "dropped {lines} lines with {bytes} bytes: more than {BYTES_PER_SECOND} bytes a second")
    }
}

impl Limit {
    /// `now` is the time since any fixed moment.
    pub(super) fn new(now: Duration) -> Self {
        Self { free: BURST_BYTES, refilled: now, dropped: None }
    }

    /// Whether a line of so many bytes is kept.
    pub(super) fn admit(&mut self, bytes: usize, now: Duration) -> bool {
        self.refill(now);
        let fits = self.dropped.is_none() && bytes as u64 <= self.free;
        match fits {
            true => self.free -= bytes as u64,
            false => self.refuse(bytes),
        }
        fits
    }

    /// Counts a line that is dropped.
    pub(super) fn refuse(&mut self, bytes: usize) {
        let dropped = self.dropped.get_or_insert_default();
        dropped.lines += 1;
        dropped.bytes += bytes as u64;
    }

    /// What was dropped, once the flood is over: to be said before the next line.
    #[must_use]
    pub(super) fn over(&mut self, now: Duration) -> Option<Dropped> {
        self.refill(now);
        if self.free < RESUME_BYTES {
            return None;
        }
        self.dropped.take()
    }

    pub(super) fn is_dropping(&self) -> bool {
        self.dropped.is_some()
    }

    fn refill(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.refilled);
        let more = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX).saturating_mul(BYTES_PER_SECOND) / 1_000_000;
        // Less than a byte's worth of time is left to add up.
        if more > 0 {
            self.free = self.free.saturating_add(more).min(BURST_BYTES);
            self.refilled = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(100);

    #[test]
    fn a_burst_passes_and_a_flood_is_cut_to_the_rate() {
        let mut limit = Limit::new(START);
        let mut kept = 0;
        let mut gaps = 0;
        let mut dropped = 0;
        // Ten seconds of ten times the rate.
        for step in 0..100_000u32 {
            let now = START + Duration::from_micros(100) * step;
            if let Some(gap) = limit.over(now) {
                gaps += 1;
                dropped += gap.bytes;
            }
            if limit.admit(1024, now) {
                kept += 1024;
            }
        }
        assert!((9 << 20..=11 << 20).contains(&kept), "{kept}");
        assert!((30..=45).contains(&gaps), "{gaps}");
        let rest = limit.over(START + Duration::from_secs(11)).map_or(0, |gap| gap.bytes);
        assert_eq!(kept + dropped + rest, 100_000 * 1024);
    }

    #[test]
    fn time_that_stands_still_or_goes_back_is_harmless() {
        let mut limit = Limit::new(START);
        assert!(limit.admit(usize::try_from(BURST_BYTES).unwrap(), START));
        assert!(!limit.admit(1, Duration::ZERO));
        assert!(limit.is_dropping());
        assert_eq!(limit.over(Duration::ZERO), None);
        assert_eq!(limit.over(START + Duration::from_secs(1)), Some(Dropped { lines: 1, bytes: 1 }));
    }
}
