//! A cluster in simulated time: a control plane and some nodes, whose every decision is made by the product's own pure
//! code, and a network, machines and people that do their worst, all from one seed.
//!
//! ```text
//! script ──> world: clock, network ──┬── control: State, service::plan, Lint, Vigil, rebalance, Session (scheduler)
//!                                    └── machine: Set, plan (host)
//! after every step: invariants       when faults have stopped: everything converges, and a second look finds nothing to do
//! ```
//! - [`control`]: the control plane: what it keeps over a crash, and what it does in a round.
//! - [`machine`]: a node: what is on its disk, and what it runs.
//! - [`world`]: time, messages, what goes wrong; [`invariants`]: what must hold meanwhile.
//! - [`mutant`]: mistakes that are made on purpose, each of which must be noticed.
//!
//! A seed that fails is run again by `SKIFF_SEED=N`, which prints what happened. `SKIFF_SEEDS=N` runs so many.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod control;
mod invariants;
mod machine;
mod mutant;
mod rng;
mod world;

use std::env;
use std::thread;

use crate::mutant::Mutant;
use crate::world::World;

/// What the test command runs: some seconds for each core.
const SEEDS: u64 = 2000;

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok()?.parse().ok()
}

/// The first of these seeds that fails, and how. All cores look.
fn first_failure(seeds: u64, mutant: Option<Mutant>) -> Option<(u64, String)> {
    let threads = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    thread::scope(|scope| {
        let look = |first: u64| {
            (first..seeds).step_by(threads as usize).find_map(|seed| Some((seed, World::run(seed, mutant).err()?)))
        };
        let looking: Vec<_> = (0..threads).map(|first| scope.spawn(move || look(first))).collect();
        looking.into_iter().filter_map(|thread| thread.join().unwrap()).min_by_key(|(seed, _)| *seed)
    })
}

#[test]
fn whatever_happens_the_cluster_keeps_its_promises() {
    if let Some(seed) = number("SKIFF_SEED") {
        if let Err(why) = World::run(seed, None) {
            panic!("{why}");
        }
        return;
    }
    if let Some((seed, why)) = first_failure(number("SKIFF_SEEDS").unwrap_or(SEEDS), None) {
        panic!("seed {seed} (hint: SKIFF_SEED={seed} runs it alone): {why}");
    }
}

#[test]
fn each_mistake_is_noticed() {
    for mutant in Mutant::ALL {
        let (seed, why) = first_failure(SEEDS, Some(mutant)).unwrap_or_else(|| panic!("{mutant:?} goes unnoticed"));
        let last = why.lines().last().unwrap_or_default();
        eprintln!("{mutant:?}: seed {seed}: {last}");
    }
}

#[test]
fn a_seed_is_the_same_each_time() {
    for seed in 0..5 {
        let told = |_| World::told(seed);
        let [first, second] = [(), ()].map(told);
        assert!(first == second && first.len() > 20, "seed {seed}");
    }
}
