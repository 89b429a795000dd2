//! What the compiler cannot see: the rules that keep the house in order, each checked against the sources and manifests.
//!
//! A rule is a function from text or metadata to a list of breaches, `PLACE: WHAT (hint: …)`. Under each rule stand two
//! kinds of tests: one runs it on the repository, the others feed it a small wrong example and see it caught, so that no
//! rule passes because it looks at nothing.
//!
//! - [`arrows`]: which crate may use which.
//! - [`purity`]: planning has no clock, no I/O, no async and no randomness.
//! - [`durability`]: what must survive a power cut goes through `skiff-disk`.
//! - [`limits`]: every limit of a node is in the docs.
//! - [`size`]: one file is one concept, and every file belongs to a crate.
//! - [`secrets`]: nothing committed names a package registry's host or a path of somebody's machine.
//! - [`metrics`]: every metric is counted and printed.
//! - [`source`], [`mentions`]: how the rules read the sources.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod arrows;
mod durability;
mod limits;
mod mentions;
mod metrics;
mod purity;
mod secrets;
mod size;
mod source;

/// Fails with every breach, one per line.
#[track_caller]
fn assert_kept(breaches: &[String]) {
    assert!(breaches.is_empty(), "{} breaches:\n{}", breaches.len(), breaches.join("\n"));
}

/// Fails unless exactly the one breach is found that contains all of `parts`.
#[track_caller]
fn assert_caught(breaches: &[String], parts: &[&str]) {
    let [breach] = breaches else { panic!("{} breaches instead of one: {breaches:#?}", breaches.len()) };
    for part in parts {
        assert!(breach.contains(part), "{part:?} is missing in {breach:?}");
    }
}
