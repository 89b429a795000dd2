//! The control plane: objects that survive it, and rounds that are planned by the scheduler's own code.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use skiff_api::resource::{
    Kind, Liveness, Metadata, Node, NodeSpec, Owner, Phase, Replica, ReplicaSpec, ReplicaStatus, Revision, Service,
};
use skiff_api::wire::{Fence, FromNode, LEASE_LAPSES_MS, Observed, ToNode};
use skiff_api::{Name, NodeName, ReplicaKey, ReplicaName, RevisionName, ServiceKey, Uid};
use skiff_scheduler::link::Session;
use skiff_scheduler::plan::endpoints::Directory;
use skiff_scheduler::plan::lint::Lint;
use skiff_scheduler::plan::liveness::{self, LivenessOptions, Verdict, Vigil};
use skiff_scheduler::plan::rebalance::{self, Options};
use skiff_scheduler::plan::{Action, Board, Names, Plan, State, service};

use crate::mutant::Mutant;

/// What is in the store.
#[derive(Debug, Clone, Default)]
pub(crate) struct Objects {
    services: BTreeMap<ServiceKey, Arc<Service>>,
    revisions: BTreeMap<(ServiceKey, RevisionName), Arc<Revision>>,
    replicas: BTreeMap<(ServiceKey, ReplicaName), Arc<Replica>>,
    nodes: BTreeMap<NodeName, Arc<Node>>,
    /// Raised by each restore of a backup.
    epoch: u64,
    /// The epoch in which no lease of an earlier one is held any more.
    settled: u64,
    /// Of the last control plane that started.
    term: u64,
    /// Objects made so far, for their uids.
    made: u64,
}

/// What the last round touched, as watchers of the store learn it.
#[derive(Debug, Default)]
struct Touched {
    services: BTreeSet<ServiceKey>,
    replicas: BTreeSet<ReplicaKey>,
}

pub(crate) struct Control {
    pub(crate) objects: Objects,
    /// `None` while it is down.
    pub(crate) running: Option<Process>,
    mutant: Option<Mutant>,
    options: LivenessOptions,
}

/// What a crash takes.
pub(crate) struct Process {
    pub(crate) state: State,
    board: Board,
    names: Names,
    vigil: Vigil,
    dirty: BTreeSet<ServiceKey>,
    touched: Touched,
    wakes: BTreeMap<ServiceKey, Timestamp>,
    links: BTreeMap<NodeName, (u64, Session)>,
    directory: Directory,
    counter: u64,
    /// Before that, leases of an earlier epoch may be held.
    leases_from_ms: u64,
    /// Plans that the lint refused, and other breaches.
    pub(crate) breaches: Vec<String>,
}

/// A message for a node, over a link.
pub(crate) type Sent = (NodeName, u64, ToNode);

impl Control {
    pub(crate) fn new(mutant: Option<Mutant>) -> Self {
        let options = LivenessOptions { grace_ms: 8_000, ..LivenessOptions::default() };
        Self { objects: Objects::default(), running: None, mutant, options }
    }

    pub(crate) fn start(&mut self, now_ms: u64, seed: u64) {
        self.objects.term += 1;
        let mut state = State::default();
        let Objects { services, revisions, replicas, nodes, .. } = &self.objects;
        for (name, node) in nodes {
            state.set_node(name, Some(node.clone()));
        }
        for (key, one) in services {
            state.set_service(key.clone(), Some(one.clone()));
        }
        for ((key, name), one) in revisions {
            state.set_revision(key, name.clone(), Some(one.clone()));
        }
        for ((key, name), one) in replicas {
            state.set_replica(key, name, Some(one.clone()));
        }
        let mut vigil = Vigil::new(self.options, now_ms);
        for name in state.nodes().keys() {
            vigil.lost(name.clone(), now_ms);
        }
        let mut board = Board::default();
        board.sync(&mut state);
        let is_settled = self.objects.settled == self.objects.epoch || self.mutant == Some(Mutant::RestoreForgets);
        let process = Process {
            dirty: state.workloads().keys().cloned().collect(),
            state,
            board,
            names: Names::new(seed),
            vigil,
            touched: Touched::default(),
            wakes: BTreeMap::new(),
            links: BTreeMap::new(),
            directory: Directory::default(),
            counter: 0,
            leases_from_ms: if is_settled { 0 } else { now_ms + LEASE_LAPSES_MS },
            breaches: Vec::new(),
        };
        self.running = Some(process);
        // As a control plane does that has heard nobody yet.
        let lost: Vec<NodeName> = self.objects.nodes.keys().cloned().collect();
        for name in lost {
            self.set_liveness(&name, liveness::lost, now_of(now_ms));
        }
    }

    pub(crate) fn crash(&mut self) {
        self.running = None;
    }

    pub(crate) fn backup(&self) -> Objects {
        self.objects.clone()
    }

    /// What came after the backup is forgotten, but for how many epochs there were, and names that nobody may have again.
    pub(crate) fn restore(&mut self, backup: Objects) {
        let (epoch, made) = (self.objects.epoch + 1, self.objects.made);
        self.objects = Objects { epoch, made, ..backup };
    }

    pub(crate) fn services(&self) -> Vec<ServiceKey> {
        self.objects.services.keys().cloned().collect()
    }

    pub(crate) fn service(&self, key: &ServiceKey) -> Option<&Arc<Service>> {
        self.objects.services.get(key)
    }

    pub(crate) fn nodes(&self) -> Vec<NodeName> {
        self.objects.nodes.keys().cloned().collect()
    }

    /// A person writes a service, or takes it away.
    pub(crate) fn write_service(&mut self, key: &ServiceKey, service: Option<Service>) {
        let service = service.map(|mut service| {
            match self.objects.services.get(key) {
                Some(before) => {
                    service.metadata = before.metadata.clone();
                    service.metadata.generation += u64::from(before.spec != service.spec);
                    service.status = before.status.clone();
                }
                None => service.metadata.uid = self.uid(),
            }
            Arc::new(service)
        });
        self.put_service(key, service);
    }

    pub(crate) fn change_node(&mut self, name: &NodeName, change: impl FnOnce(&mut NodeSpec)) {
        let Some(before) = self.objects.nodes.get(name) else { return };
        let mut node = Node::clone(before);
        change(&mut node.spec);
        self.put_node(name, Arc::new(node));
    }

    fn uid(&mut self) -> Uid {
        self.objects.made += 1;
        Uid::new(format!("u{}", self.objects.made))
    }

    // The store, and what follows it.

    fn put_service(&mut self, key: &ServiceKey, service: Option<Arc<Service>>) {
        match &service {
            Some(service) => drop(self.objects.services.insert(key.clone(), service.clone())),
            None => drop(self.objects.services.remove(key)),
        }
        if let Some(process) = &mut self.running {
            process.state.set_service(key.clone(), service);
            process.touched.services.insert(key.clone());
            process.dirty.insert(key.clone());
        }
    }

    fn put_revision(&mut self, key: &ServiceKey, name: &RevisionName, revision: Option<Arc<Revision>>) {
        let at = (key.clone(), name.clone());
        match &revision {
            Some(revision) => drop(self.objects.revisions.insert(at, revision.clone())),
            None => drop(self.objects.revisions.remove(&at)),
        }
        if let Some(process) = &mut self.running {
            process.state.set_revision(key, name.clone(), revision);
            process.dirty.insert(key.clone());
        }
    }

    fn put_replica(&mut self, key: &ServiceKey, name: &ReplicaName, replica: Option<Arc<Replica>>) {
        let at = (key.clone(), name.clone());
        match &replica {
            Some(replica) => drop(self.objects.replicas.insert(at, replica.clone())),
            None => drop(self.objects.replicas.remove(&at)),
        }
        if let Some(process) = &mut self.running {
            process.state.set_replica(key, name, replica);
            process.touched.replicas.insert(ReplicaKey { namespace: key.namespace.clone(), name: name.clone() });
            process.touched.services.insert(key.clone());
            process.dirty.insert(key.clone());
            process.dirty.extend(process.state.unplaced().iter().cloned());
        }
    }

    fn put_node(&mut self, name: &NodeName, node: Arc<Node>) {
        self.objects.nodes.insert(name.clone(), node.clone());
        if let Some(process) = &mut self.running {
            process.state.set_node(name, Some(node));
            process.dirty.extend(process.state.unplaced().iter().cloned());
            process.dirty.extend(process.state.everywhere().iter().cloned());
            let on_it: Vec<_> =
                process.state.node(name).into_iter().flat_map(|node| node.replicas.iter()).cloned().collect();
            for replica in on_it {
                if let Some(owner) = process.state.owner(&replica) {
                    process.touched.services.insert(owner.clone());
                    process.dirty.insert(owner);
                }
            }
        }
    }

    fn set_liveness(
        &mut self,
        name: &NodeName,
        next: impl FnOnce(&skiff_api::resource::NodeStatus, Timestamp) -> skiff_api::resource::NodeStatus,
        now: Timestamp,
    ) {
        let Some(before) = self.objects.nodes.get(name).cloned() else { return };
        let status = next(&before.status, now);
        if status != before.status {
            self.put_node(name, Arc::new(Node { status, ..Node::clone(&before) }));
        }
    }

    // Links.

    pub(crate) fn opened(&mut self, node: &NodeName, link: u64) {
        if let Some(process) = &mut self.running {
            process.links.insert(node.clone(), (link, Session::default()));
        }
    }

    pub(crate) fn is_link(&self, node: &NodeName, link: u64) -> bool {
        self.running.as_ref().and_then(|process| process.links.get(node)).is_some_and(|(known, _)| *known == link)
    }

    pub(crate) fn lost(&mut self, node: &NodeName, link: u64, now_ms: u64) {
        if !self.is_link(node, link) {
            return;
        }
        if let Some(process) = &mut self.running {
            process.links.remove(node);
            process.vigil.lost(node.clone(), now_ms);
        }
        self.set_liveness(node, liveness::lost, now_of(now_ms));
    }

    pub(crate) fn hear(&mut self, node: &NodeName, link: u64, message: FromNode, now_ms: u64) -> Vec<Sent> {
        if !self.is_link(node, link) {
            return Vec::new();
        }
        let now = now_of(now_ms);
        match message {
            FromNode::Hello(hello) => {
                if let Some(process) = &mut self.running {
                    process.vigil.heard(node);
                    process.state.set_lapsed(node, false);
                    if let Some((_, session)) = process.links.get_mut(node) {
                        session.hello(&hello).unwrap();
                    }
                }
                if !self.objects.nodes.contains_key(node) {
                    let mut metadata = Metadata::new(None, node.as_str());
                    metadata.uid = hello.uid.clone();
                    self.put_node(node, Arc::new(Node::new(metadata, NodeSpec::default())));
                }
                self.set_liveness(node, |status, now| liveness::hello(status, &hello, now), now);
                self.whole(node)
            }
            FromNode::Resync => self.whole(node),
            FromNode::Observed(observed) => {
                self.observed(node, observed, now);
                Vec::new()
            }
            FromNode::Lease { asked_ms } if self.grants(now_ms) => {
                vec![(node.clone(), link, ToNode::Lease { asked_ms })]
            }
            _ => Vec::new(),
        }
    }

    fn grants(&self, now_ms: u64) -> bool {
        self.running.as_ref().is_some_and(|process| process.leases_from_ms <= now_ms)
    }

    fn observed(&mut self, node: &NodeName, observed: Observed, now: Timestamp) {
        let Some(process) = &self.running else { return };
        let pending = |reason: &str| ReplicaStatus { reason: reason.to_owned(), ..ReplicaStatus::default() };
        let mut news: Vec<(ReplicaKey, ReplicaStatus)> = observed.replicas.clone();
        news.extend(observed.gone.iter().map(|key| (key.clone(), pending("Stopped"))));
        if observed.whole {
            let named: BTreeSet<&ReplicaKey> = observed.replicas.iter().map(|(key, _)| key).collect();
            let placed = process.state.node(node).into_iter().flat_map(|node| node.replicas.iter());
            let absent = placed.filter(|key| !named.contains(*key));
            news.extend(absent.map(|key| (key.clone(), pending("NotRunning"))));
        }
        let is_told = observed.fence.epoch == self.objects.epoch;
        for (key, mut status) in news {
            let Some(process) = &self.running else { return };
            let Some(owner) = process.state.owner(&key) else { continue };
            let Some(before) = process.state.replica(&key).cloned() else { continue };
            let same = |a: &ReplicaStatus, b: &ReplicaStatus| {
                (a.phase, &a.reason, a.retries, a.ended) == (b.phase, &b.reason, b.retries, b.ended)
            };
            status.ended &= before.spec.stop && is_told;
            let is_final = before.status.ended;
            if before.spec.node.as_ref() != Some(node) || is_final || same(&before.status, &status) {
                continue;
            }
            let since = if before.status.phase == status.phase { before.status.since } else { now };
            let replica = Replica { status: ReplicaStatus { since, ..status }, ..Replica::clone(&before) };
            self.put_replica(&owner, &key.name, Some(Arc::new(replica)));
        }
    }

    fn whole(&mut self, node: &NodeName) -> Vec<Sent> {
        let (epoch, term) = (self.objects.epoch, self.objects.term);
        let Some(process) = &mut self.running else { return Vec::new() };
        let Process { links, state, directory, counter, .. } = process;
        let Some((link, session)) = links.get_mut(node) else { return Vec::new() };
        let messages = session.whole(state, directory, || fence((epoch, term), counter));
        messages.into_iter().map(|message| (node.clone(), *link, message)).collect()
    }

    /// Tells nodes what changed.
    pub(crate) fn publish(&mut self) -> Vec<Sent> {
        let (epoch, term) = (self.objects.epoch, self.objects.term);
        let Some(process) = &mut self.running else { return Vec::new() };
        let Process { links, state, directory, counter, touched, .. } = process;
        let touched = std::mem::take(touched);
        directory.forget(&touched.services);
        let mut sent = Vec::new();
        for (node, (link, session)) in links {
            let known = (&*state, &mut *directory);
            let messages = session.delta(known, &touched.replicas, &touched.services, || fence((epoch, term), counter));
            sent.extend(messages.into_iter().map(|message| (node.clone(), *link, message)));
        }
        sent
    }

    // Rounds.

    /// One round: who is dead, then plans until nothing is left to plan.
    pub(crate) fn round(&mut self, now_ms: u64) {
        let now = now_of(now_ms);
        let Some(process) = &mut self.running else { return };
        for node in process.vigil.lapsed(now_ms) {
            process.dirty.extend(process.state.set_lapsed(&node, true));
        }
        if process.leases_from_ms <= now_ms {
            self.objects.settled = self.objects.epoch;
        }
        let verdict = process.vigil.verdict(&process.state, now_ms);
        for node in self.dead(verdict, now_ms) {
            self.set_liveness(&node, liveness::dead, now);
        }
        let Some(process) = &mut self.running else { return };
        let due: Vec<ServiceKey> =
            process.wakes.iter().filter(|(_, at)| **at <= now).map(|(key, _)| key.clone()).collect();
        process.dirty.extend(due);
        for _ in 0..200 {
            let Some(process) = &mut self.running else { return };
            process.board.sync(&mut process.state);
            let Some(key) = process.dirty.pop_first() else { return };
            let plan = self.planned(&key, now);
            self.carry_out(&key, plan, now);
        }
        self.breach("planning goes round in circles".to_owned());
    }

    /// Moves replicas from full nodes to emptier ones, as the balance does when all is quiet.
    pub(crate) fn rebalance(&mut self, now: Timestamp) -> usize {
        let Some(process) = &mut self.running else { return 0 };
        process.board.sync(&mut process.state);
        let set = rebalance::plan(&process.state, &process.board, Options::ASKED);
        let moves: Vec<_> = set.moves.iter().map(|one| (one.replica.clone(), one.to.clone())).collect();
        for (replica, to) in &moves {
            let Some(owner) = self.running.as_ref().and_then(|process| process.state.owner(replica)) else { continue };
            let mut plan = Plan::nothing(owner.clone());
            plan.actions.push(Action::Move { name: replica.name.clone(), to: Some(to.clone()) });
            self.carry_out(&owner, plan, now);
        }
        moves.len()
    }

    fn dead(&self, verdict: Verdict, now_ms: u64) -> Vec<NodeName> {
        if self.mutant != Some(Mutant::NoBrake) || verdict.brake.is_none() {
            return verdict.dead;
        }
        let since = |node: &Node| now_ms.saturating_sub(u64::try_from(node.status.since.as_millisecond()).unwrap_or(0));
        let suspects = self.objects.nodes.iter().filter(|(_, node)| node.status.liveness == Liveness::Suspect);
        suspects.filter(|(_, node)| since(node) > 4_000).map(|(name, _)| name.clone()).collect()
    }

    fn planned(&mut self, key: &ServiceKey, now: Timestamp) -> Plan {
        let mutant = self.mutant;
        let Some(Process { state, board, names, .. }) = &mut self.running else { return Plan::nothing(key.clone()) };
        let real = state.workload(key).and_then(|workload| workload.service.clone());
        // The planner is shown another service than there is.
        let shown = real.clone().and_then(|service| {
            let mut other = Service::clone(&service);
            match mutant {
                Some(Mutant::StopBeforeStart) => (other.spec.update.surge, other.spec.update.unavailable) = (0, 1),
                Some(Mutant::BudgetIgnored) => other.spec.update.unavailable = 100,
                _ => return None,
            }
            Some(Arc::new(other))
        });
        let is_shown = shown.is_some();
        if is_shown {
            state.set_service(key.clone(), shown);
        }
        let plan = service::plan(state, key, board, names, now);
        if is_shown {
            state.set_service(key.clone(), real);
        }
        plan
    }

    fn carry_out(&mut self, key: &ServiceKey, plan: Plan, now: Timestamp) {
        let Some(process) = &mut self.running else { return };
        match plan.wake {
            Some(at) => drop(process.wakes.insert(key.clone(), at)),
            None => drop(process.wakes.remove(key)),
        }
        if plan.is_empty() {
            return;
        }
        if self.mutant.is_none() {
            let faults = Lint::new(&process.state).check(&plan);
            if !faults.is_empty() {
                let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
                self.breach(format!("the lint refuses a plan for {key}: {}: {plan:?}", faults.join("; ")));
                return;
            }
        }
        let before = self.answering(key);
        for action in plan.actions {
            self.act(key, action, now);
        }
        self.check_budget(key, before);
    }

    /// Replicas that answer, as far as anybody can know.
    fn answering(&self, key: &ServiceKey) -> usize {
        let Some(process) = &self.running else { return 0 };
        let Some(workload) = process.state.workload(key) else { return 0 };
        let answers = |replica: &Arc<Replica>| {
            let node = replica.spec.node.as_ref().and_then(|node| process.state.node(node));
            replica.status.phase == Phase::Ready
                && workload.owns(&replica.metadata.owners)
                && node.is_some_and(|node| node.liveness() == Liveness::Alive)
        };
        workload.replicas.values().filter(|replica| answers(replica)).count()
    }

    fn check_budget(&mut self, key: &ServiceKey, before: usize) {
        let Some(service) = self.objects.services.get(key) else { return };
        if service.spec.is_exclusive() {
            return;
        }
        let wanted = service.spec.replicas.count().unwrap_or(0).saturating_sub(service.spec.update.unavailable);
        let (wanted, after) = (usize::try_from(wanted).unwrap(), self.answering(key));
        if after < before.min(wanted) {
            self.breach(format!("{key}: {after} answer where {before} did and {wanted} must"));
        }
    }

    fn breach(&mut self, what: String) {
        if let Some(process) = &mut self.running {
            process.breaches.push(what);
        }
    }

    fn act(&mut self, key: &ServiceKey, action: Action, now: Timestamp) {
        let Some(process) = &self.running else { return };
        let replica = |name: &ReplicaName| {
            process.state.workload(key).and_then(|workload| workload.replicas.get(name)).map(|one| Replica::clone(one))
        };
        match action {
            Action::CreateRevision { name, spec } => {
                let metadata = self.owned(key, name.as_str());
                self.put_revision(key, &name, Some(Arc::new(Revision::new(metadata, *spec))));
            }
            Action::DeleteRevision { name } => self.put_revision(key, &name, None),
            Action::CreateReplica { name, revision, node, status } => {
                let metadata = self.owned(key, name.as_str());
                let spec = ReplicaSpec { service: key.name.clone(), revision, node, moves_to: None, stop: false };
                let mut made = Replica::new(metadata, spec);
                made.status = status;
                self.put_replica(key, &name, Some(Arc::new(made)));
            }
            Action::Place { name, node } => {
                let Some(mut one) = replica(&name) else { return };
                one.spec.node = Some(node);
                one.status = ReplicaStatus { since: now, ..ReplicaStatus::default() };
                self.put_replica(key, &name, Some(Arc::new(one)));
            }
            Action::Explain { name, status } => {
                let Some(one) = replica(&name) else { return };
                self.put_replica(key, &name, Some(Arc::new(Replica { status, ..one })));
            }
            Action::Move { name, to } => {
                let Some(mut one) = replica(&name) else { return };
                one.spec.moves_to = to;
                self.put_replica(key, &name, Some(Arc::new(one)));
            }
            Action::StopReplica { name } => {
                let Some(mut one) = replica(&name) else { return };
                one.spec.stop = true;
                one.status.ended = self.mutant == Some(Mutant::StopAssumed);
                self.put_replica(key, &name, Some(Arc::new(one)));
            }
            Action::SetJobStatus(_) | Action::CreateJob { .. } | Action::DeleteJob { .. } => {
                unreachable!("{action:?}: there are no jobs here")
            }
            Action::DeleteReplica { name } => self.put_replica(key, &name, None),
            Action::SetStatus(status) => {
                let Some(before) = self.objects.services.get(key).cloned() else { return };
                self.put_service(key, Some(Arc::new(Service { status, ..Service::clone(&before) })));
            }
        }
    }

    fn owned(&mut self, key: &ServiceKey, name: &str) -> Metadata {
        let uid = self.objects.services.get(key).map(|service| service.metadata.uid.clone()).unwrap_or_default();
        let mut metadata = Metadata::new(Some(key.namespace.clone()), name);
        metadata.owners = vec![Owner { kind: Kind::Service, name: key.name.to_string(), uid }];
        metadata.uid = self.uid();
        metadata
    }

    /// Whether nothing is to be planned.
    pub(crate) fn is_settled(&self) -> bool {
        self.running.as_ref().is_some_and(|process| process.dirty.is_empty() && process.state.unplaced().is_empty())
    }
}

fn fence((epoch, term): (u64, u64), counter: &mut u64) -> Fence {
    *counter += 1;
    Fence { epoch, term, counter: *counter }
}

/// The simulation's clock as an instant: it begins a while after the epoch, as no clock of a control plane stands at it.
pub(crate) fn now_of(ms: u64) -> Timestamp {
    Timestamp::from_millisecond(i64::try_from(ms).unwrap()).unwrap()
}

pub(crate) fn key(name: &str) -> ServiceKey {
    ServiceKey { namespace: "default".parse::<Name>().unwrap(), name: name.parse().unwrap() }
}
