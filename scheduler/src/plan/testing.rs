//! A small world for the tests of plans: objects by short names, and plans carried out on the spot.

use std::sync::Arc;

use jiff::Timestamp;
use skiff_api::quantity::{Bytes, MilliCpu};
use skiff_api::resource::{
    EngineReport, Home, Kind, Liveness, Metadata, Namespace, NamespaceSpec, Node, NodeSpec, Owner, Phase, Replica,
    ReplicaSpec, ReplicaStatus, Resources, Revision, RevisionSpec, Service, ServiceSpec, Template,
};
use skiff_api::wire::{Fence, Hello, PROTOCOL};
use skiff_api::{NodeName, ReplicaName, RevisionName, ServiceKey, Uid};

use super::{Action, Board, Names, Plan, State, service as planner};

pub(crate) fn memory(mebi: u64) -> Resources {
    Resources { memory: Bytes::mebi(mebi), cpu: MilliCpu(0) }
}

pub(crate) fn key(name: &str) -> ServiceKey {
    ServiceKey { namespace: "default".parse().unwrap(), name: name.parse().unwrap() }
}

pub(crate) fn service(name: &str, replicas: u32, resources: Resources) -> Service {
    let image = format!("{name}:1@sha256:{}", "0".repeat(64));
    let mut spec = ServiceSpec::new(image.parse().unwrap());
    spec.replicas = replicas.into();
    spec.resources = resources;
    let mut metadata = Metadata::new(Some(key(name).namespace), name);
    metadata.uid = Uid::new(format!("uid of {name}"));
    metadata.generation = 1;
    Service::new(metadata, spec)
}

pub(crate) fn hello_from(node: &str, capacity: Resources) -> Hello {
    Hello {
        protocol: PROTOCOL,
        node: NodeName::new(node),
        uid: Uid::new(format!("uid of {node}")),
        incarnation: Uid::new("1"),
        version: "0.1.0".to_owned(),
        platform: "linux/x86_64".to_owned(),
        gateway: "127.0.0.1:8080".to_owned(),
        peer: None,
        site: String::new(),
        labels: Default::default(),
        capacity,
        engine: EngineReport::default(),
        docker: String::new(),
        fence: Fence::default(),
    }
}

pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) names: Names,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { state: State::default(), names: Names::new(1) }
    }

    pub(crate) fn node(&mut self, name: &str, capacity: Resources) {
        let mut node = Node::new(Metadata::new(None, name), NodeSpec::default());
        node.status.liveness = Liveness::Alive;
        node.status.capacity = capacity;
        self.state.set_node(&NodeName::new(name), Some(Arc::new(node)));
    }

    pub(crate) fn change_node(&mut self, name: &str, change: impl FnOnce(&mut Node)) {
        let name = NodeName::new(name);
        let mut node = Node::clone(self.state.node(&name).unwrap().node.as_ref().unwrap());
        change(&mut node);
        self.state.set_node(&name, Some(Arc::new(node)));
    }

    pub(crate) fn liveness(&mut self, name: &str, liveness: Liveness) {
        self.change_node(name, |node| node.status.liveness = liveness);
    }

    pub(crate) fn suspect(&mut self, name: &str) {
        self.liveness(name, Liveness::Suspect);
    }

    pub(crate) fn label(&mut self, name: &str, key: &str, value: &str) {
        self.change_node(name, |node| _ = node.metadata.labels.insert(key.to_owned(), value.to_owned()));
    }

    pub(crate) fn taint(&mut self, name: &str, taint: &str) {
        self.change_node(name, |node| node.spec.taints.push(taint.parse().unwrap()));
    }

    pub(crate) fn spec(&mut self, name: &str, change: impl FnOnce(&mut NodeSpec)) {
        self.change_node(name, |node| change(&mut node.spec));
    }

    pub(crate) fn namespace(&mut self, change: impl FnOnce(&mut NamespaceSpec)) {
        let name = key("x").namespace;
        let mut spec = NamespaceSpec::default();
        change(&mut spec);
        self.state.set_namespace(&name, Some(Arc::new(Namespace::new(Metadata::new(None, name.as_str()), spec))));
    }

    /// Changes the spec of a service that is there.
    pub(crate) fn change_service(&mut self, name: &str, change: impl FnOnce(&mut ServiceSpec)) {
        let before = self.state.workload(&key(name)).unwrap().service.clone().unwrap();
        let mut service = Service::clone(&before);
        change(&mut service.spec);
        service.metadata.generation += 1;
        self.state.set_service(key(name), Some(Arc::new(service)));
    }

    /// As though its volumes had been made there.
    pub(crate) fn settled_at(&mut self, name: &str, home: Home) {
        let workload = self.state.workload(&key(name)).unwrap();
        let mut service = Service::clone(workload.service.as_ref().unwrap());
        service.status.home = Some(home);
        self.state.set_service(key(name), Some(Arc::new(service)));
    }

    /// As though the controllers had seen the service's newest revision.
    pub(crate) fn settle(&mut self, name: &str) {
        let workload = self.state.workload(&key(name)).unwrap();
        let mut service = Service::clone(workload.service.as_ref().unwrap());
        service.status.observed_generation = service.metadata.generation;
        service.status.revision =
            workload.newest().map(|newest| RevisionName::new(newest.object.metadata.name.clone()));
        self.state.set_service(key(name), Some(Arc::new(service)));
    }

    /// Writes the spec of a service, new or not.
    pub(crate) fn service(&mut self, name: &str, replicas: u32, resources: Resources) {
        let mut service = service(name, replicas, resources);
        if let Some(before) = self.state.workload(&key(name)).and_then(|workload| workload.service.as_ref()) {
            service.metadata.generation = before.metadata.generation + u64::from(before.spec != service.spec);
            service.status = before.status.clone();
        }
        self.state.set_service(key(name), Some(Arc::new(service)));
    }

    pub(crate) fn no_service(&mut self, name: &str) {
        self.state.set_service(key(name), None);
    }

    fn metadata(service: &str, name: String) -> Metadata {
        let mut metadata = Metadata::new(Some(key(service).namespace), name.clone());
        let uid = Uid::new(format!("uid of {service}"));
        metadata.uid = Uid::new(format!("uid of {name}"));
        metadata.owners = vec![Owner { kind: Kind::Service, name: service.to_owned(), uid }];
        metadata
    }

    pub(crate) fn revision(&mut self, name: &str, number: u64, resources: Resources) {
        self.revision_that(name, number, |template| template.resources = resources);
    }

    pub(crate) fn revision_that(&mut self, name: &str, number: u64, change: impl FnOnce(&mut Template)) {
        let mut template = service(name, 1, memory(1)).spec.template();
        change(&mut template);
        let spec = RevisionSpec { service: key(name).name, number, template };
        self.add_revision(name, &RevisionName::new(format!("{name}-{number}")), spec);
    }

    fn add_revision(&mut self, service: &str, name: &RevisionName, spec: RevisionSpec) {
        let revision = Revision::new(Self::metadata(service, name.to_string()), spec);
        self.state.set_revision(&key(service), name.clone(), Some(Arc::new(revision)));
    }

    pub(crate) fn no_revision(&mut self, service: &str, number: u64) {
        self.state.set_revision(&key(service), RevisionName::new(format!("{service}-{number}")), None);
    }

    pub(crate) fn replica(&mut self, service: &str, number: u64, suffix: &str, node: Option<&str>, phase: Phase) {
        let name = ReplicaName::new(format!("{service}-{number}-{suffix}"));
        let revision = RevisionName::new(format!("{service}-{number}"));
        let status = ReplicaStatus { phase, ..ReplicaStatus::default() };
        self.add_replica(service, &name, revision, node.map(NodeName::new), status);
    }

    fn add_replica(
        &mut self,
        service: &str,
        name: &ReplicaName,
        revision: RevisionName,
        node: Option<NodeName>,
        status: ReplicaStatus,
    ) {
        let spec = ReplicaSpec { service: key(service).name, revision, node, moves_to: None, stop: false };
        let mut replica = Replica::new(Self::metadata(service, name.to_string()), spec);
        replica.status = status;
        self.state.set_replica(&key(service), name, Some(Arc::new(replica)));
    }

    pub(crate) fn no_replica(&mut self, service: &str, name: &str) {
        self.state.set_replica(&key(service), &ReplicaName::new(name), None);
    }

    /// Changes the status of every placed replica of a revision.
    pub(crate) fn report(&mut self, service: &str, revision: &str, status: &ReplicaStatus) {
        let replicas = self.state.workload(&key(service)).unwrap().replicas.clone();
        for (name, replica) in replicas {
            if replica.spec.revision.as_str() == revision && replica.spec.node.is_some() {
                let replica = Replica { status: status.clone(), ..Replica::clone(&replica) };
                self.state.set_replica(&key(service), &name, Some(Arc::new(replica)));
            }
        }
    }

    pub(crate) fn plan(&mut self, service: &str) -> Plan {
        let mut board = Board::new(&self.state);
        planner::plan(&self.state, &key(service), &mut board, &mut self.names, Timestamp::UNIX_EPOCH)
    }

    pub(crate) fn execute(&mut self, plan: &Plan) {
        let service = plan.service.name.as_str();
        for action in plan.actions.clone() {
            let waiting = |name: &ReplicaName| {
                Replica::clone(self.state.workload(&plan.service).unwrap().replicas.get(name).unwrap())
            };
            match action.clone() {
                Action::CreateRevision { name, spec } => self.add_revision(service, &name, *spec),
                Action::DeleteRevision { name } => self.state.set_revision(&plan.service, name, None),
                Action::CreateReplica { name, revision, node, status } => {
                    self.add_replica(service, &name, revision, node, status);
                }
                Action::Place { name, node } => {
                    let revision = waiting(&name).spec.revision;
                    self.add_replica(service, &name, revision, Some(node), ReplicaStatus::default());
                }
                Action::Explain { name, status } => {
                    let replica = Replica { status, ..waiting(&name) };
                    self.state.set_replica(&plan.service, &name, Some(Arc::new(replica)));
                }
                Action::Move { name, to } => {
                    let mut replica = waiting(&name);
                    replica.spec.moves_to = to;
                    self.state.set_replica(&plan.service, &name, Some(Arc::new(replica)));
                }
                Action::StopReplica { name } => {
                    let mut replica = waiting(&name);
                    replica.spec.stop = true;
                    self.state.set_replica(&plan.service, &name, Some(Arc::new(replica)));
                }
                Action::SetJobStatus(_) | Action::CreateJob { .. } | Action::DeleteJob { .. } => {
                    panic!("{action:?} is for jobs")
                }
                Action::DeleteReplica { name } => self.state.set_replica(&plan.service, &name, None),
                Action::SetStatus(status) => {
                    let workload = self.state.workload(&plan.service).unwrap();
                    let service = Service { status, ..Service::clone(workload.service.as_ref().unwrap()) };
                    self.state.set_service(plan.service.clone(), Some(Arc::new(service)));
                }
            }
        }
    }
}
