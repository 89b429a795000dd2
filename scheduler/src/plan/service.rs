//! One step for one service: revision, rollout, placement and status put together.
//!
//! Order of concerns: what an earlier service of the same name left behind goes first, replicas before the revisions
//! they were made from; only then is anything made. A service that is gone is left to the same rule.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use skiff_api::resource::{EventType, Kind, ObjectRef, Phase, ReplicaStatus, Resources, Service};
use skiff_api::{NodeName, ReplicaName, RevisionName, ServiceKey};

use super::placement::{Choice, NoNodeFits};
use super::revision::{self, Target};
use super::rollout::{self, STEP_MAX, Why};
use super::state::Health;
use super::status::{self, READY, Seen};
use super::{Action, Board, Names, Plan, PlannedEvent, State, Workload};

/// The reason of a replica that no node takes.
pub const NO_NODE_FITS: &str = "NoNodeFits";

/// The next step for a service. `board` is shared by the plans of one round; `now` dates what changes.
pub fn plan(state: &State, key: &ServiceKey, board: &mut Board, names: &mut Names, now: Timestamp) -> Plan {
    let Some(workload) = state.workload(key) else { return Plan::nothing(key.clone()) };
    let leftovers = clear(key, workload);
    match &workload.service {
        Some(service) if leftovers.is_empty() => {
            let builder = Builder {
                state,
                key,
                workload,
                service,
                target: revision::target(key, service, workload),
                now,
                plan: Plan::nothing(key.clone()),
                made: Vec::new(),
                changed: BTreeMap::new(),
            };
            builder.build(board, names)
        }
        _ => leftovers,
    }
}

/// Removes what the service does not own.
fn clear(key: &ServiceKey, workload: &Workload) -> Plan {
    let mut plan = Plan::nothing(key.clone());
    let foreign: Vec<&ReplicaName> = (workload.replicas.iter())
        .filter(|(_, replica)| !workload.owns(&replica.metadata.owners))
        .map(|(name, _)| name)
        .collect();
    for name in foreign.iter().take(STEP_MAX) {
        plan.actions.push(Action::DeleteReplica { name: (*name).clone() });
        plan.events.push(removed(key, name, "its service was deleted"));
    }
    if foreign.is_empty() {
        let revisions =
            workload.revisions.iter().filter(|(_, revision)| !workload.owns(&revision.object.metadata.owners));
        let delete = |(name, _): (&RevisionName, _)| Action::DeleteRevision { name: name.clone() };
        plan.actions.extend(revisions.take(STEP_MAX).map(delete));
    }
    plan
}

/// A plan in the making, for a service that is there.
struct Builder<'a> {
    state: &'a State,
    key: &'a ServiceKey,
    workload: &'a Workload,
    service: &'a Service,
    target: Target,
    now: Timestamp,
    plan: Plan,
    /// Replicas that this plan creates.
    made: Vec<(ReplicaName, Option<NodeName>, ReplicaStatus)>,
    /// Replicas that wait for room, as this plan leaves them.
    changed: BTreeMap<ReplicaName, (Option<NodeName>, ReplicaStatus)>,
}

impl Builder<'_> {
    fn build(mut self, board: &mut Board, names: &mut Names) -> Plan {
        if let Target::Create { name, spec } = self.target.clone() {
            let message = format!("created revision {name} with image {}", spec.template.image);
            self.event(EventType::Normal, "RevisionCreated", message);
            self.plan.actions.push(Action::CreateRevision { name, spec });
        }
        let step = rollout::plan(self.wanted(), self.target.number(), &self.copies());
        self.report_scaling();
        let removed: BTreeSet<ReplicaName> = step.remove.iter().map(|removal| removal.name.clone()).collect();
        let mut siblings = self.siblings();
        self.place_waiting(board, &mut siblings, &removed);
        self.create(step.create, board, &mut siblings, names);
        self.remove(step.remove);
        let expired = revision::expired(self.workload, &self.target);
        self.plan.actions.extend(expired.into_iter().take(STEP_MAX).map(|name| Action::DeleteRevision { name }));
        self.set_status(&removed);
        self.plan
    }

    fn wanted(&self) -> usize {
        usize::try_from(self.service.spec.replicas).unwrap_or(usize::MAX)
    }

    fn number(&self, revision: &RevisionName) -> u64 {
        self.workload.revisions.get(revision).map_or(0, |revision| revision.object.spec.number)
    }

    fn copies(&self) -> Vec<rollout::Member> {
        let copy = |(name, replica): (&ReplicaName, &std::sync::Arc<skiff_api::resource::Replica>)| rollout::Member {
            name: name.clone(),
            number: self.number(&replica.spec.revision),
            health: Health::of(replica, self.state),
        };
        self.workload.replicas.iter().map(copy).collect()
    }

    fn siblings(&self) -> BTreeMap<NodeName, usize> {
        let mut siblings = BTreeMap::new();
        for node in self.workload.replicas.values().filter_map(|replica| replica.spec.node.clone()) {
            *siblings.entry(node).or_default() += 1;
        }
        siblings
    }

    /// Says that the wanted number changed, once for each change of the spec.
    fn report_scaling(&mut self) {
        let status = &self.service.status;
        let is_news = status.observed_generation != self.service.metadata.generation;
        let same_revision = status.revision.as_ref() == Some(self.target.name());
        let (before, wanted) = (status.updated, self.service.spec.replicas);
        if is_news && same_revision && before != wanted {
            self.event(EventType::Normal, "Scaled", format!("scaled from {before} to {wanted} replicas"));
        }
    }

    /// Tries again for replicas that no node took before.
    fn place_waiting(
        &mut self,
        board: &mut Board,
        siblings: &mut BTreeMap<NodeName, usize>,
        removed: &BTreeSet<ReplicaName>,
    ) {
        let waiting: Vec<_> = (self.workload.replicas.iter())
            .filter(|(name, replica)| replica.spec.node.is_none() && !removed.contains(name))
            .take(STEP_MAX)
            .collect();
        for (name, replica) in waiting {
            match place(board, siblings, self.workload_resources(&replica.spec.revision)) {
                Ok(choice) => {
                    let node = choice.score.node.clone();
                    self.report_placed(name, &choice);
                    self.plan.actions.push(Action::Place { name: name.clone(), node: node.clone() });
                    self.changed.insert(name.clone(), (Some(node), ReplicaStatus::default()));
                }
                Err(refused) if replica.status.message != refused.to_string() => {
                    let status = self.refused(name, &refused);
                    self.plan.actions.push(Action::Explain { name: name.clone(), status: status.clone() });
                    self.changed.insert(name.clone(), (None, status));
                }
                Err(_) => {}
            }
        }
    }

    fn create(&mut self, count: usize, board: &mut Board, siblings: &mut BTreeMap<NodeName, usize>, names: &mut Names) {
        let mut taken: BTreeSet<ReplicaName> = self.workload.replicas.keys().cloned().collect();
        for _ in 0..count {
            let name = names.replica(&self.key.name, self.target.number(), &taken);
            taken.insert(name.clone());
            let (node, status) = match place(board, siblings, self.service.spec.resources) {
                Ok(choice) => {
                    self.report_placed(&name, &choice);
                    let status = ReplicaStatus { since: self.now, ..ReplicaStatus::default() };
                    (Some(choice.score.node), status)
                }
                Err(refused) => (None, self.refused(&name, &refused)),
            };
            let revision = self.target.name().clone();
            let (planned, planned_status) = (node.clone(), status.clone());
            self.plan.actions.push(Action::CreateReplica { name: name.clone(), revision, node, status });
            self.made.push((name, planned, planned_status));
        }
    }

    fn remove(&mut self, removals: Vec<rollout::Removal>) {
        for rollout::Removal { name, why } in removals {
            let why = match why {
                Why::Surplus => format!("{} replicas are wanted", self.service.spec.replicas),
                Why::Replaced => format!("{} replaces it", self.target.name()),
            };
            self.plan.events.push(removed(self.key, &name, &why));
            self.plan.actions.push(Action::DeleteReplica { name });
        }
    }

    fn workload_resources(&self, revision: &RevisionName) -> Resources {
        self.workload
            .revisions
            .get(revision)
            .map_or(self.service.spec.resources, |revision| revision.template.resources)
    }

    fn report_placed(&mut self, name: &ReplicaName, choice: &Choice) {
        let message = format!("placed on {}: {choice}", choice.score.node);
        self.plan.events.push(PlannedEvent {
            regarding: ObjectRef { kind: Kind::Replica, name: name.to_string() },
            event_type: EventType::Normal,
            reason: "Placed",
            message,
        });
    }

    fn refused(&mut self, name: &ReplicaName, refused: &NoNodeFits) -> ReplicaStatus {
        self.plan.events.push(PlannedEvent {
            regarding: ObjectRef { kind: Kind::Replica, name: name.to_string() },
            event_type: EventType::Warning,
            reason: NO_NODE_FITS,
            message: refused.to_string(),
        });
        ReplicaStatus {
            phase: Phase::Pending,
            reason: NO_NODE_FITS.to_owned(),
            message: refused.to_string(),
            since: self.now,
            retries: 0,
        }
    }

    fn event(&mut self, event_type: EventType, reason: &'static str, message: String) {
        let regarding = ObjectRef { kind: Kind::Service, name: self.key.name.to_string() };
        self.plan.events.push(PlannedEvent { regarding, event_type, reason, message });
    }

    /// The status as it will be when this plan is done, so that one step takes one write.
    fn set_status(&mut self, removed: &BTreeSet<ReplicaName>) {
        let mut seen = Vec::new();
        for (name, replica) in self.workload.replicas.iter().filter(|(name, _)| !removed.contains(*name)) {
            let is_updated = self.target.name() == &replica.spec.revision;
            seen.push(match self.changed.get(name) {
                Some((node, status)) => Seen { name: name.as_str(), is_updated, health: waiting(node), status },
                None => {
                    let health = Health::of(replica, self.state);
                    Seen { name: name.as_str(), is_updated, health, status: &replica.status }
                }
            });
        }
        for (name, node, status) in &self.made {
            seen.push(Seen { name: name.as_str(), is_updated: true, health: waiting(node), status });
        }
        seen.sort_unstable_by_key(|replica| replica.name);
        let status = status::status(self.service, self.target.name(), &seen, self.now);
        if status == self.service.status {
            return;
        }
        let became = |status: &skiff_api::resource::ServiceStatus| status.condition(READY).is_some_and(|c| c.status);
        let message = status.condition(READY).map(|condition| condition.message.clone()).unwrap_or_default();
        if became(&status) && !became(&self.service.status) {
            self.event(EventType::Normal, READY, message);
        }
        self.plan.actions.push(Action::SetStatus(status));
    }
}

/// The health of a replica that has just got its node, or has none.
fn waiting(node: &Option<NodeName>) -> Health {
    match node {
        Some(_) => Health::Starting,
        None => Health::Unplaced,
    }
}

fn place(board: &mut Board, siblings: &mut BTreeMap<NodeName, usize>, wanted: Resources) -> Result<Choice, NoNodeFits> {
    let choice = board.place(wanted, siblings)?;
    *siblings.entry(choice.score.node.clone()).or_default() += 1;
    Ok(choice)
}

fn removed(key: &ServiceKey, name: &ReplicaName, why: &str) -> PlannedEvent {
    PlannedEvent {
        regarding: ObjectRef { kind: Kind::Service, name: key.name.to_string() },
        event_type: EventType::Normal,
        reason: "ReplicaRemoved",
        message: format!("removed {name}: {why}"),
    }
}
