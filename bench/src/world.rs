//! A fleet in memory, as the planners see it, and their plans carried out on the spot.

use std::sync::Arc;

use anyhow::{Context, Result};
use jiff::Timestamp;
use skiff_api::quantity::{Bytes, MilliCpu};
use skiff_api::resource::{
    Kind, Liveness, Metadata, Namespace, NamespaceSpec, Node, NodeSpec, Owner, Phase, Replica, ReplicaSpec,
    ReplicaStatus, Resources, Revision, RevisionSpec, Service, ServiceSpec, ServiceStatus, Strategy,
};
use skiff_api::{Name, NodeName, ReplicaName, RevisionName, ServiceKey, Uid};
use skiff_scheduler::plan::{Action, Board, Names, Plan, State, service as planner};

/// What a plan is dated by.
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) board: Board,
    names: Names,
    namespace: Name,
}

pub(crate) fn resources(mebi: u64, milli: u64) -> Resources {
    Resources { memory: Bytes::mebi(mebi), cpu: MilliCpu(milli) }
}

/// Numbers that are the same each time.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// SplitMix64.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % end.max(1)
    }
}

impl World {
    pub(crate) fn new(strategy: Strategy) -> Result<Self> {
        let namespace: Name = "default".parse()?;
        let mut state = State::default();
        let spec = NamespaceSpec { placement: strategy, ..NamespaceSpec::default() };
        let object = Namespace::new(Metadata::new(None, namespace.as_str()), spec);
        state.set_namespace(&namespace, Some(Arc::new(object)));
        Ok(Self { state, board: Board::default(), names: Names::new(1), namespace })
    }

    pub(crate) fn node(&mut self, number: usize, capacity: Resources) {
        let name = format!("n{number:05}");
        let mut node = Node::new(Metadata::new(None, name.clone()), NodeSpec::default());
        let labels = [
            ("zone", format!("z{}", number % 10)),
            ("disk", if number.is_multiple_of(3) { "ssd" } else { "hdd" }.to_owned()),
        ];
        node.metadata.labels = labels.map(|(key, value)| (key.to_owned(), value)).into();
        node.metadata.uid = Uid::new(format!("uid of {name}"));
        node.status.liveness = Liveness::Alive;
        node.status.capacity = capacity;
        self.state.set_node(&NodeName::new(name), Some(Arc::new(node)));
    }

    /// The board knows what the state has.
    pub(crate) fn sync(&mut self) {
        self.board.sync(&mut self.state);
    }

    pub(crate) fn key(&self, name: &str) -> Result<ServiceKey> {
        Ok(ServiceKey { namespace: self.namespace.clone(), name: name.parse()? })
    }

    pub(crate) fn service(&mut self, name: &str, change: impl FnOnce(&mut ServiceSpec)) -> Result<ServiceKey> {
        let key = self.key(name)?;
        let mut spec = ServiceSpec::new(format!("{name}:1@sha256:{}", "0".repeat(64)).parse()?);
        change(&mut spec);
        let mut metadata = Metadata::new(Some(self.namespace.clone()), name);
        metadata.uid = Uid::new(format!("uid of {name}"));
        metadata.generation = 1;
        self.state.set_service(key.clone(), Some(Arc::new(Service::new(metadata, spec))));
        Ok(key)
    }

    /// A service with its replicas on these nodes, as though they had been placed there long ago.
    pub(crate) fn placed(
        &mut self,
        name: &str,
        size: Resources,
        nodes: impl ExactSizeIterator<Item = usize>,
    ) -> Result<()> {
        let replicas = u32::try_from(nodes.len())?;
        let key = self.service(name, |spec| {
            spec.resources = size;
            spec.replicas = replicas.into();
        })?;
        let revision = RevisionName::new(format!("{name}-1"));
        let seen =
            ServiceStatus { observed_generation: 1, revision: Some(revision.clone()), ..ServiceStatus::default() };
        self.set_status(&key, seen);
        let template = self.template(&key)?;
        let spec = RevisionSpec { service: key.name.clone(), number: 1, template };
        let object = Revision::new(self.metadata(&key, revision.as_str()), spec);
        self.state.set_revision(&key, revision.clone(), Some(Arc::new(object)));
        for (number, node) in nodes.enumerate() {
            let replica = ReplicaName::new(format!("{name}-1-{number:05}"));
            let status = ReplicaStatus { phase: Phase::Ready, ..ReplicaStatus::default() };
            self.replica(&key, &replica, &revision, Some(NodeName::new(format!("n{node:05}"))), status);
        }
        Ok(())
    }

    fn set_status(&mut self, key: &ServiceKey, status: ServiceStatus) {
        let service = self.state.workload(key).and_then(|workload| workload.service.clone());
        if let Some(service) = service {
            let service = Service { status, ..Service::clone(&service) };
            self.state.set_service(key.clone(), Some(Arc::new(service)));
        }
    }

    fn template(&self, key: &ServiceKey) -> Result<skiff_api::resource::Template> {
        let service = self.state.workload(key).and_then(|workload| workload.service.as_ref());
        Ok(service.context("the service is there")?.spec.template())
    }

    fn metadata(&self, key: &ServiceKey, name: &str) -> Metadata {
        let mut metadata = Metadata::new(Some(self.namespace.clone()), name);
        metadata.uid = Uid::new(format!("uid of {name}"));
        let (name, uid) = (key.name.to_string(), Uid::new(format!("uid of {}", key.name)));
        metadata.owners = vec![Owner { kind: Kind::Service, name, uid }];
        metadata
    }

    fn replica(
        &mut self,
        key: &ServiceKey,
        name: &ReplicaName,
        revision: &RevisionName,
        node: Option<NodeName>,
        status: ReplicaStatus,
    ) {
        let spec =
            ReplicaSpec { service: key.name.clone(), revision: revision.clone(), node, moves_to: None, stop: false };
        let mut replica = Replica::new(self.metadata(key, name.as_str()), spec);
        replica.status = status;
        self.state.set_replica(key, name, Some(Arc::new(replica)));
    }

    /// The next step of a service.
    pub(crate) fn plan(&mut self, key: &ServiceKey) -> Plan {
        planner::plan(&self.state, key, &mut self.board, &mut self.names, NOW)
    }

    /// Does what a plan of a new service asks for. Answers how many replicas got a node.
    pub(crate) fn execute(&mut self, plan: &Plan) -> usize {
        let key = &plan.service;
        let mut placed = 0;
        for action in plan.actions.clone() {
            match action {
                Action::CreateRevision { name, spec } => {
                    let object = Revision::new(self.metadata(key, name.as_str()), *spec);
                    self.state.set_revision(key, name, Some(Arc::new(object)));
                }
                Action::CreateReplica { name, revision, node, .. } => {
                    placed += usize::from(node.is_some());
                    let status = ReplicaStatus { phase: Phase::Ready, ..ReplicaStatus::default() };
                    self.replica(key, &name, &revision, node, status);
                }
                Action::SetStatus(status) => self.set_status(key, status),
                Action::Place { .. }
                | Action::Explain { .. }
                | Action::Move { .. }
                | Action::DeleteReplica { .. }
                | Action::StopReplica { .. }
                | Action::SetJobStatus(_)
                | Action::CreateJob { .. }
                | Action::DeleteJob { .. }
                | Action::DeleteRevision { .. } => {}
            }
        }
        self.sync();
        placed
    }

    /// How many nodes have a replica.
    pub(crate) fn used(&self) -> usize {
        self.state.nodes().values().filter(|node| !node.replicas.is_empty()).count()
    }

    /// Moves a replica as though it had come up there.
    pub(crate) fn moved(&mut self, key: &ServiceKey, name: &ReplicaName, to: &NodeName) {
        let before = self.state.workload(key).and_then(|workload| workload.replicas.get(name)).cloned();
        if let Some(before) = before {
            let mut replica = Replica::clone(&before);
            replica.spec.node = Some(to.clone());
            self.state.set_replica(key, name, Some(Arc::new(replica)));
        }
    }
}
