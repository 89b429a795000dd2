//! Whether a node is there, from what its link says.
//!
//! ```text
//! Suspect ── hello ──> Alive ── link lost ──> Suspect ── a few seconds ──> Dead ── hello ──> Alive
//! ```
//! A suspect node gets no requests and no new replicas, and keeps those it has: it may well go on serving them. Once it
//! is dead, its replicas are placed elsewhere. A [`Vigil`] counts the time since each node was heard, by a clock that
//! does not jump.
//!
//! **The brake.** If more than a third of all nodes that were there are lost at once, it is the network or this machine
//! that is cut off and not the fleet: nobody dies until fewer are lost. One lost node is never too many, or a cluster of
//! two could replace nothing.
//!
//! **The grace.** A control plane that has just started has heard nobody yet, and every node redials it in its own time:
//! nobody dies before it could have. Nodes that were dead are suspect again, too: they may be on their way.

use std::collections::BTreeMap;

use jiff::Timestamp;
use skiff_api::NodeName;
use skiff_api::resource::{Liveness, NodeStatus};
use skiff_api::wire::{Hello, LEASE_LAPSES_MS};

use super::State;

/// When nodes die. Milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LivenessOptions {
    /// From when a node could not be heard any more until it is dead. A link is missed within a second, so its replicas
    /// are elsewhere six seconds after its last word.
    pub dead_after_ms: u64,
    /// From the start of a control plane until the first node may be dead: all have redialled by then.
    pub grace_ms: u64,
}

impl Default for LivenessOptions {
    fn default() -> Self {
        Self { dead_after_ms: 4_000, grace_ms: 30_000 }
    }
}

/// Since when which nodes cannot be heard, by a clock that does not jump.
#[derive(Debug, Clone)]
pub struct Vigil {
    options: LivenessOptions,
    started_ms: u64,
    lost: BTreeMap<NodeName, u64>,
    /// Those that may hold a lease yet: since when none was answered.
    leased: BTreeMap<NodeName, u64>,
}

/// Who is given up now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    pub dead: Vec<NodeName>,
    pub brake: Option<Brake>,
    /// When to look again although nothing happened. Milliseconds on the same clock.
    pub wake_ms: Option<u64>,
}

/// Too many were lost at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brake {
    pub lost: usize,
    /// Of so many that were there before.
    pub nodes: usize,
}

impl Vigil {
    pub fn new(options: LivenessOptions, now_ms: u64) -> Self {
        Self { options, started_ms: now_ms, lost: BTreeMap::new(), leased: BTreeMap::new() }
    }

    /// A node cannot be heard.
    pub fn lost(&mut self, node: NodeName, now_ms: u64) {
        self.leased.entry(node.clone()).or_insert(now_ms);
        self.lost.entry(node).or_insert(now_ms);
    }

    /// It can.
    pub fn heard(&mut self, node: &NodeName) {
        self.lost.remove(node);
        self.leased.remove(node);
    }

    /// Those whose lease has lapsed since the last call: nothing that needs one runs there any more.
    pub fn lapsed(&mut self, now_ms: u64) -> Vec<NodeName> {
        let is_over = |since: &u64| since.saturating_add(LEASE_LAPSES_MS) <= now_ms;
        let lapsed: Vec<NodeName> =
            self.leased.iter().filter(|(_, since)| is_over(since)).map(|(node, _)| node.clone()).collect();
        lapsed.iter().for_each(|node| _ = self.leased.remove(node));
        lapsed
    }

    /// When the next lease lapses.
    pub fn lapses_ms(&self) -> Option<u64> {
        self.leased.values().min().map(|since| since.saturating_add(LEASE_LAPSES_MS))
    }

    /// Who is dead by now.
    pub fn verdict(&mut self, state: &State, now_ms: u64) -> Verdict {
        let status = |name: &NodeName| state.node(name).and_then(|node| node.node.as_ref()).map(|node| &node.status);
        // Whoever is dead was counted when it died; an object that is gone is nobody's loss.
        self.lost.retain(|name, _| status(name).is_some_and(|status| status.liveness != Liveness::Dead));
        let alive = |node: &&super::state::NodeState| node.node.is_some() && node.liveness() != Liveness::Dead;
        let (lost, nodes) = (self.lost.len(), state.nodes().values().filter(alive).count());
        if brakes(lost, nodes) {
            return Verdict { brake: Some(Brake { lost, nodes }), ..Verdict::default() };
        }
        let not_before = self.started_ms.saturating_add(self.options.grace_ms);
        let mut verdict = Verdict::default();
        for (name, since_ms) in &self.lost {
            let due = since_ms.saturating_add(self.options.dead_after_ms).max(not_before);
            if due <= now_ms {
                verdict.dead.push(name.clone());
            } else {
                verdict.wake_ms = Some(verdict.wake_ms.map_or(due, |wake| wake.min(due)));
            }
        }
        verdict
    }
}

/// Whether so many lost ones of so many nodes are too many to believe it.
pub fn brakes(lost: usize, nodes: usize) -> bool {
    lost > 1 && lost * 3 > nodes
}

/// The status of a node that has introduced itself.
pub fn hello(before: &NodeStatus, hello: &Hello, now: Timestamp) -> NodeStatus {
    NodeStatus {
        incarnation: hello.incarnation.clone(),
        version: hello.version.clone(),
        platform: hello.platform.clone(),
        gateway: hello.gateway.clone(),
        peer: hello.peer.clone().unwrap_or_default(),
        site: hello.site.clone(),
        capacity: hello.capacity,
        engine: hello.engine.clone(),
        docker: hello.docker.clone(),
        ..moved(before, Liveness::Alive, now)
    }
}

/// The status of a node that cannot be heard.
pub fn lost(before: &NodeStatus, now: Timestamp) -> NodeStatus {
    moved(before, Liveness::Suspect, now)
}

/// The status of a node that is given up.
pub fn dead(before: &NodeStatus, now: Timestamp) -> NodeStatus {
    moved(before, Liveness::Dead, now)
}

fn moved(before: &NodeStatus, liveness: Liveness, now: Timestamp) -> NodeStatus {
    let since = if before.liveness == liveness && before.since != Timestamp::default() { before.since } else { now };
    NodeStatus { liveness, since, ..before.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{World, hello_from, memory};

    #[test]
    fn liveness_is_as_old_as_its_last_change() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let greeting = hello_from("n", memory(5));
        let alive = hello(&NodeStatus::default(), &greeting, at(1));
        assert_eq!((alive.liveness, alive.since, alive.capacity), (Liveness::Alive, at(1), memory(5)));
        assert_eq!(hello(&alive, &greeting, at(2)), alive);
        let suspect = lost(&alive, at(3));
        assert_eq!((suspect.liveness, suspect.since, suspect.capacity), (Liveness::Suspect, at(3), memory(5)));
        assert_eq!(lost(&suspect, at(4)), suspect);
        assert_eq!(hello(&suspect, &greeting, at(5)).since, at(5));
        assert_eq!(dead(&suspect, at(8)).since, at(8));
    }

    const OPTIONS: LivenessOptions = LivenessOptions { dead_after_ms: 4_000, grace_ms: 30_000 };

    fn world(nodes: &[&str]) -> World {
        let mut world = World::new();
        nodes.iter().for_each(|name| world.node(name, memory(1)));
        world
    }

    fn node(name: &str) -> NodeName {
        NodeName::new(name)
    }

    #[test]
    fn a_node_dies_after_its_time_and_not_within_the_grace() {
        let world = world(&["a", "b", "c"]);
        let mut vigil = Vigil::new(OPTIONS, 1_000);
        vigil.lost(node("a"), 2_000);
        assert_eq!(vigil.verdict(&world.state, 7_000), Verdict { wake_ms: Some(31_000), ..Verdict::default() });
        assert_eq!(vigil.verdict(&world.state, 31_000).dead, [node("a")]);
        vigil.heard(&node("a"));
        vigil.lost(node("b"), 40_000);
        vigil.lost(node("b"), 43_000);
        assert_eq!(vigil.verdict(&world.state, 43_999).wake_ms, Some(44_000));
        assert_eq!(vigil.verdict(&world.state, 44_000).dead, [node("b")]);
    }

    #[test]
    fn a_lease_lapses_once_and_not_before_its_time() {
        let mut vigil = Vigil::new(OPTIONS, 0);
        vigil.lost(node("a"), 1_000);
        vigil.lost(node("b"), 2_000);
        vigil.heard(&node("b"));
        assert_eq!(vigil.lapses_ms(), Some(1_000 + LEASE_LAPSES_MS));
        assert!(vigil.lapsed(1_000 + LEASE_LAPSES_MS - 1).is_empty());
        assert_eq!(vigil.lapsed(1_000 + LEASE_LAPSES_MS), [node("a")]);
        assert!(vigil.lapsed(u64::MAX).is_empty() && vigil.lapses_ms().is_none());
    }

    #[test]
    fn too_many_at_once_are_not_believed() {
        let mut world = world(&["a", "b", "c", "d", "e", "f"]);
        let mut vigil = Vigil::new(OPTIONS, 0);
        ["a", "b", "c"].iter().for_each(|name| vigil.lost(node(name), 50_000));
        let brake = Some(Brake { lost: 3, nodes: 6 });
        assert_eq!(vigil.verdict(&world.state, 90_000), Verdict { brake, ..Verdict::default() });
        vigil.heard(&node("c"));
        assert_eq!(vigil.verdict(&world.state, 90_000).dead, [node("a"), node("b")]);
        // The dead count no more: what is lost later is believed again.
        world.liveness("a", Liveness::Dead);
        world.liveness("b", Liveness::Dead);
        vigil.lost(node("c"), 91_000);
        assert_eq!(vigil.verdict(&world.state, 95_000).dead, [node("c")]);
    }

    #[test]
    fn one_is_never_too_many() {
        assert!(!brakes(1, 1) && !brakes(1, 2) && !brakes(1, 3) && !brakes(2, 6));
        assert!(brakes(2, 2) && brakes(2, 3) && brakes(2, 5) && brakes(3, 8));
    }
}
