//! Paths of machines: which files and folders containers may be given.

use std::fmt;
use std::str::FromStr;

use super::{as_text, shortened};

/// Longer than any folder that people name, shorter than what a kernel refuses.
const PATH_BYTES_MAX: usize = 1024;

/// A file or folder of a machine, by its full path: `/srv/data`. As it is written, it is the only way to write it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FullPath(String);

/// Why a text is no such path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the full path of a file or folder: {why} (hint: write it as /srv/data)")]
pub struct InvalidFullPath {
    text: String,
    why: &'static str,
}

impl FullPath {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the other path is this one, or is below it.
    pub fn covers(&self, other: &Self) -> bool {
        other.0.strip_prefix(&self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl FromStr for FullPath {
    type Err = InvalidFullPath;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |why| Err(InvalidFullPath { text: shortened(text), why });
        let Some(segments) = text.strip_prefix('/') else { return fail("it does not start with '/'") };
        if segments.is_empty() {
            return fail("it is all there is");
        }
        if text.len() > PATH_BYTES_MAX {
            return fail("it is too long");
        }
        if text.chars().any(char::is_control) {
            return fail("it has a control character");
        }
        for segment in segments.split('/') {
            match segment {
                "" => return fail("a part of it is empty, or it ends in '/'"),
                "." | ".." => return fail("a part of it is . or .."),
                _ => {}
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for FullPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

as_text!(FullPath);

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> FullPath {
        text.parse().unwrap()
    }

    #[test]
    fn there_is_one_way_to_write_one() {
        for good in ["/srv", "/srv/data", "/srv/a b", "/..a/b.", "/ä"] {
            assert_eq!(path(good).to_string(), good);
        }
        for bad in ["", "/", "srv", "./srv", "//srv", "/srv/", "/srv//data", "/srv/..", "/../etc", "/srv/./a", "/a\0b"]
        {
            assert!(bad.parse::<FullPath>().is_err(), "{bad:?}");
        }
        assert!(format!("/{}", "a".repeat(PATH_BYTES_MAX)).parse::<FullPath>().is_err());
    }

    #[test]
    fn whole_segments_are_covered() {
        assert!(path("/srv").covers(&path("/srv")) && path("/srv").covers(&path("/srv/data")));
        assert!(!path("/srv").covers(&path("/srv2")) && !path("/srv/data").covers(&path("/srv")));
    }
}
