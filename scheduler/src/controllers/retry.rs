//! What could not be written, until it is time to try again.
//!
//! One timer for all: a store that refuses one write mostly refuses the next. The pause doubles with each round in which
//! something failed and starts anew after one in which nothing did. Empty, it needs no timer at all.

use std::collections::BTreeSet;
use std::time::Duration;

use skiff_api::ServiceKey;
use tokio::time::Instant;

/// Long enough for the watch to bring what a conflict was about, too short to be noticed.
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// A disk that was full has room again some seconds after somebody made it.
const PAUSE_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Retry {
    services: BTreeSet<ServiceKey>,
    at: Option<Instant>,
    pause: Duration,
}

impl Retry {
    /// A service whose plan was not carried out.
    pub(super) fn add(&mut self, service: ServiceKey) {
        self.services.insert(service);
    }

    /// Ends a round: `failed` says whether anything was not written.
    pub(super) fn settle(&mut self, failed: bool, now: Instant) {
        self.pause = if failed { (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX) } else { Duration::ZERO };
        if failed {
            self.at = Some(now + self.pause);
        }
    }

    /// When to try again, if there is anything to try.
    pub(super) fn at(&self) -> Option<Instant> {
        self.at
    }

    /// It is time: all that waited.
    pub(super) fn take(&mut self) -> BTreeSet<ServiceKey> {
        self.at = None;
        std::mem::take(&mut self.services)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_a_bound_and_start_anew() {
        let now = Instant::now();
        let mut retry = Retry::default();
        retry.settle(false, now);
        assert_eq!(retry.at(), None);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            retry.settle(true, now);
            pauses.push((retry.at().unwrap() - now).as_millis());
            retry.take();
        }
        assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1280, 2560, 5000, 5000]);
        retry.settle(false, now);
        assert_eq!(retry.at(), None);
        retry.settle(true, now);
        assert_eq!(retry.at(), Some(now + PAUSE_MIN));
    }
}
