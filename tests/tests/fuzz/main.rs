//! The fuzz targets without a fuzzer: every seed, and a fixed series of changes to them, the same on every machine.
//!
//! It finds less than libFuzzer does and needs nothing that libFuzzer needs, so a reader that a small change to an
//! ordinary input brings down is found wherever the tests run.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use skiff_fuzz::{TARGETS, Target};

/// Changed inputs per target: a second or two of an unoptimised build.
const CHANGED: usize = 20_000;

/// What grammars are made of: a random byte rarely hits them.
const WORDS: [&str; 24] = [
    "\n",
    "\n---\n",
    ": ",
    "- ",
    "  ",
    "&a ",
    "*a",
    "!!str ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "|\n",
    "%2F",
    "/",
    "..",
    "@",
    ":",
    "\u{feff}",
    "\u{0}",
    "99999999999999999999",
    "é",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let corpus = folder().join("corpus").join(target);
    let mut files: Vec<PathBuf> = fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).unwrap()).collect()
}

/// A small generator of our own: its numbers must not change with somebody else's version.
struct Draws(u64);

impl Draws {
    /// A number below `end`, or 0 when there is none.
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % end.max(1)
    }

    fn changed(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            let at = self.below(input.len() + 1);
            let end = (at + self.below(9)).min(input.len());
            match self.below(5) {
                0 => drop(input.drain(at..end)),
                1 => drop(input.splice(at..at, WORDS[self.below(WORDS.len())].bytes())),
                2 => drop(input.splice(at..end, [u8::try_from(self.below(128)).unwrap()])),
                3 => {
                    let copy = input[at..end].to_vec();
                    drop(input.splice(at..at, copy));
                }
                _ => {
                    let other = &seeds[self.below(seeds.len())];
                    let from = self.below(other.len());
                    drop(input.splice(at..end, other[from..].iter().copied()));
                }
            }
        }
        input
    }
}

/// The first input that brings the target down.
fn finding(target: Target, seeds: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut draws = Draws(0x5eed_0f5c_1ff0_0001);
    let falls = |input: &Vec<u8>| catch_unwind(|| target(input)).is_err();
    seeds.iter().find(|seed| falls(seed)).cloned().or_else(|| (0..CHANGED).map(|_| draws.changed(seeds)).find(falls))
}

fn assert_none(name: &str) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    let seeds = seeds(name);
    assert!(seeds.len() >= 3, "too few seeds in fuzz/corpus/{name}");
    let found = finding(*target, &seeds);
    assert!(found.is_none(), "target {name} falls over {:?}", found.map(|input| input.escape_ascii().to_string()));
}

#[test]
fn digests() {
    assert_none("digest");
}

#[test]
fn frames() {
    assert_none("frame");
}

#[test]
fn keys() {
    assert_none("key");
}

#[test]
fn signatures() {
    assert_none("signature");
}

#[test]
fn images() {
    assert_none("image");
}

#[test]
fn manifests() {
    assert_none("manifest");
}

#[test]
fn registry_paths() {
    assert_none("registry_path");
}

#[test]
fn every_target_has_a_binary_and_the_other_way_round() {
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    let files = fs::read_dir(folder().join("fuzz_targets")).unwrap();
    let mut binaries: Vec<String> =
        files.map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned()).collect();
    binaries.sort();
    assert_eq!(binaries, names);
}

#[test]
fn a_reader_that_falls_is_found() {
    let falls_over_a_repeated_dash: Target = |data| assert!(!data.windows(2).any(|pair| pair == b"--"));
    let seeds = [b"kind: a\n- b\n- c".to_vec()];
    assert!(finding(falls_over_a_repeated_dash, &seeds).is_some());
    assert!(finding(|_| {}, &seeds).is_none());
}
