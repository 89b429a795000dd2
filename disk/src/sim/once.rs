//! What is made once and kept ever after: the test that each such thing has to pass.

use std::fmt::Debug;

use super::SimDisk;

/// Seeds for each point at which a process is killed: enough to find what one sync keeps.
const SEEDS: u64 = 40;

/// Asserts that every process finds the same: one that is killed at any point, the next, and one after a power cut; and
/// that each sync on the way is needed for it.
///
/// `open` finds or makes the thing on that disk, in the first process (0), the second or the third, and answers what it
/// is, or nothing where it could not.
///
/// # Panics
/// When it is another one, or when a sync could be left out.
pub fn assert_made_once<T: PartialEq + Debug>(open: impl Fn(&SimDisk, usize) -> Option<T>) {
    let all = SimDisk::new(0);
    assert_eq!(open(&all, 0), open(&all, 1), "another one without any fault");
    let stays = |sim: SimDisk, kill: u64| {
        sim.cut_after(kill);
        let first = open(&sim, 0);
        let sim = sim.kill();
        let second = open(&sim, 1);
        let third = open(&sim.power_cut(), 2);
        third.is_some() && second == third && (first.is_none() || first == third)
    };
    let runs = || (0..=all.operations()).flat_map(|kill| (0..SEEDS).map(move |seed| (kill, SimDisk::new(seed))));
    for (kill, sim) in runs() {
        assert!(stays(sim, kill), "another one after a kill after {kill} operations");
    }
    for site in all.sites() {
        let is_needed = runs().any(|(kill, sim)| {
            sim.skip_site(site);
            !stays(sim, kill)
        });
        assert!(is_needed, "nothing is lost without the sync at {site}");
    }
}
