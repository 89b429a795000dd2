//! When something recurs: cron's five fields, read in a time zone.
//!
//! ```text
//! MINUTE HOUR DAY-OF-MONTH MONTH DAY-OF-WEEK     0 3 * * MON-FRI
//! ```
//! The library knows its own version of `jiff`, so times go in and come out as seconds.

use std::fmt;
use std::str::FromStr;

use cronexpr::{Crontab, MakeTimestamp};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Cron's own abbreviations.
const NICKNAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// A schedule as it was written. Whether it is one is checked when the whole object is ([`Schedule::check`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Schedule(String);

/// Why a schedule, or a time zone, is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invalid {
    Schedule(String),
    TimeZone,
}

impl Schedule {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it can be followed in that time zone, which is UTC where none is named.
    pub fn check(&self, time_zone: Option<&str>) -> Result<(), Invalid> {
        self.crontab(time_zone)?;
        match self.next(time_zone, Timestamp::UNIX_EPOCH) {
            Some(_) => Ok(()),
            None => Err(Invalid::Schedule("there is no such day".to_owned())),
        }
    }

    /// The first time after `after` at which something is due; nothing where there is none.
    pub fn next(&self, time_zone: Option<&str>, after: Timestamp) -> Option<Timestamp> {
        let after = MakeTimestamp::from_second(after.as_second()).ok()?;
        let next = self.crontab(time_zone).ok()?.find_next(after).ok()?;
        Timestamp::from_second(next.timestamp().as_second()).ok()
    }

    /// The last time in (`after`, `until`] at which something was due.
    pub fn last(&self, time_zone: Option<&str>, after: Timestamp, until: Timestamp) -> Option<Timestamp> {
        // Backwards in steps that double: a schedule is either often due, and soon found, or seldom, and has few times.
        let mut span = jiff::SignedDuration::from_mins(1);
        loop {
            let from = until.checked_sub(span).unwrap_or(Timestamp::MIN).max(after);
            let mut last = None;
            let mut at = from;
            while let Some(next) = self.next(time_zone, at).filter(|next| *next <= until) {
                (last, at) = (Some(next), next);
            }
            if last.is_some() || from == after {
                return last;
            }
            span = span.saturating_mul(2);
        }
    }

    fn crontab(&self, time_zone: Option<&str>) -> Result<Crontab, Invalid> {
        let written = self.0.trim();
        let fields = NICKNAMES.iter().find(|(nickname, _)| *nickname == written).map_or(written, |(_, fields)| fields);
        let count = fields.split_whitespace().count();
        if count != 5 {
            return Err(Invalid::Schedule(format!("it has {count} fields and not five")));
        }
        let zone = time_zone.unwrap_or("UTC");
        if jiff_zones::tz::TimeZone::get(zone).is_err() {
            return Err(Invalid::TimeZone);
        }
        let crontab = cronexpr::parse_crontab(&format!("{fields} {zone}"));
        crontab.map_err(|error| Invalid::Schedule(last_line(&error.to_string())))
    }
}

/// The library shows the text again, with a mark below it.
fn last_line(text: &str) -> String {
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty());
    last.unwrap_or_default().trim_start_matches('^').trim().to_owned()
}

impl FromStr for Schedule {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::new(text))
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn hours_are_those_of_the_zone() {
        let nightly = Schedule::new("0 3 * * *");
        assert_eq!(nightly.next(None, at("2026-11-26T03:00:00Z")), Some(at("2026-11-27T03:00:00Z")));
        assert_eq!(nightly.next(Some("Europe/Berlin"), at("2026-11-26T01:59:59Z")), Some(at("2026-11-26T02:00:00Z")));
        // Summer time.
        assert_eq!(nightly.next(Some("Europe/Berlin"), at("2026-07-01T00:00:00Z")), Some(at("2026-07-01T01:00:00Z")));
        assert_eq!(Schedule::new("@hourly").next(None, at("2026-01-01T00:10:00Z")), Some(at("2026-01-01T01:00:00Z")));
    }

    #[test]
    fn the_last_one_that_was_missed_is_found() {
        let schedule = Schedule::new("*/10 * * * *");
        let last = |after, until| schedule.last(None, at(after), at(until));
        assert_eq!(last("2026-01-01T00:00:00Z", "2026-01-01T00:09:59Z"), None);
        assert_eq!(last("2026-01-01T00:00:00Z", "2026-01-01T00:10:00Z"), Some(at("2026-01-01T00:10:00Z")));
        assert_eq!(last("2020-01-01T00:00:00Z", "2026-01-01T00:15:00Z"), Some(at("2026-01-01T00:10:00Z")));
        let yearly = Schedule::new("@yearly");
        assert_eq!(
            yearly.last(None, at("2020-06-01T00:00:00Z"), at("2026-05-01T00:00:00Z")),
            Some(at("2026-01-01T00:00:00Z"))
        );
    }

    #[test]
    fn what_is_none_is_refused() {
        for bad in ["", "* * * *", "* * * * * *", "61 * * * *", "a b c d e", "@often", "0 3 * * * UTC", "0 0 31 2 *"] {
            assert!(matches!(Schedule::new(bad).check(None), Err(Invalid::Schedule(_))), "{bad}");
        }
        assert_eq!(Schedule::new("@daily").check(Some("Mars/Olympus")), Err(Invalid::TimeZone));
        let Err(Invalid::Schedule(why)) = Schedule::new("61 * * * *").check(None) else { panic!("it is taken") };
        assert!(!why.contains('\n') && !why.is_empty(), "{why}");
    }
}
