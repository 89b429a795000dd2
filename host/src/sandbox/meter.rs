//! Processor time of one guest.
//!
//! Epochs alone cannot measure it: a guest that wakes briefly a hundred times a second, to send a chunk or read one,
//! meets a new epoch each time, and would be charged for time that it slept. Reading the thread's processor clock around
//! every poll would be exact, and costs a system call twice in requests that take microseconds. So a guest is measured
//! only after the first epoch has caught it computing: quick guests pay nothing, others are charged exactly, but for
//! their first slice, which counts as one tick.
//!
//! A guest is polled by one thread at a time, and the epoch callback runs within a poll, so relaxed atomics suffice: the
//! executor orders the polls.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::sandbox::ticker::TICK;

/// Processor time that a guest has used. Shared by whoever polls it and its epoch callback.
#[derive(Debug, Default)]
pub(super) struct Meter {
    used_ns: AtomicU64,
    /// The thread's clock when the time not yet charged began; 0 while nothing is measured.
    since_ns: AtomicU64,
}

impl Meter {
    /// A poll of the guest begins on this thread.
    pub(super) fn enter(&self) {
        if self.used_ns.load(Ordering::Relaxed) > 0 {
            self.since_ns.store(thread_ns(), Ordering::Relaxed);
        }
    }

    /// The poll ends.
    pub(super) fn leave(&self) {
        if self.used_ns.load(Ordering::Relaxed) > 0 {
            self.charge();
            self.since_ns.store(0, Ordering::Relaxed);
        }
    }

    /// An epoch has caught the guest computing. Returns what it has used.
    pub(super) fn caught(&self) -> Duration {
        if self.used_ns.load(Ordering::Relaxed) == 0 {
            self.used_ns.store(nanos(TICK), Ordering::Relaxed);
            self.since_ns.store(thread_ns(), Ordering::Relaxed);
        } else {
            self.charge();
        }
        Duration::from_nanos(self.used_ns.load(Ordering::Relaxed))
    }

    fn charge(&self) {
        let (now, since) = (thread_ns(), self.since_ns.load(Ordering::Relaxed));
        if since > 0 {
            self.used_ns.fetch_add(now.saturating_sub(since), Ordering::Relaxed);
        }
        self.since_ns.store(now, Ordering::Relaxed);
    }
}

fn thread_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    nanos(Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0)))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compute(at_least: Duration) {
        let start = thread_ns();
        while thread_ns() - start < nanos(at_least) {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn a_guest_that_no_epoch_caught_is_not_measured() {
        let meter = Meter::default();
        meter.enter();
        compute(Duration::from_millis(2));
        meter.leave();
        assert_eq!(meter.used_ns.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn only_computing_within_polls_is_charged() {
        let meter = Meter::default();
        meter.enter();
        assert_eq!(meter.caught(), TICK);
        meter.leave();
        compute(Duration::from_millis(50));
        meter.enter();
        compute(Duration::from_millis(5));
        let used = meter.caught();
        assert!(used >= TICK + Duration::from_millis(5), "{used:?}");
        assert!(used < TICK + Duration::from_millis(50), "time between polls was charged: {used:?}");
    }
}
