//! The state as the store has it, kept up to date from the watch.
//!
//! An object that cannot be read is reported and left out: one damaged value must not stop all other services.

use std::collections::BTreeSet;
use std::sync::Arc;

use skiff_api::resource::{
    Config, ImagePolicy, ImagePolicySpec, Job, Kind, Liveness, Namespace, Node, Object, Phase, Replica, Revision,
    Secret, Service, Spec,
};
use skiff_api::trust::RepositoryPattern;
use skiff_api::{Name, NodeName, ReplicaKey, ReplicaName, RevisionName, ServiceKey, Uid};

use crate::objects::{ObjectKey, decode, key};
use crate::plan::State;
use crate::plan::state::Values;
use crate::store::{self, Batch, Entry, List, Revision as StoreRevision, Store};
use crate::vault::Vault;

/// What a change of the store may have to do with.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Touched {
    /// To be planned.
    pub(crate) services: BTreeSet<ServiceKey>,
    /// Whose routes may differ, or who answers for them.
    pub(crate) routes: BTreeSet<ServiceKey>,
    /// Whose assignment may differ.
    pub(crate) replicas: BTreeSet<ReplicaKey>,
    /// There may be room for what had none.
    pub(crate) room: bool,
    /// Nodes came, went or changed, so load may be uneven.
    pub(crate) nodes: bool,
}

/// Reads everything, as of one revision.
pub(crate) async fn load(store: &dyn Store, vault: &Vault) -> Result<(State, StoreRevision), store::Error> {
    let listing = store.list(List::prefix(key::OBJECTS)).await?;
    let mut state = State::default();
    let mut touched = Touched::default();
    for entry in &listing.entries {
        apply_one(&mut state, vault, &entry.key, (None, Some(entry)), &mut touched);
    }
    // Later than the rest: who was removed in between is told of twice.
    for entry in store.list(List::prefix(key::REVOKED)).await?.entries {
        entry.key.strip_prefix(key::REVOKED).into_iter().for_each(|uid| state.add_removed(Uid::new(uid)));
    }
    Ok((state, listing.revision))
}

/// Brings the state to where a transaction left the store.
pub(crate) fn apply(state: &mut State, vault: &Vault, batch: &Batch, touched: &mut Touched) {
    for change in &batch.changes {
        let (before, after) = (change.before.as_ref(), change.after.as_ref());
        apply_one(state, vault, &change.key, (before, after), touched);
    }
}

fn apply_one(
    state: &mut State,
    vault: &Vault,
    key: &str,
    (before, after): (Option<&Entry>, Option<&Entry>),
    touched: &mut Touched,
) {
    let Some(key) = ObjectKey::parse(key) else { return };
    match (key.kind, &key.namespace) {
        (Kind::Service, Some(namespace)) => {
            let Ok(name) = key.name.parse::<Name>() else { return };
            let service = ServiceKey { namespace: namespace.clone(), name };
            let object = read::<Service, _>(after);
            state.set_unread(&service, after.is_some() && object.is_none());
            state.set_service(service.clone(), object);
            touched.routes.insert(service.clone());
            touched.services.insert(service);
        }
        (Kind::Job, Some(namespace)) => {
            let Ok(name) = key.name.parse::<Name>() else { return };
            let key = ServiceKey { namespace: namespace.clone(), name };
            let (before, after): (Option<Arc<Job>>, Option<Arc<Job>>) = (read(before), read(after));
            // Those that it has made go with it, and what made it counts it.
            if let Some(before) = before.as_ref().filter(|_| after.is_none()) {
                touched.services.extend(state.made_by(&key, &before.metadata.uid).map(|(made, _)| made.clone()));
            }
            let owners = before.iter().chain(&after).flat_map(|job| &job.metadata.owners);
            let owners = owners.filter_map(|owner| owner.name.parse().ok());
            touched.services.extend(owners.map(|name| ServiceKey { namespace: namespace.clone(), name }));
            state.set_job(&key, after);
            touched.services.insert(key);
        }
        (Kind::Revision, Some(namespace)) => {
            let revision: Option<Arc<Revision>> = read(after);
            let Some(owner) = revision.clone().or_else(|| read(before)) else { return };
            let service = ServiceKey { namespace: namespace.clone(), name: owner.spec.service.clone() };
            state.set_revision(&service, RevisionName::new(key.name), revision);
            if let Some(workload) = state.workload(&service) {
                let keys = workload
                    .replicas
                    .keys()
                    .map(|name| ReplicaKey { namespace: namespace.clone(), name: name.clone() });
                touched.replicas.extend(keys);
            }
            touched.services.insert(service);
        }
        (Kind::Replica, Some(namespace)) => {
            let replica: Option<Arc<Replica>> = read(after);
            let Some(owner) = replica.clone().or_else(|| read(before)) else { return };
            let service = ServiceKey { namespace: namespace.clone(), name: owner.spec.service.clone() };
            let name = ReplicaName::new(key.name);
            touched.room |= replica.is_none();
            let before = state.workload(&service).and_then(|workload| workload.replicas.get(&name)).cloned();
            if answers_on(before.as_deref()) != answers_on(replica.as_deref()) {
                touched.routes.insert(service.clone());
            }
            state.set_replica(&service, &name, replica);
            touched.replicas.insert(ReplicaKey { namespace: namespace.clone(), name });
            touched.services.insert(service);
        }
        (Kind::Node, None) => {
            let name = NodeName::new(key.name);
            // One that cannot be read is still there.
            let is_deleted = after.is_none();
            let node: Option<Arc<Node>> = read(after);
            let (before, after) = (state.node(&name).and_then(|node| node.node.clone()), node.clone());
            state.set_node(&name, node);
            if let Some(before) = before.as_ref().filter(|_| is_deleted) {
                state.add_removed(before.metadata.uid.clone());
            }
            let is_alive = state.node(&name).is_some_and(|node| node.is_alive());
            touched.room |= is_alive;
            // Its report of itself alone changes nothing for those who are there.
            let decides = |node: Option<Arc<Node>>| {
                let capacity = node.as_ref().map(|node| node.status.capacity);
                node.map(|node| (node.status.liveness, node.spec.clone(), node.metadata.labels.clone(), capacity))
            };
            let placed = || {
                let placed = state.node(&name).map(|node| &node.replicas).into_iter().flatten();
                placed.filter_map(|replica| state.owner(replica))
            };
            if reached_at(before.as_deref()) != reached_at(after.as_deref()) {
                touched.routes.extend(placed());
            }
            if decides(before) != decides(after) {
                touched.nodes = true;
                touched.services.extend(placed());
                touched.services.extend(state.everywhere().iter().cloned());
            }
        }
        (Kind::ImagePolicy, Some(namespace)) => {
            let policy: Option<Arc<ImagePolicy>> = read(after);
            // One that cannot be read asks for what nobody can have: it must not stop counting.
            let closed = || ImagePolicySpec { repositories: vec![RepositoryPattern::All], keys: Vec::new() };
            let spec = after.map(|_| policy.map_or_else(closed, |policy| policy.spec.clone()));
            touched.replicas.extend(state.set_policy(namespace, &key.name, spec));
        }
        (kind @ (Kind::Config | Kind::Secret), Some(namespace)) => {
            let Ok(name) = key.name.parse::<Name>() else { return };
            let values = match kind {
                Kind::Config => read::<Config, _>(after).map(|config| Values::Config(config.spec.data.clone())),
                _ => read::<Secret, _>(after).and_then(|secret| match vault.open(&secret) {
                    Ok(data) => Some(Values::Secret(data)),
                    Err(error) => {
                        tracing::error!(%error, %namespace, %name, "left a secret out");
                        None
                    }
                }),
            };
            touched.replicas.extend(state.set_source(namespace, (kind, name), after.map(|_| values)));
        }
        (Kind::Namespace, None) => {
            let Ok(name) = key.name.parse::<Name>() else { return };
            state.set_namespace(&name, read::<Namespace, _>(after));
            touched.room = true;
        }
        _ => {}
    }
}

/// The node on which a replica answers requests, if it does.
fn answers_on(replica: Option<&Replica>) -> Option<&NodeName> {
    replica.filter(|replica| replica.status.phase == Phase::Ready)?.spec.node.as_ref()
}

/// Where other nodes reach a node, and whether they should.
fn reached_at(node: Option<&Node>) -> Option<(Liveness, &Uid, &str, &str)> {
    let node = node?;
    let status = &node.status;
    Some((status.liveness, &node.metadata.uid, &status.peer, &status.site))
}

fn read<T, S: Spec>(entry: Option<&Entry>) -> Option<Arc<T>>
where
    T: From<Object<S>>,
{
    match decode::<S>(entry?) {
        Ok(object) => Some(Arc::new(object.into())),
        Err(error) => {
            tracing::error!(%error, "left an object out");
            None
        }
    }
}
