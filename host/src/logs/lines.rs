//! Bytes in, lines out.

/// A longer line is passed on in pieces: a guest that never writes a newline must not grow the node's memory. 16 KiB is
/// where container engines cut as well, so collectors know it.
pub(super) const LINE_BYTES_MAX: usize = 16 << 10;

/// The start of a line whose end has not been written yet.
#[derive(Debug, Default)]
pub(super) struct Partial(Vec<u8>);

impl Partial {
    /// Passes every line that `bytes` completes to `line`, without its end (`\n` or `\r\n`).
    pub(super) fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(String)) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend(&bytes[..end], &mut line);
            if self.0.last() == Some(&b'\r') {
                self.0.pop();
            }
            line(text(&self.0));
            self.0.clear();
            bytes = &bytes[end + 1..];
        }
        self.extend(bytes, &mut line);
    }

    /// The line that was never ended.
    pub(super) fn finish(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.0);
        (!rest.is_empty()).then(|| text(&rest))
    }

    fn extend(&mut self, mut bytes: &[u8], line: &mut impl FnMut(String)) {
        while self.0.len() + bytes.len() > LINE_BYTES_MAX {
            let (now, later) = bytes.split_at(LINE_BYTES_MAX - self.0.len());
            self.0.extend_from_slice(now);
            let cut = character_boundary(&self.0);
            line(text(&self.0[..cut]));
            self.0.drain(..cut);
            bytes = later;
        }
        self.0.extend_from_slice(bytes);
    }
}

/// Where a piece may end without cutting a UTF-8 character: before a last one that is not complete.
fn character_boundary(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(e) if e.error_len().is_none() && e.valid_up_to() > 0 => e.valid_up_to(),
        _ => bytes.len(),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(writes: &[&[u8]]) -> Vec<String> {
        let mut partial = Partial::default();
        let mut lines = Vec::new();
        for bytes in writes {
            partial.push(bytes, |line| lines.push(line));
        }
        lines.extend(partial.finish());
        lines
    }

    #[test]
    fn lines_end_where_the_guest_ends_them() {
        assert_eq!(split(&[b"a\nb", b"c\r\n", b"\n", b"d"]), ["a", "bc", "", "d"]);
        assert_eq!(split(&[b"a\n"]), ["a"]);
        assert!(split(&[]).is_empty());
    }

    #[test]
    fn what_is_not_utf8_stays_readable() {
        assert_eq!(split(&[b"a\xffb\n"]), ["a\u{fffd}b"]);
    }

    #[test]
    fn a_long_line_comes_in_pieces_of_whole_characters() {
        let long = "ä".repeat(LINE_BYTES_MAX);
        let lines = split(&[b"x", long.as_bytes(), b"\n"]);
        assert!(lines.len() > 1 && lines.iter().all(|line| line.len() <= LINE_BYTES_MAX && !line.contains('\u{fffd}')));
        assert_eq!(lines.concat(), format!("x{long}"));
    }

    proptest! {
        #[test]
        fn how_writes_are_cut_makes_no_difference(text in "[a-zä\n]{0,200}", cuts in prop::collection::vec(0usize..400, 0..6)) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut writes = Vec::new();
            let mut from = 0;
            for cut in cuts {
                writes.push(&bytes[from..cut]);
                from = cut;
            }
            writes.push(&bytes[from..]);
            prop_assert_eq!(split(&writes), split(&[bytes]));
        }
    }
}
