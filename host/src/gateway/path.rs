//! Which request paths are served at all.

/// Whether a path has a segment that means this or the parent directory to whoever resolves it.
pub(super) fn has_dot_segment(path: &str) -> bool {
    path.split('/').any(is_dot_segment)
}

/// `.` and `..`, each dot possibly written as `%2e`. Backslashes count as separators, as some guests treat them so.
fn is_dot_segment(segment: &str) -> bool {
    segment.split('\\').flat_map(split_encoded_separators).any(|piece| {
        let mut dots = 0;
        let mut rest = piece.as_bytes();
        loop {
            rest = match rest {
                [] => return dots == 1 || dots == 2,
                [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
                _ => return false,
            };
            dots += 1;
        }
    })
}

/// `a%2f..%5cb` is three pieces to a guest that decodes before it splits.
fn split_encoded_separators(segment: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(segment);
    std::iter::from_fn(move || {
        let text = rest?;
        let at = text
            .as_bytes()
            .windows(3)
            .position(|window| matches!(window, [b'%', b'2', b'f' | b'F'] | [b'%', b'5', b'c' | b'C']));
        match at {
            Some(at) => {
                rest = Some(&text[at + 3..]);
                Some(&text[..at])
            }
            None => {
                rest = None;
                Some(text)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_segments_are_found_however_they_are_written() {
        for path in [
            "/..",
            "/a/../b",
            "/a/.",
            "/./a",
            "/%2e%2e/a",
            "/%2E./a",
            "/.%2e",
            "/a/..%2fb",
            "/a%2F%2e%2E",
            "/a\\..\\b",
            "/a%5c..%5Cb",
        ] {
            assert!(has_dot_segment(path), "{path}");
        }
        for path in
            ["/", "/a", "/a..b", "/...", "/.well-known/x", "/a.", "/%2ea", "/a//b", "*", "/%252e%252e/", "/%e2%80%a6"]
        {
            assert!(!has_dot_segment(path), "{path}");
        }
    }
}
