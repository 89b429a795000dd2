//! What each node should run and answer for, and what of that a link has not been told yet.
//!
//! A [`Told`] is one link's memory: what was sent on it. Changes name the replicas and services they touch, and only
//! those are compared, so that a change costs the same with ten services as with ten thousand. Of an assignment nothing
//! changes once it was made (its revision is immutable and its uid its own) but who must have signed its image, what its
//! Configs and Secrets say, and that it is to stop.

use std::collections::BTreeMap;
use std::sync::Arc;

use skiff_api::resource::{Replica, Template};
use skiff_api::settings::Settings;
use skiff_api::wire::{Assignment, ServiceRoutes, Task};
use skiff_api::{NodeName, ReplicaKey, ServiceKey, Trust, Uid};

use super::endpoints::{Directory, Listener};
use super::{State, Workload};

/// The assignment of a replica, if it is placed on that node and its revision is known.
pub fn assignment(state: &State, node: &NodeName, key: &ReplicaKey) -> Option<Assignment> {
    let owner = state.owner(key)?;
    let workload = state.workload(&owner)?;
    let replica = workload.replicas.get(&key.name)?;
    if replica.spec.node.as_ref() != Some(node) {
        return None;
    }
    let revision = workload.revisions.get(&replica.spec.revision)?;
    Some(Assignment {
        replica: key.clone(),
        uid: replica.metadata.uid.clone(),
        service: owner.name.clone(),
        revision: replica.spec.revision.clone(),
        template: revision.template.clone(),
        trust: revision.trust.clone(),
        settings: revision.settings.clone(),
        task: replica.is_task().then(|| task(workload, replica)),
        stop: replica.spec.stop && !replica.is_task(),
        owner: owner_of(&revision.template, replica),
    })
}

/// Whose its volumes are, where it has some that have a name.
fn owner_of(template: &Template, replica: &Replica) -> Option<Uid> {
    let has_some = template.volumes.iter().any(|volume| volume.name.is_some());
    has_some.then(|| replica.metadata.owners.first().map(|owner| owner.uid.clone()))?
}

fn task(workload: &Workload, replica: &Replica) -> Task {
    let job = workload.job.as_ref().map(|job| &job.spec);
    Task { stop: replica.spec.stop, attach: job.is_some_and(|job| job.attach), tty: job.is_some_and(|job| job.tty) }
}

/// What of an assignment may differ the next time.
type Assigned = (Uid, Option<Arc<Trust>>, Option<Arc<Settings>>, Option<Task>, bool);

/// What one link was told.
#[derive(Debug, Default)]
pub struct Told {
    assigned: BTreeMap<ReplicaKey, Assigned>,
    /// By the print of what was said.
    routed: BTreeMap<ServiceKey, u64>,
}

/// What differs from what was told.
#[derive(Debug, Clone, PartialEq)]
pub struct Delta<K, V> {
    pub upsert: Vec<V>,
    pub remove: Vec<K>,
}

impl<K, V> Delta<K, V> {
    pub fn is_empty(&self) -> bool {
        self.upsert.is_empty() && self.remove.is_empty()
    }
}

impl Told {
    /// Everything, as though nothing had been told.
    pub fn whole(
        state: &State,
        directory: &mut Directory,
        listener: &Listener,
    ) -> (Self, Vec<Assignment>, Vec<ServiceRoutes>) {
        let (mut told, node) = (Self::default(), &listener.node);
        let placed: Vec<ReplicaKey> =
            state.node(node).map_or_else(Vec::new, |node| node.replicas.iter().cloned().collect());
        let assigned = told.assign(state, node, placed);
        let routed = told.route(state, directory, listener, state.workloads().keys());
        (told, assigned.upsert, routed.upsert)
    }

    /// The difference for these replicas, which counts as told from now on.
    pub fn assign(
        &mut self,
        state: &State,
        node: &NodeName,
        touched: impl IntoIterator<Item = ReplicaKey>,
    ) -> Delta<ReplicaKey, Assignment> {
        let mut delta = Delta { upsert: Vec::new(), remove: Vec::new() };
        for key in touched {
            match assignment(state, node, &key) {
                Some(assignment) => {
                    let Assignment { uid, trust, settings, task, stop, .. } = &assignment;
                    let now = (uid.clone(), trust.clone(), settings.clone(), *task, *stop);
                    if self.assigned.insert(key, now.clone()) != Some(now) {
                        delta.upsert.push(assignment);
                    }
                }
                None if self.assigned.remove(&key).is_some() => delta.remove.push(key),
                None => {}
            }
        }
        delta
    }

    /// The difference for these services' routes, which counts as told from now on.
    pub fn route<'a>(
        &mut self,
        state: &State,
        directory: &mut Directory,
        listener: &Listener,
        touched: impl IntoIterator<Item = &'a ServiceKey>,
    ) -> Delta<ServiceKey, ServiceRoutes> {
        let mut delta = Delta { upsert: Vec::new(), remove: Vec::new() };
        for key in touched {
            match directory.entry(state, key, listener) {
                Some(entry) => {
                    let before = self.routed.insert(key.clone(), entry.print);
                    if before != Some(entry.print) {
                        delta.upsert.push(entry.routes(key));
                    }
                }
                None if self.routed.remove(key).is_some() => delta.remove.push(key.clone()),
                None => {}
            }
        }
        delta
    }
}

#[cfg(test)]
mod tests {
    use skiff_api::ReplicaName;
    use skiff_api::resource::Phase;

    use super::*;
    use crate::plan::testing::{World, key, memory};

    fn replica(name: &str) -> ReplicaKey {
        ReplicaKey { namespace: key("x").namespace, name: ReplicaName::new(name) }
    }

    fn listener() -> Listener {
        Listener { node: NodeName::new("n"), site: String::new(), has_peers: true }
    }

    fn route(told: &mut Told, world: &World, service: &str) -> Delta<ServiceKey, ServiceRoutes> {
        told.route(&world.state, &mut Directory::default(), &listener(), [&key(service)])
    }

    #[test]
    fn a_change_is_told_once() {
        let mut world = World::new();
        let node = NodeName::new("n");
        world.node("n", memory(10));
        world.service("cart", 1, memory(1));
        let (mut told, assigned, routed) = Told::whole(&world.state, &mut Directory::default(), &listener());
        assert_eq!((assigned.len(), routed.len()), (0, 1));
        assert_eq!(routed[0].routes[0].host.as_deref(), Some("cart.default.localhost"));

        // Without its revision a replica cannot run; with it, it is told.
        world.replica("cart", 1, "aaaaa", Some("n"), Phase::Pending);
        let touched = || [replica("cart-1-aaaaa")];
        assert!(told.assign(&world.state, &node, touched()).is_empty());
        world.revision("cart", 1, memory(1));
        assert_eq!(told.assign(&world.state, &node, touched()).upsert.len(), 1);
        assert!(told.assign(&world.state, &node, touched()).is_empty());

        // A new phase is nothing to tell, another node is.
        world.replica("cart", 1, "aaaaa", Some("n"), Phase::Ready);
        assert!(told.assign(&world.state, &node, touched()).is_empty());
        world.replica("cart", 1, "aaaaa", Some("m"), Phase::Ready);
        assert_eq!(told.assign(&world.state, &node, touched()).remove, touched());

        assert!(route(&mut told, &world, "cart").is_empty(), "a node that has no port for others is no news");
        world.node("m", memory(10));
        world.change_node("m", |node| node.status.peer = "m:1".to_owned());
        assert_eq!(route(&mut told, &world, "cart").upsert[0].endpoints[0].address, "m:1");
        assert!(route(&mut told, &world, "cart").is_empty());
        world.suspect("m");
        assert!(route(&mut told, &world, "cart").upsert[0].endpoints[0].suspect);
        world.no_service("cart");
        assert_eq!(route(&mut told, &world, "cart").remove, [key("cart")]);
    }

    #[test]
    fn the_whole_is_what_deltas_add_up_to() {
        let mut world = World::new();
        let node = NodeName::new("n");
        world.node("n", memory(10));
        let mut told = Told::default();
        for service in ["a", "b", "c"] {
            world.service(service, 1, memory(1));
            world.revision(service, 1, memory(1));
            world.replica(service, 1, "aaaaa", Some(if service == "b" { "m" } else { "n" }), Phase::Pending);
            told.assign(&world.state, &node, [replica(&format!("{service}-1-aaaaa"))]);
            route(&mut told, &world, service);
        }
        let (whole, assigned, routed) = Told::whole(&world.state, &mut Directory::default(), &listener());
        assert_eq!((assigned.len(), routed.len()), (2, 3));
        assert_eq!((whole.assigned, whole.routed), (told.assigned, told.routed));
    }
}
