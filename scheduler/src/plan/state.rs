//! The snapshot that plans are made from: services with all that belongs to them, and nodes with what is reserved there.
//!
//! It is kept up to date object by object, in time that depends on the object's service and not on the cluster, so that
//! ten thousand services cost no more per event than one. Objects may come in any order: a replica whose revision is not
//! there yet reserves nothing until it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use skiff_api::quantity::Timeout;
use skiff_api::resource::{
    ImagePolicySpec, Job, Liveness, Metadata, Namespace, Node, Offline, Phase, Quota, Replica, Replicas, Resources,
    Revision, SecretText, Service, Strategy, Template,
};
use skiff_api::settings::Settings;
use skiff_api::{Kind, Name, NodeName, ReplicaKey, ReplicaName, RevisionName, ServiceKey, Trust, Uid};

/// All that is known, as of one revision of the store.
#[derive(Debug, Default)]
pub struct State {
    workloads: BTreeMap<ServiceKey, Workload>,
    nodes: BTreeMap<NodeName, NodeState>,
    /// Services with a replica that no node has taken: they are planned again when there is room.
    unplaced: BTreeSet<ServiceKey>,
    /// Services that have a replica on every node: they are planned again when nodes come, change or go.
    everywhere: BTreeSet<ServiceKey>,
    namespaces: BTreeMap<Name, NamespaceState>,
    /// Replicas that are to move.
    moving: BTreeSet<ReplicaKey>,
    /// The services whose volumes a machine has.
    homes: BTreeMap<Uid, BTreeSet<Uid>>,
    /// Services that are there and cannot be read: whose volumes there are is not known.
    unread: BTreeSet<ServiceKey>,
    /// Nodes of which something changed since somebody asked.
    changed: BTreeSet<NodeName>,
    /// Machines that were removed from the cluster. It only grows.
    removed: BTreeSet<Uid>,
}

/// A namespace and what is placed of it. The object is absent while only replicas speak of it.
#[derive(Debug, Default)]
pub struct NamespaceState {
    pub object: Option<Arc<Namespace>>,
    pub placed: u32,
    pub reserved: Resources,
    policies: BTreeMap<String, ImagePolicySpec>,
    /// What its Configs and Secrets say; nothing where one cannot be read.
    sources: BTreeMap<Source, Option<Values>>,
}

/// A Config or Secret, by its kind and name.
pub type Source = (Kind, Name);

/// What a Config or Secret says, in the clear.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    Config(BTreeMap<String, String>),
    Secret(BTreeMap<String, SecretText>),
}

impl NamespaceState {
    fn is_empty(&self) -> bool {
        self.object.is_none() && self.placed == 0 && self.policies.is_empty() && self.sources.is_empty()
    }

    /// Who must have signed what a template runs.
    fn trust(&self, name: &Name, template: &Template) -> Option<Arc<Trust>> {
        let policies = self.policies.iter().map(|(name, policy)| (name.as_str(), policy));
        Trust::of(policies, &template.image, name.as_str()).map(Arc::new)
    }

    /// What a template's Configs and Secrets say.
    fn settings(&self, template: &Template) -> Settings {
        let mut settings = Settings::default();
        for (kind, name) in sources_of(template) {
            let in_env = template.env_from.contains(&name);
            let source = (kind, name);
            let keys: Vec<String> = match self.sources.get(&source) {
                Some(Some(Values::Config(data))) => {
                    settings.config.extend(data.clone());
                    data.keys().cloned().collect()
                }
                Some(Some(Values::Secret(data))) => {
                    settings.secrets.extend(data.clone());
                    data.keys().cloned().collect()
                }
                Some(None) | None => {
                    settings.missing.push(format!("{}/{}", source.0.singular(), source.1));
                    Vec::new()
                }
            };
            settings.env.extend(keys.into_iter().filter(|_| in_env));
        }
        settings
    }

    pub fn strategy(&self) -> Strategy {
        self.object.as_ref().map_or_else(Strategy::default, |namespace| namespace.spec.placement)
    }

    pub fn quota(&self) -> Quota {
        self.object.as_ref().map_or_else(Quota::default, |namespace| namespace.spec.quota)
    }
}

/// A service or job and what was made for it. Both are absent once it was deleted and the rest is still there; no
/// service has a job's name.
#[derive(Debug, Default)]
pub struct Workload {
    pub service: Option<Arc<Service>>,
    pub job: Option<Arc<Job>>,
    pub revisions: BTreeMap<RevisionName, RevisionState>,
    pub replicas: BTreeMap<ReplicaName, Arc<Replica>>,
}

/// A revision with its template in the form in which assignments share it.
#[derive(Debug, Clone)]
pub struct RevisionState {
    pub object: Arc<Revision>,
    pub template: Arc<Template>,
    /// Who must have signed its image.
    pub trust: Option<Arc<Trust>>,
    /// What its Configs and Secrets say, where it names some.
    pub settings: Option<Arc<Settings>>,
}

/// A node and what is placed on it. The node is absent while only replicas speak of it.
#[derive(Debug, Default)]
pub struct NodeState {
    pub node: Option<Arc<Node>>,
    pub replicas: BTreeSet<ReplicaKey>,
    pub reserved: Resources,
    /// It holds no lease any more: nothing runs there that may run in one place only.
    pub is_lapsed: bool,
}

impl NodeState {
    pub fn is_alive(&self) -> bool {
        self.node.as_ref().is_some_and(|node| node.status.liveness == Liveness::Alive)
    }

    pub fn liveness(&self) -> Liveness {
        self.node.as_ref().map_or(Liveness::Dead, |node| node.status.liveness)
    }

    pub fn capacity(&self) -> Resources {
        self.node.as_ref().map_or(Resources::ZERO, |node| node.status.capacity)
    }
}

impl Workload {
    fn is_empty(&self) -> bool {
        self.service.is_none() && self.job.is_none() && self.revisions.is_empty() && self.replicas.is_empty()
    }

    /// The revision with the highest number.
    pub fn newest(&self) -> Option<&RevisionState> {
        self.revisions.values().max_by_key(|revision| revision.object.spec.number)
    }

    /// What it is, as it is now.
    pub fn metadata(&self) -> Option<(Kind, &Metadata)> {
        let service = self.service.as_ref().map(|service| (Kind::Service, &service.metadata));
        service.or_else(|| self.job.as_ref().map(|job| (Kind::Job, &job.metadata)))
    }

    /// Whether an object with these owners belongs to it as it is now: not to an earlier one of its name.
    pub fn owns(&self, owners: &[skiff_api::resource::Owner]) -> bool {
        let Some((kind, metadata)) = self.metadata() else { return false };
        owners.iter().any(|owner| owner.kind == kind && owner.uid == metadata.uid)
    }

    /// Whether a replica runs only while its node holds a lease: what it was made from says so.
    pub fn is_exclusive(&self, replica: &Replica) -> bool {
        let revision = self.revisions.get(&replica.spec.revision);
        revision.is_some_and(|revision| revision.template.is_exclusive())
    }

    /// Whether a schedule made it.
    pub fn is_made_by(&self, schedule: &Uid) -> bool {
        let Some(job) = &self.job else { return false };
        job.metadata.owners.iter().any(|owner| owner.kind == Kind::Job && owner.uid == *schedule)
    }

    fn reserved_by(&self, replica: &Replica) -> Resources {
        if replica.status.ended {
            return Resources::ZERO;
        }
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

    /// Services that have a replica on every node.
    pub fn everywhere(&self) -> &BTreeSet<ServiceKey> {
        &self.everywhere
    }

    pub fn namespace(&self, name: &Name) -> Option<&NamespaceState> {
        self.namespaces.get(name)
    }

    /// Replicas that are to move.
    pub fn moving(&self) -> &BTreeSet<ReplicaKey> {
        &self.moving
    }

    /// Machines that were removed from the cluster.
    pub fn removed(&self) -> &BTreeSet<Uid> {
        &self.removed
    }

    pub fn add_removed(&mut self, uid: Uid) {
        self.removed.insert(uid);
    }

    /// The nodes of which something changed since the last call.
    pub fn take_changed(&mut self) -> BTreeSet<NodeName> {
        std::mem::take(&mut self.changed)
    }

    /// Which service a replica belongs to. Its name says so: an index of a million replicas would be larger than all else.
    pub fn owner(&self, replica: &ReplicaKey) -> Option<ServiceKey> {
        let mut parts = replica.name.as_str().rsplitn(3, '-');
        let name: Name = parts.nth(2)?.parse().ok()?;
        let key = ServiceKey { namespace: replica.namespace.clone(), name };
        self.workloads.get(&key)?.replicas.contains_key(&replica.name).then_some(key)
    }

    pub fn replica(&self, key: &ReplicaKey) -> Option<&Arc<Replica>> {
        self.workloads.get(&self.owner(key)?)?.replicas.get(&key.name)
    }

    /// Whether a machine has a replica that names this bucket as one of the cluster's.
    pub fn names_bucket(&self, machine: &Uid, namespace: &Name, bucket: &Name) -> bool {
        let is_it = |node: &&NodeState| node.node.as_ref().is_some_and(|node| node.metadata.uid == *machine);
        let Some(node) = self.nodes.values().find(is_it) else { return false };
        node.replicas.iter().filter(|replica| replica.namespace == *namespace).any(|key| {
            let template = self.owner(key).and_then(|owner| {
                let workload = self.workloads.get(&owner)?;
                let revision = &workload.replicas.get(&key.name)?.spec.revision;
                Some(workload.revisions.get(revision)?.template.clone())
            });
            template.is_some_and(|template| {
                template.keyvalue.iter().any(|grant| grant.bucket == *bucket && grant.is_clusters())
            })
        })
    }

    pub fn set_service(&mut self, key: ServiceKey, service: Option<Arc<Service>>) {
        match service.as_ref().is_some_and(|service| service.spec.replicas == Replicas::EveryNode) {
            true => self.everywhere.insert(key.clone()),
            false => self.everywhere.remove(&key),
        };
        let before = self.workloads.get(&key).and_then(|workload| workload.service.as_ref());
        if let Some((machine, service)) = before.and_then(home_of)
            && let Some(services) = self.homes.get_mut(&machine)
        {
            services.remove(&service);
            if services.is_empty() {
                self.homes.remove(&machine);
            }
        }
        if let Some((machine, service)) = service.as_ref().and_then(home_of) {
            self.homes.entry(machine).or_default().insert(service);
        }
        self.change(&key, |workload| workload.service = service);
    }

    /// Notes that a service is there and cannot be read, or can.
    pub fn set_unread(&mut self, key: &ServiceKey, is_unread: bool) {
        match is_unread {
            true => _ = self.unread.insert(key.clone()),
            false => _ = self.unread.remove(key),
        }
    }

    /// Whether it is known of all services whether they are there, so that what is nobody's may go.
    pub fn knows_all(&self) -> bool {
        self.unread.is_empty()
    }

    /// The services whose volumes are on a node, where there are some.
    pub fn volumes_on(&self, node: &NodeName) -> Option<&BTreeSet<Uid>> {
        let machine = &self.nodes.get(node)?.node.as_ref()?.metadata.uid;
        self.homes.get(machine)
    }

    pub fn set_job(&mut self, key: &ServiceKey, job: Option<Arc<Job>>) {
        self.change(key, |workload| workload.job = job);
    }

    /// The jobs that a schedule has made, the oldest first: their names begin with its own and end with their minute.
    pub fn made_by<'a>(
        &'a self,
        key: &'a ServiceKey,
        schedule: &'a Uid,
    ) -> impl Iterator<Item = (&'a ServiceKey, &'a Arc<Job>)> {
        let prefix = format!("{}-", key.name);
        let made = self.workloads.range(key.clone()..);
        let made = made.take_while(move |(other, _)| {
            other.namespace == key.namespace && other.name.as_str().starts_with(key.name.as_str())
        });
        let made = made
            .filter(move |(other, workload)| other.name.as_str().starts_with(&prefix) && workload.is_made_by(schedule));
        made.filter_map(|(other, workload)| Some((other, workload.job.as_ref()?)))
    }

    pub fn set_namespace(&mut self, name: &Name, namespace: Option<Arc<Namespace>>) {
        let state = self.namespaces.entry(name.clone()).or_default();
        state.object = namespace;
        if state.is_empty() {
            self.namespaces.remove(name);
        }
    }

    /// Sets a policy, which changes what the replicas of the namespace need to start. Answers their keys.
    pub fn set_policy(&mut self, name: &Name, policy: &str, spec: Option<ImagePolicySpec>) -> Vec<ReplicaKey> {
        let state = self.namespaces.entry(name.clone()).or_default();
        match spec {
            Some(spec) => drop(state.policies.insert(policy.to_owned(), spec)),
            None => drop(state.policies.remove(policy)),
        }
        self.refresh(name, |namespace, revision| {
            revision.trust = namespace.trust(name, &revision.template);
            true
        })
    }

    /// Sets a Config or Secret, `None` where it is gone and `Some(None)` where it cannot be read. Answers the keys of the
    /// replicas that read it.
    pub fn set_source(&mut self, name: &Name, source: Source, values: Option<Option<Values>>) -> Vec<ReplicaKey> {
        let state = self.namespaces.entry(name.clone()).or_default();
        match values {
            Some(values) => drop(state.sources.insert(source.clone(), values)),
            None => drop(state.sources.remove(&source)),
        }
        self.refresh(name, |namespace, revision| {
            let is_read = sources_of(&revision.template).any(|read| read == source);
            if is_read {
                revision.settings = Some(Arc::new(namespace.settings(&revision.template)));
            }
            is_read
        })
    }

    /// Lets each revision of a namespace have what follows from it. Answers the replicas of services of which `change` said
    /// that something may differ.
    fn refresh(
        &mut self,
        name: &Name,
        mut change: impl FnMut(&NamespaceState, &mut RevisionState) -> bool,
    ) -> Vec<ReplicaKey> {
        let Some(state) = self.namespaces.get(name) else { return Vec::new() };
        let mut replicas = Vec::new();
        for (key, workload) in self.workloads.iter_mut().filter(|(key, _)| key.namespace == *name) {
            let changed = workload.revisions.values_mut().filter_map(|revision| change(state, revision).then_some(()));
            let key = |replica: &ReplicaName| ReplicaKey { namespace: key.namespace.clone(), name: replica.clone() };
            if changed.count() > 0 {
                replicas.extend(workload.replicas.keys().map(key));
            }
        }
        if state.is_empty() {
            self.namespaces.remove(name);
        }
        replicas
    }

    pub fn set_node(&mut self, name: &NodeName, node: Option<Arc<Node>>) {
        self.changed.insert(name.clone());
        let state = self.nodes.entry(name.clone()).or_default();
        state.node = node;
        if state.node.is_none() && state.replicas.is_empty() {
            self.nodes.remove(name);
        }
    }

    /// Notes that a node's lease has lapsed, or may not have. Answers the jobs and services that this has to do with.
    pub fn set_lapsed(&mut self, name: &NodeName, is_lapsed: bool) -> Vec<ServiceKey> {
        let Some(node) = self.nodes.get_mut(name) else { return Vec::new() };
        node.is_lapsed = is_lapsed;
        let owners = self.nodes.get(name).into_iter().flat_map(|node| &node.replicas);
        let owned = owners.filter_map(|replica| Some((self.owner(replica)?, self.replica(replica)?)));
        let needs_lease = |(key, replica): &(ServiceKey, &Arc<Replica>)| {
            replica.is_task() || self.workloads.get(key).is_some_and(|workload| workload.is_exclusive(replica))
        };
        owned.filter(needs_lease).map(|(key, _)| key).collect()
    }

    pub fn set_revision(&mut self, key: &ServiceKey, name: RevisionName, revision: Option<Arc<Revision>>) {
        let placed: Vec<Arc<Replica>> = self.workloads.get(key).map_or_else(Vec::new, |workload| {
            workload.replicas.values().filter(|replica| replica.spec.revision == name).cloned().collect()
        });
        placed.iter().for_each(|replica| self.release(key, replica));
        let namespace = self.namespaces.get(&key.namespace);
        let trust = revision.as_ref().and_then(|revision| namespace?.trust(&key.namespace, &revision.spec.template));
        let reads = revision.as_ref().filter(|revision| sources_of(&revision.spec.template).next().is_some());
        let settings = reads.map(|revision| {
            let template = &revision.spec.template;
            Arc::new(namespace.map_or_else(|| NamespaceState::default().settings(template), |ns| ns.settings(template)))
        });
        self.change(key, |workload| match revision {
            Some(object) => {
                let template = Arc::new(object.spec.template.clone());
                workload.revisions.insert(name, RevisionState { object, template, trust, settings });
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
        match replica.as_ref().is_some_and(|replica| replica.spec.moves_to.is_some()) {
            true => self.moving.insert(id),
            false => self.moving.remove(&id),
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
        let reserved = workload.reserved_by(replica);
        self.changed.insert(name.clone());
        let node = self.nodes.entry(name.clone()).or_default();
        node.reserved = node.reserved.plus(reserved);
        node.replicas.insert(replica_key(key, replica));
        // What has ended is there for its log, and takes nothing.
        if replica.status.ended {
            return;
        }
        let namespace = self.namespaces.entry(key.namespace.clone()).or_default();
        namespace.placed += 1;
        namespace.reserved = namespace.reserved.plus(reserved);
    }

    fn release(&mut self, key: &ServiceKey, replica: &Replica) {
        let Some(name) = &replica.spec.node else { return };
        let Some(workload) = self.workloads.get(key) else { return };
        let reserved = workload.reserved_by(replica);
        if let Some(namespace) = self.namespaces.get_mut(&key.namespace).filter(|_| !replica.status.ended) {
            namespace.placed = namespace.placed.saturating_sub(1);
            namespace.reserved = namespace.reserved.minus(reserved);
            if namespace.is_empty() {
                self.namespaces.remove(&key.namespace);
            }
        }
        self.changed.insert(name.clone());
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.reserved = node.reserved.minus(reserved);
        node.replicas.remove(&replica_key(key, replica));
        if node.node.is_none() && node.replicas.is_empty() {
            self.nodes.remove(name);
        }
    }
}

/// The machine that has a service's volumes, and the service.
fn home_of(service: &Arc<Service>) -> Option<(Uid, Uid)> {
    let home = service.status.home.as_ref()?;
    Some((home.uid.clone(), service.metadata.uid.clone()))
}

/// The Configs and Secrets that a template names.
fn sources_of(template: &Template) -> impl Iterator<Item = Source> {
    let of = |kind: Kind, names: &[Name]| names.iter().map(|name| (kind, name.clone())).collect::<Vec<_>>();
    of(Kind::Config, &template.config).into_iter().chain(of(Kind::Secret, &template.secrets))
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
    /// Its node is dead, and its service does not wait for it any longer.
    Lost,
    /// On its way, or stopping.
    Starting,
    /// It was ready when its node was last heard: it may well serve.
    Unknown,
    Ready,
}

impl Health {
    /// `offline` says how long the service waits for a node; one that is dead was last heard
    /// [`Offline::REPLACE_AFTER_MIN`] before.
    pub fn of(replica: &Replica, state: &State, offline: &Offline, now: Timestamp) -> Self {
        let Some(name) = &replica.spec.node else { return Self::Unplaced };
        let node = state.node(name);
        if given_up_at(node, offline).is_some_and(|at| at <= now) {
            return Self::Lost;
        }
        match replica.status.phase {
            Phase::Ready if node.is_some_and(NodeState::is_alive) => Self::Ready,
            Phase::Ready => Self::Unknown,
            Phase::Failed | Phase::Succeeded => Self::Failed,
            Phase::Pending | Phase::Pulling | Phase::Compiling | Phase::Stopping => Self::Starting,
        }
    }

    /// Whether it answers requests, as far as is known.
    pub fn serves(self) -> bool {
        matches!(self, Self::Ready | Self::Unknown)
    }
}

/// When a service gives up what is on a node, if it ever does: at once for one that is no object any more.
pub fn given_up_at(node: Option<&NodeState>, offline: &Offline) -> Option<Timestamp> {
    let Some(node) = node.and_then(|node| node.node.as_ref()) else { return Some(Timestamp::MIN) };
    if node.status.liveness != Liveness::Dead {
        return None;
    }
    let Timeout::After(span) = offline.replace_after else { return None };
    let more = span.as_ms().saturating_sub(Offline::REPLACE_AFTER_MIN.as_ms());
    let more = SignedDuration::from_millis(i64::try_from(more).unwrap_or(i64::MAX));
    Some(node.status.since.checked_add(more).unwrap_or(Timestamp::MAX))
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
    fn policies_change_what_revisions_need_in_any_order() {
        const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----";
        let policy = |repositories: &str| ImagePolicySpec {
            repositories: vec![repositories.parse().unwrap()],
            keys: vec![KEY.parse().unwrap()],
        };
        let mut world = World::new();
        let default = crate::plan::testing::key("x").namespace;
        let trust = |world: &World| {
            let workload = world.state.workload(&crate::plan::testing::key("cart")).unwrap();
            workload.newest().unwrap().trust.as_ref().map(|trust| trust.policies.len())
        };
        world.state.set_policy(&default, "all", Some(policy("*")));
        world.service("cart", 1, memory(1));
        world.revision("cart", 1, memory(1));
        world.replica("cart", 1, "aaaaa", Some("n"), Phase::Ready);
        assert_eq!(trust(&world), Some(1));
        let touched = world.state.set_policy(&default, "all", Some(policy("other/*")));
        assert_eq!((trust(&world), touched.len()), (Some(0), 1), "no policy covers it, so it may not run");
        world.state.set_policy(&default, "all", None);
        assert_eq!(trust(&world), None);
    }

    #[test]
    fn settings_follow_their_sources_in_any_order() {
        let mut world = World::new();
        let default = crate::plan::testing::key("x").namespace;
        let source = |kind, name: &str| (kind, name.parse::<Name>().unwrap());
        let data = |value: &str| BTreeMap::from([("REGION".to_owned(), value.to_owned())]);
        world.service("cart", 1, memory(1));
        world.revision_that("cart", 1, |template| {
            template.config = vec!["app".parse().unwrap()];
            template.secrets = vec!["stripe".parse().unwrap()];
            template.env_from = template.config.clone();
        });
        world.replica("cart", 1, "aaaaa", Some("n"), Phase::Ready);
        let settings = |world: &World| {
            let workload = world.state.workload(&crate::plan::testing::key("cart")).unwrap();
            workload.newest().unwrap().settings.clone().unwrap()
        };
        assert_eq!(settings(&world).missing, ["config/app", "secret/stripe"]);
        let told =
            world.state.set_source(&default, source(Kind::Config, "app"), Some(Some(Values::Config(data("eu")))));
        assert_eq!((told.len(), settings(&world).missing.len()), (1, 1));
        let secret = Values::Secret(BTreeMap::from([("KEY".to_owned(), SecretText::new("x"))]));
        world.state.set_source(&default, source(Kind::Secret, "stripe"), Some(Some(secret)));
        let all = settings(&world);
        assert_eq!(all.all().collect::<Vec<_>>(), [("REGION", "eu"), ("KEY", "x")]);
        assert_eq!(all.variables().collect::<Vec<_>>(), [("REGION", "eu")]);
        let other = world.state.set_source(&default, source(Kind::Secret, "other"), Some(None));
        assert!(other.is_empty(), "nobody reads it");
        world.state.set_source(&default, source(Kind::Secret, "stripe"), Some(None));
        assert_eq!(settings(&world).missing, ["secret/stripe"], "it is there, and cannot be read");
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
        assert!(world.state.namespaces.is_empty() && world.state.moving.is_empty());
    }
}
