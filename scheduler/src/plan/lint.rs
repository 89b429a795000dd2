//! Checks every plan against what must always hold, before it is carried out.
//!
//! It knows nothing of how plans are made, so that a mistake there does not become an outage: a plan that it refuses is
//! reported and not executed. One [`Lint`] sees all plans of a round, for together they must fit, too.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use skiff_api::resource::{Phase, Placement, Resources, own_labels};
use skiff_api::{NodeName, ReplicaName, RevisionName};

use super::exclusive::{self, Standing};
use super::{Action, Plan, State};

/// What is wrong with a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It places more on a node than the node has.
    Capacity {
        node: NodeName,
    },
    /// It places on a node that is not alive.
    NodeNotAlive {
        node: NodeName,
    },
    /// It places on a node that is cordoned or drained, or that the service's placement rules out.
    NodeNotAllowed {
        node: NodeName,
    },
    /// It leaves fewer that answer than are wanted, or than there were.
    Availability {
        before: usize,
        after: usize,
        wanted: usize,
    },
    /// A replica's revision would not exist.
    NoRevision {
        replica: ReplicaName,
        revision: RevisionName,
    },
    DuplicateName {
        name: String,
    },
    /// It changes a replica or revision that is not there.
    Missing {
        name: String,
    },
    /// It makes something for a service or job that is gone.
    NoService,
    /// Another copy may run beside it, of what may run in one place only.
    Doubled {
        replica: ReplicaName,
    },
    /// It places a copy on another node than the one that has its volumes.
    AwayFromHome {
        replica: ReplicaName,
    },
    /// It forgets a copy that may run yet, of what may run in one place only.
    Forgotten {
        replica: ReplicaName,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capacity { node } => write!(f, "more is placed on {node} than it has"),
            Self::NodeNotAlive { node } => write!(f, "{node} is not alive"),
            Self::NodeNotAllowed { node } => write!(f, "the service may not be placed on {node}"),
            Self::Availability { before, after, wanted } => {
                write!(f, "{after} replicas would answer where {before} do and {wanted} are wanted")
            }
            Self::NoRevision { replica, revision } => write!(f, "{replica} would lack its revision {revision}"),
            Self::DuplicateName { name } => write!(f, "{name} would exist twice"),
            Self::Missing { name } => write!(f, "{name} does not exist"),
            Self::Doubled { replica } => write!(f, "{replica} would run beside another copy"),
            Self::AwayFromHome { replica } => write!(f, "{replica} would run without its volumes"),
            Self::Forgotten { replica } => write!(f, "{replica} would be forgotten while it may run"),
            Self::NoService => write!(f, "the service or job does not exist"),
        }
    }
}

/// The linter of one round.
pub struct Lint<'a> {
    state: &'a State,
    /// What the accepted plans of the round place.
    placed: BTreeMap<NodeName, Resources>,
}

impl<'a> Lint<'a> {
    pub fn new(state: &'a State) -> Self {
        Self { state, placed: BTreeMap::new() }
    }

    /// All that is wrong with a plan; one that is accepted counts for the next ones.
    pub fn check(&mut self, plan: &Plan) -> Vec<Fault> {
        let before: BTreeMap<&ReplicaName, Seen<'_>> = self.replicas(plan);
        let mut faults = Vec::new();
        let (after, revisions) = apply(plan, self.state, before.clone(), &mut faults);
        for (name, replica) in &after {
            if !revisions.contains_key(replica.revision) {
                let (replica, revision) = ((*name).clone(), replica.revision.clone());
                faults.push(Fault::NoRevision { replica, revision });
            }
        }
        let workload = self.state.workload(&plan.service);
        let service = workload.and_then(|workload| workload.service.as_deref());
        let job = workload.and_then(|workload| workload.job.as_deref());
        let placement = service.map(|service| &service.spec.placement).or(job.map(|job| &job.spec.placement));
        let (count, unavailable) = service.map_or((0, 0), |service| {
            // Of a service on every node, what goes follows from the nodes alone.
            (service.spec.replicas.count().unwrap_or(0), service.spec.update.unavailable)
        });
        let wanted = usize::try_from(count.saturating_sub(unavailable)).unwrap_or(usize::MAX);
        let ready = |replicas: &BTreeMap<&ReplicaName, Seen<'_>>| replicas.values().filter(|r| r.is_ready).count();
        let (ready_before, ready_after) = (ready(&before), ready(&after));
        if ready_after < wanted.min(ready_before) {
            faults.push(Fault::Availability { before: ready_before, after: ready_after, wanted });
        }
        faults.extend(self.exclusive_faults(plan, &before, &after));
        let mut more: BTreeMap<NodeName, Resources> = BTreeMap::new();
        for (name, replica) in &after {
            let newly = before.get(name).is_none_or(|before| before.node.is_none());
            let (Some(node), true) = (replica.node, newly) else { continue };
            let resources = revisions.get(replica.revision).copied().unwrap_or(Resources::ZERO);
            let sum = more.entry(node.clone()).or_insert(Resources::ZERO);
            *sum = sum.plus(resources);
        }
        for (name, more) in &more {
            faults.extend(self.node_fault(name, *more, placement));
        }
        if faults.is_empty() {
            for (name, more) in more {
                let sum = self.placed.entry(name).or_insert(Resources::ZERO);
                *sum = sum.plus(more);
            }
        }
        faults
    }

    /// The replicas that the service owns: what a deleted one left is nobody's loss.
    fn replicas<'p>(&self, plan: &'p Plan) -> BTreeMap<&'p ReplicaName, Seen<'p>>
    where
        'a: 'p,
    {
        let Some(workload) = self.state.workload(&plan.service) else { return BTreeMap::new() };
        let seen = |replica: &'a skiff_api::resource::Replica| Seen {
            revision: &replica.spec.revision,
            node: replica.spec.node.as_ref(),
            is_ready: workload.service.is_some() && workload.owns(&replica.metadata.owners) && self.answers(replica),
        };
        workload.replicas.iter().map(|(name, replica)| (name, seen(replica))).collect()
    }

    /// What is wrong with what runs in one place only: of a service that is there, and of what a deleted one has left.
    fn exclusive_faults(&self, plan: &Plan, before: &Replicas<'_>, after: &Replicas<'_>) -> Vec<Fault> {
        let Some(workload) = self.state.workload(&plan.service) else { return Vec::new() };
        let service = workload.service.as_deref();
        let is_exclusive = service.is_some_and(|service| service.spec.is_exclusive());
        let mut faults = Vec::new();
        let mut may_run = 0;
        for (name, replica) in &workload.replicas {
            let standing = exclusive::standing(self.state, workload, replica);
            let is_busy = matches!(standing, Standing::Runs | Standing::Stops(_));
            let owned = workload.owns(&replica.metadata.owners);
            let counts = owned && is_exclusive || workload.is_exclusive(replica);
            may_run += usize::from(is_busy && counts);
            if is_busy && counts && !after.contains_key(name) {
                faults.push(Fault::Forgotten { replica: name.clone() });
            }
        }
        let starts = |(name, replica): &(&&ReplicaName, &Seen<'_>)| {
            replica.node.is_some() && before.get(**name).is_none_or(|before| before.node.is_none())
        };
        let started: Vec<&ReplicaName> = after.iter().filter(starts).map(|(name, _)| *name).collect();
        let bound = service.filter(|service| service.spec.bound_by().is_some());
        if let Some(home) = bound.and_then(|service| service.status.home.as_ref()) {
            let away = |name: &&&ReplicaName| {
                let node = after.get(**name).and_then(|replica| replica.node);
                let machine = node.and_then(|node| self.state.node(node)?.node.as_ref());
                node != Some(&home.node) || machine.is_none_or(|machine| machine.metadata.uid != home.uid)
            };
            faults.extend(started.iter().filter(away).map(|name| Fault::AwayFromHome { replica: (*name).clone() }));
        }
        if is_exclusive && may_run + started.len() > 1 {
            faults.extend(started.into_iter().map(|name| Fault::Doubled { replica: (*name).clone() }));
        }
        faults
    }

    /// Whether a replica answers requests, as far as anybody can know.
    fn answers(&self, replica: &skiff_api::resource::Replica) -> bool {
        let node = replica.spec.node.as_ref().and_then(|name| self.state.node(name));
        replica.status.phase == Phase::Ready && node.is_some_and(|node| node.is_alive())
    }

    /// What is wrong with placing that much more of a service on a node.
    fn node_fault(&self, name: &NodeName, more: Resources, placement: Option<&Placement>) -> Option<Fault> {
        let Some(state) = self.state.node(name).filter(|node| node.is_alive()) else {
            return Some(Fault::NodeNotAlive { node: name.clone() });
        };
        if let (Some(node), Some(placement)) = (state.node.as_deref(), placement) {
            let own = own_labels(name.as_str(), &node.status);
            let has = |key: &str, value: &str| match own.iter().find(|(own, text)| *own == key && !text.is_empty()) {
                Some((_, text)) => text == value,
                None => node.metadata.labels.get(key).is_some_and(|text| text == value),
            };
            let open = !node.spec.unschedulable && !node.spec.draining;
            let labelled = placement.require.iter().all(|(key, value)| has(key, value));
            if !open || !labelled || placement.repelled(&node.spec.taints).is_some() {
                return Some(Fault::NodeNotAllowed { node: name.clone() });
            }
        }
        let placed = self.placed.get(name).copied().unwrap_or(Resources::ZERO);
        let sum = state.reserved.plus(placed).plus(more);
        (!state.capacity().holds(sum)).then(|| Fault::Capacity { node: name.clone() })
    }
}

#[derive(Clone)]
struct Seen<'a> {
    revision: &'a RevisionName,
    node: Option<&'a NodeName>,
    is_ready: bool,
}

type Replicas<'a> = BTreeMap<&'a ReplicaName, Seen<'a>>;
type Revisions<'a> = BTreeMap<&'a RevisionName, Resources>;

/// What would be there once the plan is done.
fn apply<'a>(
    plan: &'a Plan,
    state: &'a State,
    mut replicas: Replicas<'a>,
    faults: &mut Vec<Fault>,
) -> (Replicas<'a>, Revisions<'a>) {
    let workload = state.workload(&plan.service);
    let has_service = workload.is_some_and(|workload| workload.metadata().is_some());
    let mut revisions: Revisions<'a> = workload
        .map(|workload| workload.revisions.iter().map(|(name, r)| (name, r.template.resources)).collect())
        .unwrap_or_default();
    let mut missing = BTreeSet::new();
    for action in &plan.actions {
        let makes = matches!(
            action,
            Action::CreateReplica { .. }
                | Action::CreateRevision { .. }
                | Action::SetStatus(_)
                | Action::SetJobStatus(_)
                | Action::CreateJob { .. }
        );
        if makes && !has_service && !faults.contains(&Fault::NoService) {
            faults.push(Fault::NoService);
        }
        match action {
            Action::CreateRevision { name, spec } => {
                if revisions.insert(name, spec.template.resources).is_some() {
                    faults.push(Fault::DuplicateName { name: name.to_string() });
                }
            }
            Action::DeleteRevision { name } => {
                if revisions.remove(name).is_none() {
                    missing.insert(name.to_string());
                }
            }
            Action::CreateReplica { name, revision, node, .. } => {
                let seen = Seen { revision, node: node.as_ref(), is_ready: false };
                if replicas.insert(name, seen).is_some() {
                    faults.push(Fault::DuplicateName { name: name.to_string() });
                }
            }
            Action::Place { name, node } => match replicas.get_mut(name).filter(|replica| replica.node.is_none()) {
                Some(replica) => replica.node = Some(node),
                None => _ = missing.insert(name.to_string()),
            },
            Action::Explain { name, .. } | Action::Move { name, .. } | Action::StopReplica { name } => {
                if !replicas.contains_key(name) {
                    missing.insert(name.to_string());
                }
            }
            Action::DeleteReplica { name } => {
                if replicas.remove(name).is_none() {
                    missing.insert(name.to_string());
                }
            }
            Action::SetStatus(_) | Action::SetJobStatus(_) | Action::CreateJob { .. } | Action::DeleteJob { .. } => {}
        }
    }
    faults.extend(missing.into_iter().map(|name| Fault::Missing { name }));
    (replicas, revisions)
}

#[cfg(test)]
mod tests {
    use skiff_api::resource::ReplicaStatus;

    use super::*;
    use crate::plan::testing::{World, key, memory};

    fn world() -> World {
        let mut world = World::new();
        world.node("n", memory(10));
        world.service("cart", 1, memory(6));
        world.revision("cart", 1, memory(6));
        world.replica("cart", 1, "aaaaa", Some("n"), Phase::Ready);
        world
    }

    fn create(name: &str, revision: &str, node: &str) -> Action {
        let (name, revision) = (ReplicaName::new(name), RevisionName::new(revision));
        Action::CreateReplica { name, revision, node: Some(NodeName::new(node)), status: ReplicaStatus::default() }
    }

    #[test]
    fn one_copy_at_most_and_none_is_forgotten_that_may_run() {
        let mut world = World::new();
        world.node("n", memory(10));
        world.node("m", memory(10));
        world.service("cart", 1, memory(1));
        world.change_service("cart", |spec| spec.exclusive = true);
        world.revision_that("cart", 1, |template| template.exclusive = true);
        world.replica("cart", 1, "aaaaa", Some("n"), Phase::Failed);
        let name = || ReplicaName::new("cart-1-aaaaa");
        let goes = || Action::DeleteReplica { name: name() };
        assert_eq!(faults(&world, "cart", vec![create("b", "cart-1", "m")]), ["b would run beside another copy"]);
        assert_eq!(faults(&world, "cart", vec![goes()]), ["cart-1-aaaaa would be forgotten while it may run"]);
        // That the lease has lapsed counts for what was told to stop.
        world.state.set_lapsed(&NodeName::new("n"), true);
        assert_eq!(faults(&world, "cart", vec![goes()]).len(), 1);
        world.execute(&Plan {
            service: key("cart"),
            actions: vec![Action::StopReplica { name: name() }],
            events: Vec::new(),
            wake: None,
        });
        assert!(faults(&world, "cart", vec![goes(), create("b", "cart-1", "m")]).is_empty());
        let two = vec![goes(), create("b", "cart-1", "m"), create("c", "cart-1", "m")];
        assert_eq!(faults(&world, "cart", two).len(), 2);
        world.state.set_lapsed(&NodeName::new("n"), false);
        assert_eq!(faults(&world, "cart", vec![goes()]).len(), 1);
        // Of a deleted service, too.
        world.no_service("cart");
        assert_eq!(faults(&world, "cart", vec![goes()]).len(), 1);
    }

    fn faults(world: &World, service: &str, actions: Vec<Action>) -> Vec<String> {
        let plan = Plan { service: key(service), actions, events: Vec::new(), wake: None };
        Lint::new(&world.state).check(&plan).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_invariant_is_checked() {
        let world = world();
        let old = || ReplicaName::new("cart-1-aaaaa");
        assert!(faults(&world, "cart", vec![]).is_empty());
        assert_eq!(faults(&world, "cart", vec![create("b", "cart-1", "n")]), ["more is placed on n than it has"]);
        assert_eq!(faults(&world, "cart", vec![create("b", "cart-1", "m")]), ["m is not alive"]);
        assert_eq!(
            faults(&world, "cart", vec![Action::DeleteReplica { name: old() }]),
            ["0 replicas would answer where 1 do and 1 are wanted"]
        );
        assert_eq!(
            faults(&world, "cart", vec![Action::DeleteRevision { name: RevisionName::new("cart-1") }]),
            ["cart-1-aaaaa would lack its revision cart-1"]
        );
        assert!(faults(&world, "cart", vec![create("cart-1-aaaaa", "cart-1", "n")])[0].contains("exist twice"));
        let place = Action::Place { name: old(), node: NodeName::new("n") };
        assert_eq!(faults(&world, "cart", vec![place]), ["cart-1-aaaaa does not exist"], "it has a node already");
        assert_eq!(
            faults(&world, "cord", vec![create("b", "cart-1", "n")])[..2],
            ["the service or job does not exist", "b would lack its revision cart-1"]
        );
    }

    #[test]
    fn the_plans_of_a_round_must_fit_together() {
        let mut world = world();
        world.service("web", 1, memory(3));
        world.revision("web", 1, memory(3));
        world.service("ops", 1, memory(3));
        world.revision("ops", 1, memory(3));
        let plan = |service: &str| Plan {
            service: key(service),
            actions: vec![create("b", &format!("{service}-1"), "n")],
            events: Vec::new(),
            wake: None,
        };
        let mut lint = Lint::new(&world.state);
        assert_eq!(lint.check(&plan("web")), []);
        assert_eq!(lint.check(&plan("ops")), [Fault::Capacity { node: NodeName::new("n") }]);
    }
}
