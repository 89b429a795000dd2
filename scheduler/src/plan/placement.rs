//! Placement: which node takes a replica, and why not the others.
//!
//! Hard constraints are filters, each with its reason to refuse; among the nodes that remain the lowest [`Score`] wins.
//! A component runs on any platform, so platforms do not filter. A [`Board`] is the nodes as one round of planning sees
//! them: what one plan reserves on it, the next plan of the round finds taken.

use std::collections::BTreeMap;
use std::fmt;

use skiff_api::NodeName;
use skiff_api::quantity::{Bytes, MilliCpu};
use skiff_api::resource::Resources;

use super::State;

/// The nodes, and what is free on each.
#[derive(Debug, Clone, Default)]
pub struct Board {
    seats: BTreeMap<NodeName, Seat>,
}

#[derive(Debug, Clone)]
struct Seat {
    alive: bool,
    capacity: Resources,
    reserved: Resources,
}

/// What a node costs as a choice: the lowest wins. The order of the fields is the order of importance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    /// Replicas of the same service there: losing the node should lose as few as possible.
    pub siblings: usize,
    /// How full its scarcer resource would be, in thousandths.
    pub fullness: u64,
    /// Ties are broken by name, so that every choice can be repeated.
    pub node: NodeName,
}

/// Why a node does not take a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    Suspect,
    Memory { free: Bytes },
    Cpu { free: MilliCpu },
}

/// A choice, with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub score: Score,
    pub fitting: usize,
    pub nodes: usize,
}

/// No node takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoNodeFits {
    pub wanted: Resources,
    pub refusals: BTreeMap<NodeName, Refusal>,
}

impl Board {
    pub fn new(state: &State) -> Self {
        let seat = |node: &super::state::NodeState| Seat {
            alive: node.is_alive(),
            capacity: node.capacity(),
            reserved: node.reserved,
        };
        let known = state.nodes().iter().filter(|(_, node)| node.node.is_some());
        Self { seats: known.map(|(name, node)| (name.clone(), seat(node))).collect() }
    }

    /// Chooses a node for one replica and reserves its place there. `siblings` says how many of the same service each
    /// node has.
    pub fn place(&mut self, wanted: Resources, siblings: &BTreeMap<NodeName, usize>) -> Result<Choice, NoNodeFits> {
        let mut refusals = BTreeMap::new();
        let mut best: Option<Score> = None;
        for (name, seat) in &self.seats {
            match seat.fits(wanted) {
                Err(refusal) => {
                    refusals.insert(name.clone(), refusal);
                }
                Ok(()) => {
                    let score = seat.score(name, wanted, siblings.get(name).copied().unwrap_or(0));
                    best = best.into_iter().chain([score]).min();
                }
            }
        }
        let Some(score) = best else { return Err(NoNodeFits { wanted, refusals }) };
        if let Some(seat) = self.seats.get_mut(&score.node) {
            seat.reserved = seat.reserved.plus(wanted);
        }
        Ok(Choice { score, fitting: self.seats.len() - refusals.len(), nodes: self.seats.len() })
    }
}

impl Seat {
    fn fits(&self, wanted: Resources) -> Result<(), Refusal> {
        let free = self.capacity.minus(self.reserved);
        if !self.alive {
            return Err(Refusal::Suspect);
        }
        if wanted.memory > free.memory {
            return Err(Refusal::Memory { free: free.memory });
        }
        if wanted.cpu > free.cpu {
            return Err(Refusal::Cpu { free: free.cpu });
        }
        Ok(())
    }

    fn score(&self, name: &NodeName, wanted: Resources, siblings: usize) -> Score {
        let after = self.reserved.plus(wanted);
        let fullness =
            thousandths(after.memory.0, self.capacity.memory.0).max(thousandths(after.cpu.0, self.capacity.cpu.0));
        Score { siblings, fullness, node: name.clone() }
    }
}

fn thousandths(part: u64, whole: u64) -> u64 {
    let ratio = (u128::from(part) * 1000).checked_div(u128::from(whole)).unwrap_or(0);
    u64::try_from(ratio).unwrap_or(u64::MAX)
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { score: Score { siblings, fullness, node }, fitting, nodes } = self;
        write!(f, "{fitting}/{nodes} nodes fit; {node} has {siblings} of the service's replicas")?;
        write!(f, " and will be {}.{}% reserved", fullness / 10, fullness % 10)
    }
}

impl fmt::Display for NoNodeFits {
    /// `0/3 nodes fit: 1 is suspect, 2 lack 3Gi of memory (most free: 1.2Gi)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.refusals.is_empty() {
            return f.write_str("there is no node");
        }
        let count = |is: fn(&Refusal) -> bool| self.refusals.values().filter(|refusal| is(refusal)).count();
        let suspect = count(|refusal| matches!(refusal, Refusal::Suspect));
        let memory = self.refusals.values().filter_map(|refusal| match refusal {
            Refusal::Memory { free } => Some(*free),
            _ => None,
        });
        let cpu = self.refusals.values().filter_map(|refusal| match refusal {
            Refusal::Cpu { free } => Some(*free),
            _ => None,
        });
        let mut parts = Vec::new();
        if suspect > 0 {
            parts.push(format!("{suspect} {} suspect", if suspect == 1 { "is" } else { "are" }));
        }
        let lack = |n: usize| if n == 1 { "lacks" } else { "lack" };
        let most = |n: usize| if n == 1 { "free" } else { "most free" };
        if let Some(free) = memory.clone().max() {
            let n = memory.count();
            parts.push(format!(
                "{n} {} {} of memory ({}: {})",
                lack(n),
                rough(self.wanted.memory),
                most(n),
                rough(free)
            ));
        }
        if let Some(free) = cpu.clone().max() {
            let n = cpu.count();
            parts.push(format!("{n} {} {} of CPU ({}: {free})", lack(n), self.wanted.cpu, most(n)));
        }
        write!(f, "0/{} nodes fit: {}", self.refusals.len(), parts.join(", "))
    }
}

/// A number of bytes with one decimal at most, rounded down: a person compares it, nobody computes with it.
fn rough(bytes: Bytes) -> String {
    let units = [("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];
    let Some((unit, shift)) = units.into_iter().find(|(_, shift)| bytes.0 >> shift > 0) else {
        return bytes.to_string();
    };
    let tenths = (u128::from(bytes.0) * 10) >> shift;
    match tenths % 10 {
        0 => format!("{}{unit}", tenths / 10),
        tenth => format!("{}.{tenth}{unit}", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seat(alive: bool, capacity: (u64, u64), reserved: (u64, u64)) -> Seat {
        let resources = |(memory, cpu)| Resources { memory: Bytes(memory), cpu: MilliCpu(cpu) };
        Seat { alive, capacity: resources(capacity), reserved: resources(reserved) }
    }

    fn board(seats: impl IntoIterator<Item = Seat>) -> Board {
        let named = seats.into_iter().enumerate().map(|(n, seat)| (NodeName::new(format!("n{n}")), seat));
        Board { seats: named.collect() }
    }

    fn resources(memory: u64, cpu: u64) -> Resources {
        Resources { memory: Bytes(memory), cpu: MilliCpu(cpu) }
    }

    #[test]
    fn refusals_are_told_by_reason() {
        let none = BTreeMap::new();
        let wanted = resources(3 << 30, 2000);
        let message = |board: &mut Board| board.place(wanted, &none).unwrap_err().to_string();
        assert_eq!(message(&mut board([])), "there is no node");
        let small = || seat(true, (5 << 28, 9000), (0, 0));
        assert_eq!(message(&mut board([small()])), "0/1 nodes fit: 1 lacks 3Gi of memory (free: 1.2Gi)");
        let busy = || seat(true, (4 << 30, 4000), (0, 2500));
        let gone = || seat(false, (4 << 30, 4000), (0, 0));
        assert_eq!(
            message(&mut board([small(), gone(), busy(), small(), gone()])),
            "0/5 nodes fit: 2 are suspect, 2 lack 3Gi of memory (most free: 1.2Gi), 1 lacks 2 of CPU (free: 1500m)"
        );
    }

    #[test]
    fn spreads_first_then_fills_evenly_then_goes_by_name() {
        let mut board =
            board([seat(true, (100, 100), (50, 0)), seat(true, (100, 100), (0, 0)), seat(true, (100, 100), (0, 0))]);
        let mut place = |siblings: &[(&str, usize)]| {
            let siblings = siblings.iter().map(|(node, n)| (NodeName::new(*node), *n)).collect();
            board.place(resources(10, 1), &siblings).unwrap().score.node.to_string()
        };
        assert_eq!(place(&[]), "n1");
        assert_eq!(place(&[]), "n2");
        assert_eq!(place(&[("n1", 1), ("n2", 1)]), "n0");
    }

    #[test]
    fn the_full_text_of_a_choice() {
        let mut board = board([seat(true, (1000, 1000), (50, 0)), seat(false, (1000, 1000), (0, 0))]);
        let choice = board.place(resources(5, 1), &BTreeMap::new()).unwrap();
        assert_eq!(choice.to_string(), "1/2 nodes fit; n0 has 0 of the service's replicas and will be 5.5% reserved");
    }

    prop_compose! {
        fn any_seat()(alive in prop::bool::weighted(0.8), capacity in (0u64..100, 0u64..100), part in (0u64..=100, 0u64..=100)) -> Seat {
            seat(alive, capacity, (capacity.0 * part.0 / 100, capacity.1 * part.1 / 100))
        }
    }

    proptest! {
        /// Against a checker that knows nothing of filters and scores: it tries every node and compares every pair.
        #[test]
        fn the_choice_is_allowed_and_no_other_is_better(
            seats in prop::collection::vec(any_seat(), 0..6),
            wanted in prop::collection::vec((0u64..40, 0u64..40), 1..8),
            siblings in prop::collection::vec(0usize..3, 6),
        ) {
            let mut board = board(seats.clone());
            let mut reserved: Vec<(u64, u64)> = seats.iter().map(|s| (s.reserved.memory.0, s.reserved.cpu.0)).collect();
            let named = siblings.iter().enumerate().map(|(n, count)| (NodeName::new(format!("n{n}")), *count)).collect();
            for (memory, cpu) in wanted {
                let allowed: Vec<usize> = (0..seats.len()).filter(|&n| {
                    let seat = &seats[n];
                    seat.alive
                        && reserved[n].0 + memory <= seat.capacity.memory.0
                        && reserved[n].1 + cpu <= seat.capacity.cpu.0
                }).collect();
                match board.place(resources(memory, cpu), &named) {
                    Err(refused) => {
                        prop_assert!(allowed.is_empty());
                        prop_assert_eq!(refused.refusals.len(), seats.len());
                    }
                    Ok(choice) => {
                        let chosen: usize = choice.score.node.as_str()[1..].parse().unwrap();
                        prop_assert!(allowed.contains(&chosen));
                        prop_assert_eq!(choice.fitting, allowed.len());
                        for other in allowed {
                            prop_assert!(siblings[chosen] <= siblings[other]);
                            let full = |n: usize| {
                                let ratio = |part: u64, whole: u64| (part * 1000).checked_div(whole).unwrap_or(0);
                                ratio(reserved[n].0 + memory, seats[n].capacity.memory.0)
                                    .max(ratio(reserved[n].1 + cpu, seats[n].capacity.cpu.0))
                            };
                            if siblings[chosen] == siblings[other] {
                                prop_assert!((full(chosen), chosen) <= (full(other), other));
                            }
                        }
                        reserved[chosen] = (reserved[chosen].0 + memory, reserved[chosen].1 + cpu);
                    }
                }
            }
        }
    }
}
