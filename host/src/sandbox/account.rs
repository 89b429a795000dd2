//! A replica's share of the processor: a bucket that fills at the rate of `limits.cpu`.
//!
//! Whatever guests use is taken out, below zero if need be, because a slice is charged after it was used. While the
//! bucket is below zero no request of the replica is let in, and guests that compute are not resumed
//! ([`crate::sandbox::lane`]). So a short overdraft is paid for by waiting, and the long run keeps to the rate exactly.
//! Replicas without a limit have no bucket, and pay one addition for their figures.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use skiff_api::quantity::MilliCpu;

use crate::sandbox::usage::Usage;

/// What an idle replica saves up: the period over which the rate is meant, as containers have it.
const BURST: Duration = Duration::from_millis(100);

/// What a replica's guests use of the processor.
#[derive(Debug)]
pub(super) struct Account {
    usage: Arc<Usage>,
    bucket: Option<Mutex<Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    /// Nanoseconds of processor time for each second.
    rate_ns: i128,
    balance_ns: i128,
    filled: Instant,
}

impl Account {
    pub(super) fn new(usage: Arc<Usage>, limit: Option<MilliCpu>) -> Self {
        let bucket = limit.map(|MilliCpu(milli)| {
            let rate_ns = i128::from(milli) * 1_000_000;
            Mutex::new(Bucket {
                rate_ns,
                balance_ns: rate_ns * BURST.as_millis() as i128 / 1000,
                filled: Instant::now(),
            })
        });
        Self { usage, bucket }
    }

    /// Whether use is limited, and so must be measured exactly.
    pub(super) fn is_limited(&self) -> bool {
        self.bucket.is_some()
    }

    pub(super) fn charge(&self, ns: u64) {
        self.usage.add_cpu_ns(ns);
        if let Some(bucket) = &self.bucket {
            let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.balance_ns -= i128::from(ns);
        }
    }

    /// How long the replica must wait until it may compute again; nothing if it may.
    pub(super) fn overdrawn(&self) -> Option<Duration> {
        let bucket = self.bucket.as_ref()?;
        bucket.lock().unwrap_or_else(PoisonError::into_inner).overdrawn(Instant::now())
    }
}

impl Bucket {
    fn overdrawn(&mut self, now: Instant) -> Option<Duration> {
        let elapsed = now.saturating_duration_since(self.filled);
        let more = i128::try_from(elapsed.as_nanos()).unwrap_or(i128::MAX).saturating_mul(self.rate_ns) / 1_000_000_000;
        if more > 0 {
            let full = self.rate_ns * BURST.as_millis() as i128 / 1000;
            self.balance_ns = (self.balance_ns + more).min(full);
            self.filled = now;
        }
        if self.balance_ns >= 0 {
            return None;
        }
        // Rounded up, so that who waits so long is let in then.
        let ns = (-self.balance_ns * 1_000_000_000 + self.rate_ns - 1) / self.rate_ns;
        Some(Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket() -> Bucket {
        Bucket { rate_ns: 100_000_000, balance_ns: 0, filled: Instant::now() }
    }

    #[test]
    fn a_debt_is_paid_off_at_the_rate() {
        let mut bucket = bucket();
        let start = bucket.filled;
        bucket.balance_ns -= 30_000_000;
        assert_eq!(bucket.overdrawn(start), Some(Duration::from_millis(300)));
        assert_eq!(bucket.overdrawn(start + Duration::from_millis(100)), Some(Duration::from_millis(200)));
        assert_eq!(bucket.overdrawn(start + Duration::from_millis(300)), None);
    }

    #[test]
    fn idling_saves_up_no_more_than_a_burst() {
        let mut bucket = bucket();
        let later = bucket.filled + Duration::from_secs(3600);
        assert_eq!(bucket.overdrawn(later), None);
        assert_eq!(bucket.balance_ns, 10_000_000);
    }

    #[test]
    fn the_long_run_keeps_to_the_rate() {
        let mut bucket = bucket();
        let (start, mut now, mut used) = (bucket.filled, bucket.filled, 0);
        while now < start + Duration::from_secs(10) {
            match bucket.overdrawn(now) {
                Some(wait) => now += wait,
                None => {
                    bucket.balance_ns -= 3_000_000;
                    used += 3_000_000_u64;
                    now += Duration::from_millis(3);
                }
            }
        }
        assert!((990_000_000..=1_010_000_000).contains(&used), "{used}");
    }

    #[test]
    fn without_a_limit_there_is_nothing_to_wait_for() {
        let account = Account::new(Arc::default(), None);
        account.charge(u64::MAX / 2);
        assert_eq!(account.overdrawn(), None);
        assert_eq!(account.usage.cpu(), Duration::from_nanos(u64::MAX / 2));
    }
}
