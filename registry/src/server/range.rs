//! The `Range` of a download and the `Content-Range` of an upload's chunk.

/// Which part of a blob is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    /// From the first to the last byte, both included.
    Some {
        first: u64,
        last: u64,
    },
    /// Nothing that the blob has.
    None,
}

impl Part {
    /// Reads a `Range` header for content of `bytes` bytes. Several ranges, and units other than bytes, are answered
    /// with the whole, as HTTP permits.
    pub(super) fn parse(header: Option<&str>, bytes: u64) -> Self {
        let Some(range) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else { return Self::Whole };
        let Some((first, last)) = range.split_once('-').filter(|_| !range.contains(',')) else { return Self::Whole };
        let (first, last) = (first.trim(), last.trim());
        let end = bytes.saturating_sub(1);
        let (first, last) = match (number(first), number(last)) {
            (Some(first), Some(last)) => (first, last.min(end)),
            (Some(first), None) if last.is_empty() => (first, end),
            (None, Some(suffix)) if first.is_empty() && suffix > 0 => (bytes.saturating_sub(suffix), end),
            (None, Some(_)) if first.is_empty() => return Self::None,
            _ => return Self::Whole,
        };
        match first <= last && first < bytes {
            true => Self::Some { first, last },
            false => Self::None,
        }
    }
}

/// Reads a chunk's `Content-Range`, which has no unit: `FIRST-LAST`. Returns the first byte and the length.
pub(super) fn chunk(header: &str) -> Option<(u64, u64)> {
    let (first, last) = header.trim().trim_start_matches("bytes ").split_once('-')?;
    // Some clients add the total, which only the end of the upload can tell.
    let last = last.split_once('/').map_or(last, |(last, _total)| last);
    let (first, last) = (number(first)?, number(last)?);
    Some((first, last.checked_sub(first)?.checked_add(1)?))
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_ranges_as_http_does() {
        let part = |header| Part::parse(Some(header), 2000);
        let some = |first, last| Part::Some { first, last };
        assert_eq!(part("bytes=500-1499"), some(500, 1499));
        assert_eq!(part("bytes=500-"), some(500, 1999));
        assert_eq!(part("bytes=-500"), some(1500, 1999));
        assert_eq!(part("bytes=-5000"), some(0, 1999));
        assert_eq!(part("bytes=1000-5000"), some(1000, 1999));
        for nothing in ["bytes=2000-5000", "bytes=500-0", "bytes=5000-10000", "bytes=-0"] {
            assert_eq!(part(nothing), Part::None, "{nothing}");
        }
        for whole in ["bytes=0-1,3-4", "lines=1-2", "bytes=x-y", "bytes=+1-2", "bytes=-", "bytes="] {
            assert_eq!(part(whole), Part::Whole, "{whole}");
        }
        assert_eq!(Part::parse(Some("bytes=0-0"), 0), Part::None);
    }

    #[test]
    fn reads_the_range_of_a_chunk() {
        assert_eq!(chunk("0-9"), Some((0, 10)));
        assert_eq!(chunk("10-10/*"), Some((10, 1)));
        for wrong in ["", "9-0", "a-b", "0", "0-18446744073709551615", "-5"] {
            assert_eq!(chunk(wrong), None, "{wrong}");
        }
    }
}
