//! Wall time for certificates, on machines whose clock may be wrong.
//!
//! Many small machines have no battery: they boot in 1970 and learn the time once they have a network. Certificates are
//! then not valid yet, and those that have expired are valid again. So time is never behind the latest that is known to
//! have been: whoever keeps a clock stores [`Clock::now`] now and then and starts from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

/// The machine's clock, or the latest known time where that is later.
#[derive(Debug)]
pub struct Clock {
    /// In seconds since 1970.
    floor: AtomicI64,
}

impl Clock {
    pub fn new(floor: Timestamp) -> Arc<Self> {
        Arc::new(Self { floor: AtomicI64::new(floor.as_second()) })
    }

    /// It is at least so late.
    pub fn raise(&self, at_least: Timestamp) {
        self.floor.fetch_max(at_least.as_second(), Ordering::Relaxed);
    }

    pub fn now(&self) -> Timestamp {
        let floor = Timestamp::from_second(self.floor.load(Ordering::Relaxed)).unwrap_or(Timestamp::UNIX_EPOCH);
        Timestamp::now().max(floor)
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(self.now()))
    }
}

/// As certificates count it: whole seconds, none before 1970.
pub(crate) fn unix_time(time: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(time.as_second()).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_never_behind_what_is_known() {
        let late = Timestamp::from_second(9_000_000_000).unwrap();
        assert!((Timestamp::now().as_second() - Clock::new(Timestamp::UNIX_EPOCH).now().as_second()).abs() < 5);
        let clock = Clock::new(late);
        assert_eq!(clock.now(), late);
        clock.raise(Timestamp::UNIX_EPOCH);
        assert_eq!(clock.now(), late);
        clock.raise(Timestamp::from_second(9_000_000_001).unwrap());
        assert_eq!(clock.current_time().unwrap().as_secs(), 9_000_000_001);
        assert_eq!(unix_time(Timestamp::from_second(-1).unwrap()).as_secs(), 0);
    }
}
