//! Sizes and ages as docker prints them.

use jiff::Timestamp;

const DAY: i64 = 24 * 3600;

/// A size in decimal units, with three digits: `12.8MB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut unit = 0;
    let mut scale = 1_u64;
    // A size that would be rounded up to a thousand is one of the next unit.
    while unit + 1 < UNITS.len() && bytes >= scale.saturating_mul(1000) - scale / 2 {
        unit += 1;
        scale = scale.saturating_mul(1000);
    }
    let hundredths = |per: u64| (u128::from(bytes) * u128::from(per) + u128::from(scale) / 2) / u128::from(scale);
    let whole = hundredths(1);
    let number = match whole {
        _ if unit == 0 => bytes.to_string(),
        100.. => whole.to_string(),
        10.. => decimal(hundredths(10), 10),
        _ => decimal(hundredths(100), 100),
    };
    format!("{number}{}", UNITS[unit])
}

/// A number of parts, without zeros at its end.
fn decimal(parts: u128, of: u128) -> String {
    let digits = if of == 10 { 1 } else { 2 };
    let text = format!("{}.{:0digits$}", parts / of, parts % of);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// How long ago: `3 days ago`.
pub(crate) fn ago(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(then.as_second()).max(0);
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    let text = match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if seconds < 14 * DAY => format!("{} days", seconds / DAY),
        () if seconds < 60 * DAY => format!("{} weeks", seconds / DAY / 7),
        () if seconds < 730 * DAY => format!("{} months", seconds / DAY / 30),
        () => format!("{} years", seconds / DAY / 365),
    };
    text + " ago"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, shown) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1234, "1.23kB"),
            (247_808, "248kB"),
            (999_499, "999kB"),
            (999_500, "1MB"),
            (12_800_000, "12.8MB"),
            (1_500_000_000, "1.5GB"),
            (u64::MAX, "18447PB"),
        ] {
            assert_eq!(size(bytes), shown, "{bytes}");
        }
    }

    #[test]
    fn ages_are_words() {
        let now: Timestamp = "2026-03-04T00:00:00Z".parse().unwrap();
        for (seconds, shown) in [
            (0, "Less than a second ago"),
            (30, "30 seconds ago"),
            (60, "About a minute ago"),
            (600, "10 minutes ago"),
            (3600, "About an hour ago"),
            (20 * 3600, "20 hours ago"),
            (3 * DAY, "3 days ago"),
            (21 * DAY, "3 weeks ago"),
            (90 * DAY, "3 months ago"),
            (1000 * DAY, "2 years ago"),
            (-5, "Less than a second ago"),
        ] {
            let then = Timestamp::from_second(now.as_second() - seconds).unwrap();
            assert_eq!(ago(then, now), shown, "{seconds}");
        }
    }
}
