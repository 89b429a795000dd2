//! The snapshot that plans are made from: services with all that belongs to them, and nodes with what is reserved there.
//!
//! It is kept up to date object by object, in time that depends on the object's service and not on the cluster, so that
//! ten thousand services cost no more per event than one. Objects may come in any order: a replica whose revision is not
//! there yet reserves nothing until it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skiff_api::resource::{Liveness, Node, Phase, Replica, Resources, Revision, Service, Template};
use skiff_api::{Kind, NodeName, ReplicaKey, ReplicaName, RevisionName, ServiceKey, Uid};

/// All that is known, as of one revision of the store.
#[derive(Debug, Default)]
pub struct State {
    workloads: BTreeMap<ServiceKey, Workload>,
    nodes: BTreeMap<NodeName, NodeState>,
    /// Services with a replica that no node has taken: they are planned again when there is room.
    unplaced: BTreeSet<ServiceKey>,
    /// Which service a replica belongs to.
    owners: BTreeMap<ReplicaKey, ServiceKey>,
}

/// A service and what was made for it. The service is absent once it was deleted and the rest is still there.
#[derive(Debug, Default)]
pub struct Workload {
    pub service: Option<Arc<Service>>,
    pub revisions: BTreeMap<RevisionName, RevisionState>,
    pub replicas: BTreeMap<ReplicaName, Arc<Replica>>,
}

/// A revision with its template in the form in which assignments share it.
#[derive(Debug, Clone)]
pub struct RevisionState {
    pub object: Arc<Revision>,
    pub template: Arc<Template>,
}

/// A node and what is placed on it. The node is absent while only replicas speak of it.
#[derive(Debug, Default)]
pub struct NodeState {
    pub node: Option<Arc<Node>>,
    pub replicas: BTreeSet<ReplicaKey>,
    pub reserved: Resources,
}

impl NodeState {
    pub fn is_alive(&self) -> bool {
        self.node.as_ref().is_some_and(|node| node.status.liveness == Liveness::Alive)
    }

    pub fn capacity(&self) -> Resources {
        self.node.as_ref().map_or(Resources::ZERO, |node| node.status.capacity)
    }
}

impl Workload {
    fn is_empty(&self) -> bool {
        self.service.is_none() && self.revisions.is_empty() && self.replicas.is_empty()
    }

    /// The revision with the highest number.
    pub fn newest(&self) -> Option<&RevisionState> {
        self.revisions.values().max_by_key(|revision| revision.object.spec.number)
    }

    /// Whether an object with these owners belongs to the service as it is now: not to an earlier one of its name.
    pub fn owns(&self, owners: &[skiff_api::resource::Owner]) -> bool {
        let Some(service) = &self.service else { return false };
        let is_ours = |uid: &Uid| *uid == service.metadata.uid;
        owners.iter().any(|owner| owner.kind == Kind::Service && is_ours(&owner.uid))
    }

    fn reserved_by(&self, replica: &Replica) -> Resources {
        self.revisions.get(&replica.spec.revision).map_or(Resources::ZERO, |revision| revision.template.resources)
    }
}

impl State {
    pub fn workload(&self, key: &ServiceKey) -> Option<&Workload> {
        self.workloads.get(key)
    }

    pub fn workloads(&self) -> &BTreeMap<ServiceKey, Workload> {
        &self.workloads
    }

    pub fn nodes(&self) -> &BTreeMap<NodeName, NodeState> {
        &self.nodes
    }

    pub fn node(&self, name: &NodeName) -> Option<&NodeState> {
        self.nodes.get(name)
    }

    /// Services that wait for room on some node.
    pub fn unplaced(&self) -> &BTreeSet<ServiceKey> {
        &self.unplaced
    }

    pub fn owner(&self, replica: &ReplicaKey) -> Option<&ServiceKey> {
        self.owners.get(replica)
    }

    pub fn replica(&self, key: &ReplicaKey) -> Option<&Arc<Replica>> {
        self.workloads.get(self.owners.get(key)?)?.replicas.get(&key.name)
    }

    pub fn set_service(&mut self, key: ServiceKey, service: Option<Arc<Service>>) {
        self.change(&key, |workload| workload.service = service);
    }

    pub fn set_node(&mut self, name: &NodeName, node: Option<Arc<Node>>) {
        let state = self.nodes.entry(name.clone()).or_default();
        state.node = node;
        if state.node.is_none() && state.replicas.is_empty() {
            self.nodes.remove(name);
        }
    }

    pub fn set_revision(&mut self, key: &ServiceKey, name: RevisionName, revision: Option<Arc<Revision>>) {
        let placed: Vec<Arc<Replica>> = self.workloads.get(key).map_or_else(Vec::new, |workload| {
            workload.replicas.values().filter(|replica| replica.spec.revision == name).cloned().collect()
        });
        placed.iter().for_each(|replica| self.release(key, replica));
        self.change(key, |workload| match revision {
            Some(object) => {
                let template = Arc::new(object.spec.template.clone());
                workload.revisions.insert(name, RevisionState { object, template });
            }
            None => {
                workload.revisions.remove(&name);
            }
        });
        placed.iter().for_each(|replica| self.reserve(key, replica));
    }

    pub fn set_replica(&mut self, key: &ServiceKey, name: &ReplicaName, replica: Option<Arc<Replica>>) {
        let before = self.workloads.get(key).and_then(|workload| workload.replicas.get(name)).cloned();
        if let Some(before) = before {
            self.release(key, &before);
        }
        let id = ReplicaKey { namespace: key.namespace.clone(), name: name.clone() };
        match &replica {
            Some(_) => self.owners.insert(id, key.clone()),
            None => self.owners.remove(&id),
        };
        self.change(key, |workload| match replica.clone() {
            Some(replica) => {
                workload.replicas.insert(name.clone(), replica);
            }
            None => {
                workload.replicas.remove(name);
            }
        });
        if let Some(after) = &replica {
            self.reserve(key, after);
        }
        let waits = |workload: &Workload| workload.replicas.values().any(|replica| replica.spec.node.is_none());
        match self.workloads.get(key).is_some_and(waits) {
            true => self.unplaced.insert(key.clone()),
            false => self.unplaced.remove(key),
        };
    }

    fn change(&mut self, key: &ServiceKey, change: impl FnOnce(&mut Workload)) {
        let workload = self.workloads.entry(key.clone()).or_default();
        change(workload);
        if workload.is_empty() {
            self.workloads.remove(key);
        }
    }

    fn reserve(&mut self, key: &ServiceKey, replica: &Replica) {
        let Some(name) = &replica.spec.node else { return };
        let Some(workload) = self.workloads.get(key) else { return };
        let node = self.nodes.entry(name.clone()).or_default();
        node.reserved = node.reserved.plus(workload.reserved_by(replica));
        node.replicas.insert(replica_key(key, replica));
    }

    fn release(&mut self, key: &ServiceKey, replica: &Replica) {
        let Some(name) = &replica.spec.node else { return };
        let Some(workload) = self.workloads.get(key) else { return };
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.reserved = node.reserved.minus(workload.reserved_by(replica));
        node.replicas.remove(&replica_key(key, replica));
        if node.node.is_none() && node.replicas.is_empty() {
            self.nodes.remove(name);
        }
    }
}

fn replica_key(key: &ServiceKey, replica: &Replica) -> ReplicaKey {
    ReplicaKey { namespace: key.namespace.clone(), name: ReplicaName::new(replica.metadata.name.clone()) }
}

/// How much a replica is worth, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// No node has taken it.
    Unplaced,
    Failed,
    /// On its way, or stopping.
    Starting,
    /// It was ready when its node was last heard: it may well serve.
    Unknown,
    Ready,
}

impl Health {
    pub fn of(replica: &Replica, state: &State) -> Self {
        let Some(node) = &replica.spec.node else { return Self::Unplaced };
        match replica.status.phase {
            Phase::Ready if state.node(node).is_some_and(NodeState::is_alive) => Self::Ready,
            Phase::Ready => Self::Unknown,
            Phase::Failed => Self::Failed,
            Phase::Pending | Phase::Pulling | Phase::Compiling | Phase::Stopping => Self::Starting,
        }
    }

    /// Whether it answers requests, as far as is known.
    pub fn serves(self) -> bool {
        matches!(self, Self::Ready | Self::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{World, memory};

    #[test]
    fn reservations_follow_replicas_in_any_order() {
        let mut world = World::new();
        world.node("n", memory(100));
        let node = NodeName::new("n");
        world.service("cart", 1, memory(7));
        world.revision("cart", 1, memory(7));
        world.replica("cart", 1, "aaaaa", Some("n"), Phase::Ready);
        assert_eq!(world.state.node(&node).unwrap().reserved, memory(7));

        // The revision comes after the replica.
        world.replica("late", 1, "aaaaa", Some("n"), Phase::Ready);
        assert_eq!(world.state.node(&node).unwrap().reserved, memory(7));
        world.revision("late", 1, memory(5));
        assert_eq!(world.state.node(&node).unwrap().reserved, memory(12));
        assert_eq!(world.state.node(&node).unwrap().replicas.len(), 2);

        world.no_replica("cart", "cart-1-aaaaa");
        assert_eq!(world.state.node(&node).unwrap().reserved, memory(5));
        world.no_revision("late", 1);
        assert_eq!(world.state.node(&node).unwrap().reserved, Resources::ZERO);
    }

    #[test]
    fn what_is_gone_leaves_nothing_behind() {
        let mut world = World::new();
        world.replica("cart", 1, "aaaaa", None, Phase::Pending);
        assert_eq!(world.state.unplaced().len(), 1);
        world.replica("cart", 1, "aaaaa", Some("n"), Phase::Pending);
        assert!(world.state.unplaced().is_empty());
        world.no_replica("cart", "cart-1-aaaaa");
        assert!(world.state.workloads().is_empty());
        assert!(world.state.nodes().is_empty());
        assert!(world.state.owners.is_empty());
    }
}
