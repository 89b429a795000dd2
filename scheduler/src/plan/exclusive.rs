//! What may run in one place only: which copy stops, which goes, and when another may start.
//!
//! ```text
//!   Runs ── told to stop ──> Stops ── its node says so, or its lease has lapsed ──> Gone ── removed, and another starts
//! ```
//! Stop before start, whatever the budget: a copy that may run anywhere keeps every other one from starting. It stays an
//! object until it is known to have ended, for the object says whom to wait for, also after the control plane's own start.
//!
//! **Told first, then given up.** That a lease has lapsed counts only for a copy that was told to stop before. Its node may
//! be back while the plan that gives it up is carried out, and then finds that it is to stop.
//!
//! **Made before that.** A copy of a revision that was not exclusive runs without a lease, and nobody can wait for that to
//! lapse: its node says that it has ended, or its machine is removed from the cluster.

use std::cmp::Reverse;

use skiff_api::resource::Replica;
use skiff_api::{NodeName, ReplicaName};

use super::rollout::STEP_MAX;
use super::state::Health;
use super::{State, Workload};

/// Whether a copy may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// No node has it yet.
    Unplaced,
    Runs,
    /// It was told to stop, and may run yet.
    Stops(Until),
    Gone,
}

/// What says that a copy has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Its node, which is heard.
    Said,
    /// Its node's lease.
    Lapsed,
    /// Its node, which cannot be heard: it runs there without a lease.
    Back,
}

/// A copy as the plan sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    pub name: ReplicaName,
    /// Its revision's.
    pub number: u64,
    pub health: Health,
    /// Whether it may stay on its node.
    pub stays: bool,
    pub standing: Standing,
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Step {
    /// To be told to stop.
    pub stop: Vec<ReplicaName>,
    /// Ended, or never begun.
    pub remove: Vec<ReplicaName>,
    /// What is to run.
    pub keeps: Option<ReplicaName>,
    /// Nothing else may run once this is done.
    pub may_start: bool,
}

/// How a copy stands.
pub fn standing(state: &State, workload: &Workload, replica: &Replica) -> Standing {
    let Some(name) = &replica.spec.node else { return Standing::Unplaced };
    if !replica.spec.stop {
        return Standing::Runs;
    }
    let node = state.node(name);
    let is_gone = match workload.is_exclusive(replica) {
        true => node.is_some_and(|node| node.is_lapsed),
        false => node.is_none_or(|node| node.node.is_none()),
    };
    if replica.status.ended || is_gone {
        return Standing::Gone;
    }
    Standing::Stops(match node.is_some_and(|node| node.is_alive()) {
        true => Until::Said,
        false if workload.is_exclusive(replica) => Until::Lapsed,
        false => Until::Back,
    })
}

/// One step towards one copy of revision `target`, or none.
pub fn plan(is_wanted: bool, target: u64, copies: &[Copy]) -> Step {
    let is_current = |copy: &&Copy| {
        let may_go_on = matches!(copy.standing, Standing::Unplaced | Standing::Runs);
        copy.number == target && copy.stays && copy.health != Health::Lost && may_go_on
    };
    let best = copies.iter().filter(is_current).max_by_key(|copy| (copy.health, Reverse(&copy.name)));
    let keeps = best.filter(|_| is_wanted).map(|copy| copy.name.clone());
    let mut step = Step { may_start: is_wanted, ..Step::default() };
    for copy in copies.iter().filter(|copy| Some(&copy.name) != keeps.as_ref()) {
        let is_full = step.stop.len() + step.remove.len() >= STEP_MAX;
        match copy.standing {
            Standing::Unplaced | Standing::Gone if !is_full => step.remove.push(copy.name.clone()),
            Standing::Unplaced => {}
            Standing::Runs if !is_full => {
                step.stop.push(copy.name.clone());
                step.may_start = false;
            }
            Standing::Runs | Standing::Stops(_) | Standing::Gone => step.may_start = false,
        }
    }
    Step { keeps, ..step }
}

/// What a successor of a copy waits for.
pub fn waits(name: &ReplicaName, node: &NodeName, until: Until) -> String {
    match until {
        Until::Said => format!("waits until node {node} says that {name} has ended"),
        Until::Lapsed => format!("waits until the lease of node {node} has lapsed, on which {name} may run"),
        Until::Back => format!(
            "waits until node {node} is back and says that {name} has ended, which it began before the service was \
             exclusive (hint: if the machine is gone, `skiff node remove {node}`)"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `3r` is a ready replica of revision 3, the target. `!` has to leave its node; `.` was told to stop, `x` has ended.
    fn copies(text: &str) -> Vec<Copy> {
        let copy = |(n, word): (usize, &str)| {
            let (number, rest) = word.split_at(1);
            let health = match &rest[..1] {
                "u" => Health::Unplaced,
                "f" => Health::Failed,
                "s" => Health::Starting,
                "l" => Health::Lost,
                "?" => Health::Unknown,
                _ => Health::Ready,
            };
            let standing = match rest.chars().last() {
                Some('.') => Standing::Stops(Until::Said),
                Some('x') => Standing::Gone,
                _ if health == Health::Unplaced => Standing::Unplaced,
                _ => Standing::Runs,
            };
            let name = ReplicaName::new(format!("{n}:{word}"));
            Copy { name, number: number.parse().unwrap(), health, stays: !rest.contains('!'), standing }
        };
        text.split_whitespace().enumerate().map(copy).collect()
    }

    fn step(is_wanted: bool, text: &str) -> String {
        let Step { stop, remove, keeps, may_start } = plan(is_wanted, 3, &copies(text));
        let words = |names: Vec<ReplicaName>| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let starts = if may_start && keeps.is_none() { " +1" } else { "" };
        let keeps = keeps.map(|name| format!(" ={name}")).unwrap_or_default();
        format!("stop[{}] -[{}]{keeps}{starts}", words(stop), words(remove))
    }

    #[test]
    fn steps() {
        for (is_wanted, before, expected) in [
            (true, "", "stop[] -[] +1"),
            (true, "3r", "stop[] -[] =0:3r"),
            (true, "3f", "stop[] -[] =0:3f"),
            (true, "3?", "stop[] -[] =0:3?"),
            (true, "3u", "stop[] -[] =0:3u"),
            (false, "3r", "stop[0:3r] -[]"),
            (false, "3u", "stop[] -[0:3u]"),
            // Stop before start: a rollout, a drain, a lost node.
            (true, "2r", "stop[0:2r] -[]"),
            (true, "2r.", "stop[] -[]"),
            (true, "2rx", "stop[] -[0:2rx] +1"),
            (true, "3r!", "stop[0:3r!] -[]"),
            (true, "3r!.", "stop[] -[]"),
            (true, "3l", "stop[0:3l] -[]"),
            (true, "3l.", "stop[] -[]"),
            (true, "3lx", "stop[] -[0:3lx] +1"),
            // What was told to stop is not wanted back.
            (true, "3r.", "stop[] -[]"),
            // Before it was exclusive, there were several.
            (true, "2r 2r 2u", "stop[0:2r 1:2r] -[2:2u]"),
            (true, "2rx 2r.", "stop[] -[0:2rx]"),
            (true, "3s 3r", "stop[0:3s] -[] =1:3r"),
            (true, "3u 2r.", "stop[] -[] =0:3u"),
        ] {
            assert_eq!(step(is_wanted, before), expected, "{is_wanted}: {before}");
        }
    }

    #[test]
    fn nothing_starts_before_all_of_a_long_list_are_gone() {
        let many = "2rx ".repeat(STEP_MAX + 1);
        let step = plan(true, 3, &copies(&many));
        assert_eq!((step.remove.len(), step.may_start), (STEP_MAX, false));
        assert!(plan(true, 3, &copies("2rx 2rx")).may_start);
    }
}
