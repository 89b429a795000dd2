//! When something that failed is tried again.

use std::time::Duration;

use jiff::Timestamp;

/// A hiccup is over after this.
const FIRST: Duration = Duration::from_secs(1);
/// Often enough that a fixed image or registry is noticed within a minute, seldom enough to cost nothing.
const LONGEST: Duration = Duration::from_secs(60);

/// What costs minutes of processor time, or all the memory that there is, is tried much less often.
const FIRST_RARELY: Duration = Duration::from_secs(60);
const LONGEST_RARELY: Duration = Duration::from_secs(60 * 60);

/// Why a worker that has ended does not run at this moment.
pub const CRASH_LOOP: &str = "CrashLoopBackOff";

/// The last failure of a step, kept until the step succeeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// One word for programs.
    pub reason: &'static str,
    /// One sentence for people.
    pub message: String,
    pub at: Timestamp,
    /// How often it failed in a row, from 1.
    pub times: u32,
    pub retry: Retry,
}

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    Later,
    /// It may, but each attempt costs the node a lot.
    Rarely,
    /// The component itself is at fault: another one is needed, which has another digest.
    Never,
}

impl Retry {
    /// The first wait, and the longest.
    fn waits(self) -> Option<(Duration, Duration)> {
        match self {
            Self::Later => Some((FIRST, LONGEST)),
            Self::Rarely => Some((FIRST_RARELY, LONGEST_RARELY)),
            Self::Never => None,
        }
    }
}

impl Failure {
    /// The failure after this one.
    #[must_use]
    pub fn after(previous: Option<&Self>, reason: &'static str, message: String, at: Timestamp) -> Self {
        let times = previous.map_or(1, |failure| failure.times.saturating_add(1));
        Self { reason, message, at, times, retry: Retry::Later }
    }

    /// The same failure, to be tried again so.
    #[must_use]
    pub fn retried(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// When the step may be tried again, if that can help: 1, 2, 4, … 60 seconds after it failed; or 1, 2, 4, … 60 minutes.
    pub fn retry_at(&self) -> Option<Timestamp> {
        let (first, longest) = self.retry.waits()?;
        let doublings = self.times.saturating_sub(1).min(6);
        Some(self.at.saturating_add((first * (1 << doublings)).min(longest)).unwrap_or(Timestamp::MAX))
    }

    /// What happened, and how long after it the step is tried again.
    pub fn with_wait(&self) -> String {
        match self.retry_at() {
            Some(at) => format!("{}; it starts again in {} s", self.message, at.duration_since(self.at).as_secs()),
            None => self.message.clone(),
        }
    }

    /// Whether the step may be tried again. A clock that was set back by more than the longest wait does not stretch it.
    pub fn is_due(&self, now: Timestamp) -> bool {
        let longest = self.retry.waits().map_or(LONGEST, |(_, longest)| longest);
        let set_back = || now.saturating_add(longest).is_ok_and(|latest| latest < self.at);
        self.retry_at().is_some_and(|at| now >= at || set_back())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute() {
        let at = Timestamp::UNIX_EPOCH;
        let mut last: Option<Failure> = None;
        let waits: Vec<i64> = (0..40)
            .map(|_| {
                let next = Failure::after(last.as_ref(), "PullFailed", String::new(), at);
                let wait = next.retry_at().unwrap().as_second();
                last = Some(next);
                wait
            })
            .collect();
        assert_eq!(waits[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(waits[8..].iter().all(|wait| *wait == 60));
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_stop_retries() {
        let failure = Failure::after(None, "PullFailed", String::new(), Timestamp::from_second(1_000_000).unwrap());
        assert!(!failure.is_due(failure.at));
        assert!(failure.is_due(Timestamp::from_second(1_000_001).unwrap()));
        assert!(failure.is_due(Timestamp::from_second(5).unwrap()));
        assert!(!failure.retried(Retry::Never).is_due(Timestamp::MAX));
    }

    #[test]
    fn what_costs_a_lot_waits_for_minutes() {
        let mut failure =
            Failure::after(None, "CompileFailed", String::new(), Timestamp::UNIX_EPOCH).retried(Retry::Rarely);
        let waits: Vec<i64> = (1..9)
            .map(|times| {
                failure.times = times;
                failure.retry_at().unwrap().as_second() / 60
            })
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(!failure.is_due(Timestamp::from_second(3599).unwrap()));
        assert!(failure.is_due(Timestamp::from_second(3600).unwrap()));
    }
}
