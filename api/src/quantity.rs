//! Quantities with units, as people write them: `64Mi`, `100m`, `5s`.
//!
//! Each prints in the shortest exact form and reads it back. A bare number is bytes or cores; for spans of time it is
//! refused, because `timeout: 5` has been read as milliseconds and as seconds by too many systems.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what} (hint: write {example})")]
pub struct InvalidQuantity {
    text: String,
    what: &'static str,
    example: &'static str,
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub u64);

impl Bytes {
    pub const fn kibi(n: u64) -> Self {
        Self(n << 10)
    }

    pub const fn mebi(n: u64) -> Self {
        Self(n << 20)
    }

    fn fail(text: &str) -> InvalidQuantity {
        InvalidQuantity { text: shortened(text), what: "a number of bytes", example: "64Mi, 1.5Gi, 500k or 1048576" }
    }
}

const BYTE_UNITS: [(&str, u64); 9] = [
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("k", 1_000),
    ("", 1),
];

impl FromStr for Bytes {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, unit) = split_unit(text);
        let factor = BYTE_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(|| Self::fail(text))?.1;
        scaled(number, factor).map(Self).ok_or_else(|| Self::fail(text))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary = BYTE_UNITS[..4].iter().find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor));
        match binary {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Processor time per second, in thousandths of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MilliCpu(pub u64);

impl FromStr for MilliCpu {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || InvalidQuantity { text: shortened(text), what: "an amount of CPU", example: "100m, 0.5 or 2" };
        let (number, unit) = split_unit(text);
        let factor = match unit {
            "m" => 1,
            "" => 1000,
            _ => return Err(fail()),
        };
        scaled(number, factor).map(Self).ok_or_else(fail)
    }
}

impl fmt::Display for MilliCpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.is_multiple_of(1000) {
            true => write!(f, "{}", self.0 / 1000),
            false => write!(f, "{}m", self.0),
        }
    }
}

/// A span of time with millisecond resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    ms: u64,
}

impl Span {
    /// The longest span that is accepted: a hundred years, so that sums of spans cannot overflow.
    const MS_MAX: u64 = 100 * 365 * 24 * 3_600_000;

    pub const fn from_ms(ms: u64) -> Self {
        Self { ms }
    }

    pub const fn from_secs(secs: u64) -> Self {
        Self { ms: secs * 1000 }
    }

    pub const fn as_ms(self) -> u64 {
        self.ms
    }

    pub const fn as_duration(self) -> Duration {
        Duration::from_millis(self.ms)
    }
}

const SPAN_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl FromStr for Span {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail =
            || InvalidQuantity { text: shortened(text), what: "a span of time", example: "500ms, 5s, 10m or 1h30m" };
        let mut rest = text;
        let mut ms: u64 = 0;
        while !rest.is_empty() {
            let number_end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).ok_or_else(fail)?;
            let (number, after) = rest.split_at(number_end);
            let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
            let (unit, after) = after.split_at(unit_end);
            let factor = SPAN_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(fail)?.1;
            ms = scaled(number, factor).and_then(|part| ms.checked_add(part)).ok_or_else(fail)?;
            rest = after;
        }
        match text.is_empty() || ms > Self::MS_MAX {
            true => Err(fail()),
            false => Ok(Self { ms }),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ms == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.ms;
        for (unit, factor) in SPAN_UNITS {
            if rest >= factor {
                write!(f, "{}{unit}", rest / factor)?;
                rest %= factor;
            }
        }
        Ok(())
    }
}

/// A span of time, or `none` for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Timeout {
    After(Span),
    None,
}

impl Timeout {
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }

    pub fn as_duration(self) -> Option<Duration> {
        match self {
            Self::After(span) => Some(span.as_duration()),
            Self::None => None,
        }
    }
}

impl FromStr for Timeout {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            _ => text.parse().map(Self::After),
        }
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(span) => span.fmt(f),
            Self::None => f.write_str("none"),
        }
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(60).collect()
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    text.split_at(end)
}

/// `number × factor`, exactly: at most nine decimals, and the product must be whole.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let well_formed = !whole.is_empty() && digits(whole) && digits(fraction) && fraction.len() <= 9;
    if !well_formed || number.ends_with('.') {
        return None;
    }
    let denominator = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let numerator = whole.parse::<u64>().ok()? as u128 * denominator
        + if fraction.is_empty() { 0 } else { fraction.parse::<u128>().ok()? };
    let product = numerator.checked_mul(factor as u128)?;
    match product % denominator {
        0 => u64::try_from(product / denominator).ok(),
        _ => None,
    }
}

/// Serde for a quantity: a string, or a bare number where the type has one.
macro_rules! quantity_serde {
    ($type:ty, $expecting:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_u64<E: de::Error>(self, number: u64) -> Result<$type, E> {
                        self.visit_str(&number.to_string())
                    }
                    fn visit_i64<E: de::Error>(self, number: i64) -> Result<$type, E> {
                        self.visit_str(&number.to_string())
                    }
                    fn visit_f64<E: de::Error>(self, number: f64) -> Result<$type, E> {
                        self.visit_str(&number.to_string())
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }

        #[cfg(feature = "schema")]
        impl utoipa::PartialSchema for $type {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::Type::String)
                    .description(Some($expecting))
                    .into()
            }
        }

        #[cfg(feature = "schema")]
        impl utoipa::ToSchema for $type {}
    };
}

quantity_serde!(Bytes, "a number of bytes such as 64Mi");
quantity_serde!(MilliCpu, "an amount of CPU such as 100m or 2");
quantity_serde!(Span, "a span of time such as 5s");
quantity_serde!(Timeout, "a span of time such as 5s, or none");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_and_print() {
        for (text, bytes, shown) in [
            ("64Mi", 64 << 20, "64Mi"),
            ("1.5Gi", 3 << 29, "1536Mi"),
            ("500k", 500_000, "500000"),
            ("1024", 1024, "1Ki"),
            ("0", 0, "0"),
        ] {
            let parsed: Bytes = text.parse().unwrap();
            assert_eq!((parsed.0, parsed.to_string().as_str()), (bytes, shown));
        }
        for text in ["", "Mi", "-1", "64mb", "64 Mi", "1.", ".5Mi", "99999999999Ti", "0.3", "1e3"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn cpu_reads_and_prints() {
        for (text, milli, shown) in
            [("100m", 100, "100m"), ("1", 1000, "1"), ("0.5", 500, "500m"), ("1500m", 1500, "1500m")]
        {
            let parsed: MilliCpu = text.parse().unwrap();
            assert_eq!((parsed.0, parsed.to_string().as_str()), (milli, shown));
        }
        for text in ["", "m", "0.5m", "1c", "0.0005"] {
            assert!(text.parse::<MilliCpu>().is_err(), "{text}");
        }
    }

    #[test]
    fn spans_read_and_print() {
        for (text, ms, shown) in [
            ("5s", 5000, "5s"),
            ("1h30m", 5_400_000, "1h30m"),
            ("90m", 5_400_000, "1h30m"),
            ("1.5s", 1500, "1s500ms"),
            ("0s", 0, "0s"),
        ] {
            let parsed: Span = text.parse().unwrap();
            assert_eq!((parsed.as_ms(), parsed.to_string().as_str()), (ms, shown));
        }
        for text in ["", "5", "s", "5 s", "5x", "-5s", "1s5", "101000d"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        assert_eq!("none".parse::<Timeout>().unwrap(), Timeout::None);
    }
}
