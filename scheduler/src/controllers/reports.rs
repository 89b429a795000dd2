//! What nodes say of themselves and their replicas, until it is stored.
//!
//! Only the latest state of each is kept, and only what differs from the store is written: a node that says the same
//! again, or goes through three states while one is being written, costs nothing or one write. A node's words are
//! bounded in length, and count only for replicas that are placed on it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use skiff_api::resource::{Metadata, Node, NodeSpec, Phase, ReplicaStatus};
use skiff_api::wire::{Hello, Observed};
use skiff_api::{NodeName, ReplicaKey};

use super::events::shortened;
use crate::objects::Change;
use crate::plan::{State, liveness};

const MESSAGE_CHARS_MAX: usize = 1000;
const REASON_CHARS_MAX: usize = 60;

#[derive(Debug, Default)]
pub(super) struct Reports {
    replicas: BTreeMap<ReplicaKey, (NodeName, ReplicaStatus)>,
    nodes: BTreeMap<NodeName, NodeReport>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum NodeReport {
    Hello(Box<Hello>),
    Lost,
    Dead,
}

/// A report on its way into the store.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Written {
    Replica(ReplicaKey, ReplicaStatus),
    Node(NodeName, NodeReport),
}

impl Reports {
    pub(super) fn node(&mut self, name: NodeName, report: NodeReport) {
        self.nodes.insert(name, report);
    }

    /// Takes in what a node says it runs. Answers how many of its words were about replicas of other nodes. `epoch` is the
    /// cluster's: what a node was told in another one, nobody knows any more.
    pub(super) fn observed(&mut self, state: &State, node: &NodeName, observed: Observed, epoch: u64) -> usize {
        let mut bad = 0;
        let mut named = BTreeSet::new();
        let is_told = observed.fence.epoch == epoch;
        for (key, mut status) in observed.replicas {
            match placed_on(state, node, &key) {
                Some(true) => {
                    status.ended &= may_end(state, &key, is_told);
                    named.insert(key.clone());
                    self.replicas.insert(key, (node.clone(), bounded(status)));
                }
                Some(false) => bad += 1,
                // It was removed a moment ago, and the node has not heard of it.
                None => {}
            }
        }
        let gone = |reason: &str, message: &str| ReplicaStatus {
            reason: reason.to_owned(),
            message: message.to_owned(),
            ..ReplicaStatus::default()
        };
        for key in observed.gone {
            match placed_on(state, node, &key) {
                Some(true) => {
                    let status = match state.replica(&key).is_some_and(|replica| replica.is_task()) {
                        true => ReplicaStatus::interrupted("its node has stopped it"),
                        false => gone("Stopped", "its node has stopped it"),
                    };
                    self.replicas.insert(key, (node.clone(), status));
                }
                Some(false) => bad += 1,
                None => {}
            }
        }
        if observed.whole {
            let placed = state.node(node).map(|node| &node.replicas).into_iter().flatten();
            for key in placed.filter(|key| !named.contains(*key)) {
                let Some(replica) = state.replica(key) else { continue };
                let status = match replica.is_task() {
                    // It may have run, so nobody may run it again.
                    true => ReplicaStatus::interrupted("its node does not know of it any more"),
                    false => gone("NotRunning", "its node does not run it yet"),
                };
                match replica.status.phase == Phase::Pending {
                    true => _ = self.replicas.remove(key),
                    false => _ = self.replicas.insert(key.clone(), (node.clone(), status)),
                }
            }
        }
        bad
    }

    /// The changes that would store what differs; what does not is forgotten.
    pub(super) fn changes(&mut self, state: &State, now: Timestamp) -> Vec<(Written, Change)> {
        let mut changes = Vec::new();
        self.nodes.retain(|name, report| {
            let change = node_change(state, name, report, now);
            let keep = change.is_some();
            changes.extend(change.map(|change| (Written::Node(name.clone(), report.clone()), change)));
            keep
        });
        self.replicas.retain(|key, (node, status)| {
            let Some(replica) = state.replica(key) else { return false };
            // A task ends once: what its node forgot since changes nothing.
            if replica.status.ended || replica.spec.node.as_ref() != Some(node) || is_same(&replica.status, status) {
                return false;
            }
            let change = Change::new().write_status(
                &**replica,
                ReplicaStatus { since: since(&replica.status, status, now), ..status.clone() },
            );
            changes.push((Written::Replica(key.clone(), status.clone()), change));
            true
        });
        changes
    }

    /// It is stored: forgotten, unless something newer came meanwhile.
    pub(super) fn written(&mut self, written: &Written) {
        match written {
            Written::Replica(key, status) => {
                if self.replicas.get(key).is_some_and(|(_, latest)| latest == status) {
                    self.replicas.remove(key);
                }
            }
            Written::Node(name, report) => {
                if self.nodes.get(name) == Some(report) {
                    self.nodes.remove(name);
                }
            }
        }
    }
}

fn node_change(state: &State, name: &NodeName, report: &NodeReport, now: Timestamp) -> Option<Change> {
    let node = state.node(name).and_then(|node| node.node.as_deref());
    match (node, report) {
        (Some(node), NodeReport::Hello(hello)) => {
            let status = liveness::hello(&node.status, hello, now);
            (status != node.status).then(|| Change::new().write_status(node, status))
        }
        (None, NodeReport::Hello(hello)) => {
            let mut metadata = Metadata::new(None, name.as_str());
            metadata.uid = hello.uid.clone();
            metadata.labels = hello.labels.clone();
            let mut node = Node::new(metadata, NodeSpec::default());
            node.status = liveness::hello(&node.status, hello, now);
            Some(Change::new().create(&node))
        }
        (Some(node), NodeReport::Lost) => {
            let status = liveness::lost(&node.status, now);
            (status != node.status).then(|| Change::new().write_status(node, status))
        }
        (Some(node), NodeReport::Dead) => {
            let status = liveness::dead(&node.status, now);
            (status != node.status).then(|| Change::new().write_status(node, status))
        }
        (None, NodeReport::Lost | NodeReport::Dead) => None,
    }
}

/// Whether a replica's end is one for good: a task's is, and that of another one which its node was told to stop.
fn may_end(state: &State, key: &ReplicaKey, is_told: bool) -> bool {
    state.replica(key).is_some_and(|replica| replica.is_task() || replica.spec.stop && is_told)
}

/// Whether a replica is placed on that node; `None` if there is none of that name.
pub(super) fn placed_on(state: &State, node: &NodeName, key: &ReplicaKey) -> Option<bool> {
    state.replica(key).map(|replica| replica.spec.node.as_ref() == Some(node))
}

fn bounded(status: ReplicaStatus) -> ReplicaStatus {
    ReplicaStatus {
        reason: shortened(&status.reason, REASON_CHARS_MAX),
        message: shortened(&status.message, MESSAGE_CHARS_MAX),
        ..status
    }
}

/// Whether two states say the same. The time in it is this control plane's own.
fn is_same(a: &ReplicaStatus, b: &ReplicaStatus) -> bool {
    let told = |status: &ReplicaStatus| (status.phase, status.retries, status.ended, status.exit_code);
    told(a) == told(b) && (&a.reason, &a.message) == (&b.reason, &b.message)
}

/// By this machine's clock: a node's may be wrong.
fn since(before: &ReplicaStatus, after: &ReplicaStatus, now: Timestamp) -> Timestamp {
    if before.phase == after.phase { before.since } else { now }
}

#[cfg(test)]
mod tests {
    use skiff_api::ReplicaName;
    use skiff_api::wire::Fence;

    use super::*;
    use crate::plan::testing::{World, key, memory};

    fn replica(name: &str) -> ReplicaKey {
        ReplicaKey { namespace: key("x").namespace, name: ReplicaName::new(name) }
    }

    fn observed(whole: bool, replicas: &[(&str, Phase)]) -> Observed {
        let status = |phase| ReplicaStatus { phase, ..ReplicaStatus::default() };
        let replicas = replicas.iter().map(|(name, phase)| (replica(name), status(*phase))).collect();
        Observed { whole, fence: Fence::default(), replicas, gone: Vec::new() }
    }

    fn world() -> World {
        let mut world = World::new();
        world.node("n", memory(10));
        world.service("cart", 2, memory(1));
        world.revision("cart", 1, memory(1));
        world.replica("cart", 1, "aaaaa", Some("n"), Phase::Ready);
        world.replica("cart", 1, "bbbbb", Some("n"), Phase::Pending);
        world.replica("cart", 1, "ccccc", Some("m"), Phase::Pending);
        world
    }

    fn stored(reports: &mut Reports, world: &World) -> Vec<(String, Phase, String)> {
        let changes = reports.changes(&world.state, Timestamp::UNIX_EPOCH).into_iter();
        let replica = |written| match written {
            Written::Replica(key, status) => (key.name.to_string(), status.phase, status.reason),
            Written::Node(name, _) => panic!("{name}"),
        };
        changes.map(|(written, _)| replica(written)).collect()
    }

    #[test]
    fn only_the_last_state_and_only_news_are_stored() {
        let world = world();
        let node = NodeName::new("n");
        let mut reports = Reports::default();
        for phase in [Phase::Pulling, Phase::Compiling, Phase::Ready] {
            assert_eq!(reports.observed(&world.state, &node, observed(false, &[("cart-1-bbbbb", phase)]), 0), 0);
        }
        assert_eq!(reports.observed(&world.state, &node, observed(false, &[("cart-1-aaaaa", Phase::Ready)]), 0), 0);
        assert_eq!(stored(&mut reports, &world), [("cart-1-bbbbb".to_owned(), Phase::Ready, String::new())]);
        let status = ReplicaStatus { phase: Phase::Ready, ..ReplicaStatus::default() };
        reports.written(&Written::Replica(replica("cart-1-bbbbb"), status));
        assert!(reports.replicas.is_empty());
    }

    #[test]
    fn a_node_speaks_for_its_own_replicas_only() {
        let world = world();
        let mut reports = Reports::default();
        let words = observed(false, &[("cart-1-ccccc", Phase::Ready), ("cart-1-zzzzz", Phase::Ready)]);
        assert_eq!(reports.observed(&world.state, &NodeName::new("n"), words, 0), 1);
        assert!(reports.replicas.is_empty());
    }

    #[test]
    fn an_end_counts_for_what_its_node_was_told_to_stop() {
        let mut world = world();
        let node = NodeName::new("n");
        let ended = || {
            let mut words = observed(false, &[("cart-1-aaaaa", Phase::Succeeded)]);
            words.replicas[0].1.ended = true;
            words
        };
        let mut reports = Reports::default();
        let mut is_ended = |world: &World, epoch| {
            reports.observed(&world.state, &node, ended(), epoch);
            reports.replicas[&replica("cart-1-aaaaa")].1.ended
        };
        assert!(!is_ended(&world, 0), "it was not told to");
        let name = ReplicaName::new("cart-1-aaaaa");
        let stop = crate::plan::Action::StopReplica { name };
        world.execute(&crate::plan::Plan { actions: vec![stop], ..crate::plan::Plan::nothing(key("cart")) });
        assert!(is_ended(&world, 0));
        assert!(!is_ended(&world, 1), "it was told to before the cluster was restored");
    }

    #[test]
    fn what_a_whole_report_does_not_name_is_not_running() {
        let world = world();
        let mut reports = Reports::default();
        reports.observed(&world.state, &NodeName::new("n"), observed(true, &[]), 0);
        assert_eq!(
            stored(&mut reports, &world),
            [("cart-1-aaaaa".to_owned(), Phase::Pending, "NotRunning".to_owned())]
        );
        reports.observed(&world.state, &NodeName::new("n"), observed(true, &[("cart-1-aaaaa", Phase::Ready)]), 0);
        assert!(stored(&mut reports, &world).is_empty());
        assert!(reports.replicas.is_empty());
    }

    #[test]
    fn long_words_are_cut() {
        let world = world();
        let mut reports = Reports::default();
        let mut words = observed(false, &[("cart-1-bbbbb", Phase::Failed)]);
        words.replicas[0].1.message = "ä".repeat(5000);
        reports.observed(&world.state, &NodeName::new("n"), words, 0);
        let (_, status) = &reports.replicas[&replica("cart-1-bbbbb")];
        assert_eq!(status.message.chars().count(), MESSAGE_CHARS_MAX);
    }
}
