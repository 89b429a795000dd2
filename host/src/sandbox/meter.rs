//! Processor time of one request's guest.
//!
//! Every poll is timed by the monotonic clock. The thread's processor clock costs ten times as much: it is read where the
//! other says that the poll was long, or where the replica's processor time is limited. What is short by the one is short
//! by the other. What is long may just have been put aside by the kernel, and must not be taken for a guest that computes:
//! on a busy machine that happens to everyone. How the processor's clock stood when a poll began is told from when it was
//! read last on that thread, if that is a moment ago: it cannot have gone further than the other clock since. So a guest is
//! charged for less than it used, by that moment at most, and never for what others used.
//!
//! Epochs alone could not measure it: a guest that wakes briefly a hundred times a second meets a new one each time, and
//! would be charged for time that it slept.
//!
//! A guest that calls another one on this node polls it within its own poll. What the inner one uses is the inner one's
//! alone: each poll tells its thread what it took, and the outer one leaves that out.
//!
//! A guest is polled by one thread at a time, and the epoch callback runs within a poll, so relaxed atomics suffice: the
//! executor orders the polls.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::sandbox::runner::Terms;

/// How long a guest may compute in one go before it counts as one that computes, and gives way: long against the cost of
/// switching (some microseconds), short against what people notice.
pub(super) const SLICE: Duration = Duration::from_millis(1);

/// How old a reading of the processor's clock may be: no more than what makes a guest one that computes.
const READING_NS_MAX: u64 = 500_000;

thread_local! {
    /// What polls within the one that is under way have taken.
    static INNER_NS: Cell<u64> = const { Cell::new(0) };
    /// When this thread's processor clock was last read, by the monotonic clock, and how it stood.
    static READING: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
}

/// How this thread's processor clock stands at most, now that the monotonic clock is at `now_ns`.
fn thread_ns_at(now_ns: u64) -> u64 {
    let (read_ns, thread) = READING.get();
    let age_ns = now_ns.saturating_sub(read_ns);
    if read_ns != 0 && age_ns < READING_NS_MAX {
        return thread + age_ns;
    }
    let thread = thread_ns();
    READING.set((now_ns, thread));
    thread
}

/// Processor time that a guest has used. Shared by whoever polls it and its epoch callback.
pub(super) struct Meter {
    terms: Arc<Terms>,
    used_ns: AtomicU64,
    /// When the time not yet charged began, by the thread's clock.
    since_ns: AtomicU64,
    /// When the poll that is under way began, by the thread's clock and by the monotonic one.
    began_ns: AtomicU64,
    entered_ns: AtomicU64,
    exact: bool,
    caught: AtomicBool,
    stopped: AtomicBool,
}

/// A poll that is under way.
#[must_use]
pub(super) struct Entered {
    outer_ns: u64,
}

/// What an epoch means for a guest.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    GoOn,
    GiveWay,
    Exhausted,
    /// Nobody waits for it any more.
    Stop,
}

impl Meter {
    pub(super) fn new(terms: Arc<Terms>) -> Self {
        let exact = terms.account.is_limited();
        Self {
            terms,
            used_ns: AtomicU64::new(0),
            since_ns: AtomicU64::new(0),
            began_ns: AtomicU64::new(0),
            entered_ns: AtomicU64::new(0),
            exact,
            caught: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        }
    }

    /// A poll of the guest begins on this thread.
    pub(super) fn enter(&self) -> Entered {
        let entered_ns = monotonic_ns();
        let began_ns = if self.exact { thread_ns() } else { thread_ns_at(entered_ns) };
        self.since_ns.store(began_ns, Ordering::Relaxed);
        self.began_ns.store(began_ns, Ordering::Relaxed);
        self.entered_ns.store(entered_ns, Ordering::Relaxed);
        Entered { outer_ns: INNER_NS.replace(0) }
    }

    /// The poll ends. Returns what it used, inner polls included.
    pub(super) fn leave(&self, entered: Entered) -> Duration {
        let polled_ns = monotonic_ns().saturating_sub(self.entered_ns.load(Ordering::Relaxed));
        let took_ns = if self.exact || self.was_caught() || polled_ns >= nanos(SLICE) / 2 {
            self.charge();
            self.computed_ns()
        } else {
            self.add(polled_ns.saturating_sub(INNER_NS.take()));
            polled_ns
        };
        INNER_NS.set(entered.outer_ns.saturating_add(took_ns));
        Duration::from_nanos(took_ns)
    }

    /// An epoch has met the guest computing.
    pub(super) fn caught(&self, max: Duration) -> Verdict {
        if self.stopped.load(Ordering::Relaxed) {
            return Verdict::Stop;
        }
        // It has only just begun when the clock struck. Many short polls are as much as one long one.
        if self.computed_ns() < nanos(SLICE) / 2 {
            return if self.used() > max { Verdict::Exhausted } else { Verdict::GoOn };
        }
        self.charge();
        self.caught.store(true, Ordering::Relaxed);
        if self.used() > max { Verdict::Exhausted } else { Verdict::GiveWay }
    }

    /// Whether the guest has ever computed for a slice.
    pub(super) fn was_caught(&self) -> bool {
        self.caught.load(Ordering::Relaxed)
    }

    /// At the next epoch the guest ends.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn used(&self) -> Duration {
        Duration::from_nanos(self.used_ns.load(Ordering::Relaxed))
    }

    /// What all guests of the replica share.
    pub(super) fn terms(&self) -> &Arc<Terms> {
        &self.terms
    }

    /// What the poll that is under way has used so far.
    fn computed_ns(&self) -> u64 {
        thread_ns().saturating_sub(self.began_ns.load(Ordering::Relaxed))
    }

    fn charge(&self) {
        let now = thread_ns();
        let took = now.saturating_sub(self.since_ns.swap(now, Ordering::Relaxed));
        self.add(took.saturating_sub(INNER_NS.take()));
    }

    fn add(&self, ns: u64) {
        self.used_ns.fetch_add(ns, Ordering::Relaxed);
        self.terms.account.charge(ns);
    }
}

fn monotonic_ns() -> u64 {
    in_ns(ClockId::Monotonic)
}

fn thread_ns() -> u64 {
    in_ns(ClockId::ThreadCPUTime)
}

fn in_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    nanos(Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0)))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_secs(10);

    fn meter() -> Meter {
        Meter::new(Arc::new(Terms::of_nothing()))
    }

    fn compute(at_least: Duration) {
        let start = thread_ns();
        while thread_ns() - start < nanos(at_least) {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn a_guest_that_has_only_begun_goes_on() {
        let meter = meter();
        let entered = meter.enter();
        assert_eq!(meter.caught(MAX), Verdict::GoOn);
        compute(SLICE);
        assert_eq!(meter.caught(MAX), Verdict::GiveWay);
        assert_eq!(meter.caught(Duration::ZERO), Verdict::Exhausted);
        meter.stop();
        assert_eq!(meter.caught(MAX), Verdict::Stop);
        meter.leave(entered);
    }

    #[test]
    fn a_guest_that_computes_a_little_at_a_time_is_held_to_its_limit() {
        let meter = meter();
        let max = Duration::from_millis(5);
        for _ in 0..1000 {
            let entered = meter.enter();
            compute(Duration::from_micros(20));
            meter.leave(entered);
        }
        let entered = meter.enter();
        assert_eq!(meter.caught(max), Verdict::Exhausted);
        meter.leave(entered);
        assert!(!meter.was_caught(), "it never computed for long");
    }

    #[test]
    fn being_put_aside_is_not_computing() {
        let meter = meter();
        let entered = meter.enter();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(meter.caught(MAX), Verdict::GoOn);
        let took = meter.leave(entered);
        assert!(took < Duration::from_millis(25) && meter.used() < Duration::from_millis(25), "{took:?}");
    }

    #[test]
    fn only_computing_within_polls_is_charged() {
        let meter = meter();
        let entered = meter.enter();
        compute(2 * SLICE);
        assert_eq!(meter.caught(MAX), Verdict::GiveWay);
        meter.leave(entered);
        compute(Duration::from_millis(50));
        let entered = meter.enter();
        compute(Duration::from_millis(5));
        assert_eq!(meter.caught(MAX), Verdict::GiveWay);
        let used = meter.used();
        assert!(used >= 2 * SLICE + Duration::from_millis(5), "{used:?}");
        assert!(used < Duration::from_millis(50), "time between polls was charged: {used:?}");
        meter.leave(entered);
    }

    #[test]
    fn what_an_inner_guest_uses_is_its_own() {
        let (outer, inner) = (meter(), meter());
        let entered = outer.enter();
        compute(Duration::from_millis(2));
        let within = inner.enter();
        compute(Duration::from_millis(30));
        assert_eq!(inner.caught(MAX), Verdict::GiveWay);
        inner.leave(within);
        outer.leave(entered);
        assert!(inner.used() >= Duration::from_millis(10), "{:?}", inner.used());
        assert!(outer.used() < Duration::from_millis(10), "{:?}", outer.used());
        let next = outer.enter();
        compute(Duration::from_millis(1));
        outer.leave(next);
        assert!(outer.used() >= Duration::from_millis(3), "a later poll counts whole: {:?}", outer.used());
    }
}
