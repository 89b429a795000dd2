//! One file is one concept, and every file is compiled.

use std::collections::BTreeSet;

/// STYLE asks for 100-400 lines of code and then its tests; beyond this a file holds more than one concept.
const LINES_MAX: usize = 700;

pub(super) fn check_length(path: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > LINES_MAX)
        .then(|| format!("{path}: {lines} lines, more than {LINES_MAX} (hint: split it by noun, STYLE says how)"))
}

/// Files below a crate's `src` that no `mod` line reaches. `known` are those that a manifest names.
pub(super) fn check_orphans(on_disk: &BTreeSet<String>, reached: &BTreeSet<String>) -> Vec<String> {
    on_disk
        .difference(reached)
        .map(|path| format!("{path}: no `mod` line reaches it, so it is never compiled (hint: add one or delete it)"))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{assert_caught, assert_kept, source};

    #[test]
    fn no_file_is_too_long() {
        let root = source::root();
        let mut paths = source::on_disk(&root, "fuzz").unwrap();
        for dir in source::CRATES.into_iter().chain(["sdk", "examples"]) {
            paths.extend(source::on_disk(&root, dir).unwrap());
        }
        assert!(paths.len() > 200, "only {} files", paths.len());
        let breaches: Vec<String> =
            paths.iter().filter_map(|path| check_length(path, &fs::read_to_string(root.join(path)).unwrap())).collect();
        assert_kept(&breaches);
    }

    #[test]
    fn a_long_file_is_caught() {
        assert_eq!(check_length("a.rs", &"x\n".repeat(LINES_MAX)), None);
        let breach = check_length("a.rs", &"x\n".repeat(LINES_MAX + 1));
        assert_caught(&Vec::from_iter(breach), &["a.rs: 701 lines"]);
    }

    #[test]
    fn every_file_is_compiled() {
        let root = source::root();
        for dir in source::CRATES {
            let reached = source::read_crate(&root, dir).unwrap().into_iter().map(|file| file.path).collect();
            assert_kept(&check_orphans(&source::on_disk(&root, &format!("{dir}/src")).unwrap(), &reached));
        }
    }

    #[test]
    fn an_orphan_is_caught() {
        let set = |paths: &[&str]| paths.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        let breaches = check_orphans(&set(&["a/src/lib.rs", "a/src/old.rs"]), &set(&["a/src/lib.rs"]));
        assert_caught(&breaches, &["a/src/old.rs", "no `mod` line"]);
    }
}
