//! One step for one service: revision, rollout, placement and status put together.
//!
//! Order of concerns: what an earlier service of the same name left behind goes first, replicas before the revisions
//! they were made from; only then is anything made. A service that is gone is left to the same rule.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use skiff_api::resource::{
    EventType, Kind, ObjectRef, Phase, Placement, Replica, ReplicaStatus, Replicas, Resources, Service, Strategy,
};
use skiff_api::{NodeName, ReplicaName, RevisionName, ServiceKey};

use super::board::{Access, Ask, Peers, Refusal};
use super::everywhere::{self, Standing};
use super::exclusive;
use super::placement::{self, Choice, Waits};
use super::revision::{self, Target};
use super::rollout::{self, Budget, STEP_MAX, Why};
use super::state::{self, Health};
use super::status::{self, Blocked, READY, Seen};
use super::{Action, Board, Names, Plan, PlannedEvent, State, Workload, job};

mod one;

/// The next step for a service or job. `board` is shared by the plans of one round; `now` dates what changes.
pub fn plan(state: &State, key: &ServiceKey, board: &mut Board, names: &mut Names, now: Timestamp) -> Plan {
    let Some(workload) = state.workload(key) else { return Plan::nothing(key.clone()) };
    let (leftovers, is_clear) = clear(state, key, workload);
    match (&workload.service, &workload.job) {
        _ if !is_clear => leftovers,
        (Some(service), _) => Builder::new(state, key, workload, (Kind::Service, service), now).build(board, names),
        (None, Some(job)) => job::plan((state, key, workload), job, (board, names), now),
        (None, None) => leftovers,
    }
}

/// Removes what the service or job does not own, and answers whether there is nothing of it. What may run in one place only
/// has ended before it goes: whoever has its name next may have its place, too.
fn clear(state: &State, key: &ServiceKey, workload: &Workload) -> (Plan, bool) {
    let mut plan = Plan::nothing(key.clone());
    let foreign: Vec<_> =
        workload.replicas.iter().filter(|(_, replica)| !workload.owns(&replica.metadata.owners)).collect();
    for (name, replica) in foreign.iter().take(STEP_MAX) {
        let kind = if replica.is_task() { Kind::Job } else { Kind::Service };
        let why = format!("its {} was deleted", kind.singular());
        match exclusive::standing(state, workload, replica) {
            exclusive::Standing::Runs if workload.is_exclusive(replica) => {
                plan.actions.push(Action::StopReplica { name: (*name).clone() });
                plan.events.push(stopping(kind, key, name, &why));
            }
            exclusive::Standing::Stops(_) if workload.is_exclusive(replica) => {}
            _ => {
                plan.actions.push(Action::DeleteReplica { name: (*name).clone() });
                plan.events.push(removed(kind, key, name, &why));
            }
        }
    }
    if foreign.is_empty() {
        let revisions =
            workload.revisions.iter().filter(|(_, revision)| !workload.owns(&revision.object.metadata.owners));
        let delete = |(name, _): (&RevisionName, _)| Action::DeleteRevision { name: name.clone() };
        plan.actions.extend(revisions.take(STEP_MAX).map(delete));
    }
    let is_clear = foreign.is_empty() && plan.is_empty();
    (plan, is_clear)
}

/// A plan in the making, for a service that is there, or a job that is looked at as one.
pub(super) struct Builder<'a> {
    pub(super) state: &'a State,
    pub(super) key: &'a ServiceKey,
    pub(super) workload: &'a Workload,
    /// What it is.
    kind: Kind,
    service: &'a Service,
    pub(super) target: Target,
    pub(super) now: Timestamp,
    pub(super) plan: Plan,
    /// How many replicas there should be.
    wanted: usize,
    /// Replicas that this plan creates.
    pub(super) made: Vec<(ReplicaName, Option<NodeName>, ReplicaStatus)>,
    /// Replicas that wait for room, as this plan leaves them.
    changed: BTreeMap<ReplicaName, (Option<NodeName>, ReplicaStatus)>,
    /// Why a replica that should be there cannot be made.
    blocked: Option<Blocked>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(
        state: &'a State,
        key: &'a ServiceKey,
        workload: &'a Workload,
        (kind, service): (Kind, &'a Service),
        now: Timestamp,
    ) -> Self {
        Self {
            state,
            key,
            workload,
            kind,
            service,
            target: revision::target(key, service.spec.template(), workload),
            now,
            plan: Plan::nothing(key.clone()),
            wanted: 0,
            made: Vec::new(),
            changed: BTreeMap::new(),
            blocked: None,
        }
    }

    fn build(mut self, board: &mut Board, names: &mut Names) -> Plan {
        self.make_revision();
        let mut peers = self.peers(board);
        let removals = match self.service.spec.replicas {
            Replicas::Count(wanted) if self.service.spec.is_exclusive() => {
                self.one_at_most(wanted, board, &mut peers, names)
            }
            Replicas::Count(wanted) => {
                self.wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
                self.report_scaling(wanted);
                let budget = Budget::from(&self.service.spec.update);
                let step = rollout::plan(self.wanted, self.target.number(), budget, &self.members());
                let removed = step.remove.iter().map(|removal| removal.name.clone()).collect();
                self.place_waiting(board, &mut peers, &removed);
                self.create(step.create, board, &mut peers, names);
                step.remove
            }
            Replicas::EveryNode => self.cover(board, &mut peers, names),
        };
        let removed: BTreeSet<ReplicaName> = removals.iter().map(|removal| removal.name.clone()).collect();
        self.remove(removals);
        self.drop_revisions();
        self.set_status(&removed);
        self.plan
    }

    /// Makes the revision that is wanted, where it is not there.
    pub(super) fn make_revision(&mut self) {
        if let Target::Create { name, spec } = self.target.clone() {
            let message = format!("created revision {name} with image {}", spec.template.image);
            self.event(EventType::Normal, "RevisionCreated", message);
            self.plan.actions.push(Action::CreateRevision { name, spec });
        }
    }

    /// Drops those that are no longer kept.
    pub(super) fn drop_revisions(&mut self) {
        let expired = revision::expired(self.workload, &self.target);
        self.plan.actions.extend(expired.into_iter().take(STEP_MAX).map(|name| Action::DeleteRevision { name }));
    }

    fn placement(&self) -> &Placement {
        &self.service.spec.placement
    }

    fn strategy(&self) -> Strategy {
        self.state.namespace(&self.key.namespace).map_or_else(Strategy::default, state::NamespaceState::strategy)
    }

    fn number(&self, revision: &RevisionName) -> u64 {
        self.workload.revisions.get(revision).map_or(0, |revision| revision.object.spec.number)
    }

    fn health(&self, replica: &Replica) -> Health {
        Health::of(replica, self.state, &self.service.spec.offline, self.now)
    }

    /// The health of a replica for whatever is taken away because of it: one that has just become ready may fail yet.
    fn proven_health(&mut self, replica: &Replica) -> Health {
        let health = self.health(replica);
        if health == Health::Ready && replica.spec.revision == *self.target.name() {
            let healthy = i64::try_from(self.service.spec.update.healthy.as_ms()).unwrap_or(i64::MAX);
            let at = replica.status.since.checked_add(SignedDuration::from_millis(healthy)).unwrap_or(Timestamp::MAX);
            // A service that has nothing else to stand on loses nothing by trusting it.
            if at > self.now && healthy > 0 && self.is_changing() {
                self.wake_at(at);
                return Health::Starting;
            }
        }
        health
    }

    /// Whether there is a replica that another is to stand in for.
    fn is_changing(&self) -> bool {
        self.workload
            .replicas
            .values()
            .any(|replica| replica.spec.revision != *self.target.name() || !self.stays(replica))
    }

    pub(super) fn wake_at(&mut self, at: Timestamp) {
        self.plan.wake = Some(self.plan.wake.map_or(at, |wake| wake.min(at)));
    }

    /// Whether a replica may stay on its node.
    pub(super) fn stays(&self, replica: &Replica) -> bool {
        if replica.spec.moves_to.is_some() || replica.spec.stop {
            return false;
        }
        let node = replica.spec.node.as_ref().and_then(|name| self.state.node(name)?.node.as_ref());
        node.is_none_or(|node| !node.spec.draining && self.placement().evicted(&node.spec.taints).is_none())
    }

    fn members(&mut self) -> Vec<rollout::Member> {
        let workload = self.workload;
        let mut members = Vec::with_capacity(workload.replicas.len());
        for (name, replica) in &workload.replicas {
            self.wake_when_given_up(replica);
            let health = self.proven_health(replica);
            let number = self.number(&replica.spec.revision);
            members.push(rollout::Member { name: name.clone(), number, health, stays: self.stays(replica) });
        }
        members
    }

    /// A service may wait for a dead node longer than others.
    fn wake_when_given_up(&mut self, replica: &Replica) {
        let Some(node) = &replica.spec.node else { return };
        let at = state::given_up_at(self.state.node(node), &self.service.spec.offline);
        if let Some(at) = at.filter(|at| *at > self.now) {
            self.wake_at(at);
        }
    }

    /// Where the replicas are that will not have to leave.
    pub(super) fn peers(&self, board: &Board) -> Peers {
        let mut peers = Peers::default();
        for replica in self.workload.replicas.values() {
            let is_there = !replica.status.ended && self.health(replica) != Health::Lost;
            if let Some(node) = replica.spec.node.as_ref().filter(|_| is_there) {
                board.meet(&mut peers, node, self.placement());
            }
        }
        peers
    }

    /// Says that the wanted number changed, once for each change of the spec.
    fn report_scaling(&mut self, wanted: u32) {
        let status = &self.service.status;
        let is_news = status.observed_generation != self.service.metadata.generation;
        let same_revision = status.revision.as_ref() == Some(self.target.name());
        let before = status.updated;
        if is_news && same_revision && before != wanted {
            self.event(EventType::Normal, "Scaled", format!("scaled from {before} to {wanted} replicas"));
        }
    }

    /// Tries again for replicas that no node took before.
    pub(super) fn place_waiting(&mut self, board: &mut Board, peers: &mut Peers, removed: &BTreeSet<ReplicaName>) {
        let waiting: Vec<_> = (self.workload.replicas.iter())
            .filter(|(name, replica)| replica.spec.node.is_none() && !removed.contains(name))
            .take(STEP_MAX)
            .collect();
        for (name, replica) in waiting {
            match self.place(board, peers, self.workload_resources(&replica.spec.revision)) {
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

    pub(super) fn create(&mut self, count: usize, board: &mut Board, peers: &mut Peers, names: &mut Names) {
        let mut taken: BTreeSet<ReplicaName> = self.workload.replicas.keys().cloned().collect();
        let mut moves = self.moves();
        for _ in 0..count {
            if let Some((name, to)) = moves.pop() {
                match self.place_on(board, peers, &to) {
                    Ok(choice) => self.add(Ok(choice), &mut taken, names),
                    // What had room when the move was planned has none now: it stays where it is.
                    Err(_) => self.plan.actions.push(Action::Move { name, to: None }),
                }
                continue;
            }
            let choice = self.place(board, peers, self.service.spec.resources);
            self.add(choice, &mut taken, names);
        }
    }

    /// Moves whose successors are not under way yet. The last one is the next.
    fn moves(&self) -> Vec<(ReplicaName, NodeName)> {
        let coming: Vec<&NodeName> = (self.workload.replicas.values())
            .filter(|replica| self.stays(replica) && !self.health(replica).serves())
            .filter_map(|replica| replica.spec.node.as_ref())
            .collect();
        let moves = self.workload.replicas.iter().rev();
        let moves = moves.filter_map(|(name, replica)| Some((name.clone(), replica.spec.moves_to.clone()?)));
        moves.filter(|(_, to)| !coming.contains(&to)).collect()
    }

    fn add(&mut self, choice: Result<Choice, Waits>, taken: &mut BTreeSet<ReplicaName>, names: &mut Names) {
        let name = names.replica(&self.key.name, self.target.number(), taken);
        taken.insert(name.clone());
        let (node, status) = match choice {
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

    /// One replica on every node that is allowed. Answers what goes.
    fn cover(&mut self, board: &mut Board, peers: &mut Peers, names: &mut Names) -> Vec<rollout::Removal> {
        let standing = |seat: &super::board::Seat| match seat.access {
            Access::Open | Access::Cordoned if seat.allows(self.placement()).is_err() => {
                let evicted = self.placement().evicted(&seat.taints).is_some();
                let required = self.placement().require.iter().all(|(key, value)| seat.labels.get(key) == Some(value));
                // A taint that only keeps new ones away keeps nobody from staying.
                if required && !evicted { Standing::Keeps } else { Standing::Refuses }
            }
            Access::Open => Standing::Wants,
            // For a moment: it is heard again, or given up.
            Access::Suspect if seat.allows(self.placement()).is_ok() => Standing::Waits,
            Access::Cordoned | Access::Suspect | Access::Dead => Standing::Keeps,
            Access::Draining | Access::Gone => Standing::Refuses,
        };
        let nodes: BTreeMap<NodeName, Standing> =
            board.seats().map(|seat| (seat.name.clone(), standing(seat))).collect();
        let mut members: BTreeMap<NodeName, Vec<everywhere::Member>> = BTreeMap::new();
        let mut strays = Vec::new();
        let workload = self.workload;
        for (name, replica) in &workload.replicas {
            let number = self.number(&replica.spec.revision);
            let health = self.proven_health(replica);
            match &replica.spec.node {
                Some(node) => members.entry(node.clone()).or_default().push(everywhere::Member {
                    name: name.clone(),
                    number,
                    health,
                }),
                // From when the service had a number of replicas, and one of them waited.
                None => strays.push(rollout::Removal { name: name.clone(), why: Why::Unwanted }),
            }
        }
        let budget = Budget::from(&self.service.spec.update);
        let step = everywhere::plan(&nodes, &members, self.target.number(), budget);
        self.wanted = step.wanted;
        let mut taken: BTreeSet<ReplicaName> = self.workload.replicas.keys().cloned().collect();
        for node in step.create {
            match self.place_on(board, peers, &node) {
                Ok(choice) => self.add(Ok(choice), &mut taken, names),
                Err(refusal) => {
                    let message = format!("{node} {refusal}");
                    self.blocked.get_or_insert(Blocked { reason: "NoNodeFits", message });
                }
            }
        }
        strays.truncate(STEP_MAX);
        step.remove.into_iter().chain(strays).collect()
    }

    fn node_of(&self, name: &ReplicaName) -> &str {
        let node = self.workload.replicas.get(name).and_then(|replica| replica.spec.node.as_ref());
        node.map_or("its node", NodeName::as_str)
    }

    fn remove(&mut self, removals: Vec<rollout::Removal>) {
        for rollout::Removal { name, why } in removals {
            if self.ends_first(&name) {
                continue;
            }
            let node = self.node_of(&name);
            let why = match why {
                Why::Surplus => format!("{} replicas are wanted", self.service.spec.replicas),
                Why::Replaced => format!("{} replaces it", self.target.name()),
                Why::Moved => format!("another replica stands in for it, and it had to leave {node}"),
                Why::Lost => format!("another replica stands in for it, and {node} is dead"),
                Why::Unwanted => format!("{node} is not to have one"),
                Why::Ended => self.ended_because(&name),
            };
            self.plan.events.push(removed(self.kind, self.key, &name, &why));
            self.plan.actions.push(Action::DeleteReplica { name });
        }
    }

    fn workload_resources(&self, revision: &RevisionName) -> Resources {
        self.workload
            .revisions
            .get(revision)
            .map_or(self.service.spec.resources, |revision| revision.template.resources)
    }

    fn ask(&self, wanted: Resources) -> Ask<'_> {
        let runtime = self.service.spec.runtime;
        Ask { wanted, placement: self.placement(), strategy: self.strategy(), runtime }
    }

    fn place(&self, board: &mut Board, peers: &mut Peers, wanted: Resources) -> Result<Choice, Waits> {
        match self.service.spec.bound_by() {
            Some(volume) => self.place_at_home(board, peers, volume, wanted),
            None => self.place_anywhere(board, peers, wanted),
        }
    }

    fn place_anywhere(&self, board: &mut Board, peers: &mut Peers, wanted: Resources) -> Result<Choice, Waits> {
        self.within_quota(board, wanted)?;
        let ask = self.ask(wanted);
        let choice = placement::place(board, &ask, peers).map_err(Waits::NoNodeFits)?;
        self.placed(board, peers, &choice, wanted);
        Ok(choice)
    }

    fn place_on(&self, board: &mut Board, peers: &mut Peers, node: &NodeName) -> Result<Choice, Refusal> {
        let wanted = self.service.spec.resources;
        let ask = self.ask(wanted);
        if self.within_quota(board, wanted).is_err() {
            return Err(Refusal::Quota);
        }
        let choice = placement::place_on(board, &ask, peers, node)?;
        self.placed(board, peers, &choice, wanted);
        Ok(choice)
    }

    fn placed(&self, board: &mut Board, peers: &mut Peers, choice: &Choice, wanted: Resources) {
        board.spend(&self.key.namespace, wanted);
        board.meet(peers, &choice.score.node, self.placement());
    }

    fn within_quota(&self, board: &Board, wanted: Resources) -> Result<(), Waits> {
        let Some(namespace) = self.state.namespace(&self.key.namespace) else { return Ok(()) };
        let (placed, reserved) = board.spent(&self.key.namespace);
        placement::within(&namespace.quota(), namespace.placed + placed, namespace.reserved.plus(reserved), wanted)
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

    fn refused(&mut self, name: &ReplicaName, refused: &Waits) -> ReplicaStatus {
        self.plan.events.push(PlannedEvent {
            regarding: ObjectRef { kind: Kind::Replica, name: name.to_string() },
            event_type: EventType::Warning,
            reason: refused.reason(),
            message: refused.to_string(),
        });
        ReplicaStatus {
            phase: Phase::Pending,
            reason: refused.reason().to_owned(),
            message: refused.to_string(),
            since: self.now,
            ..ReplicaStatus::default()
        }
    }

    pub(super) fn event(&mut self, event_type: EventType, reason: &'static str, message: String) {
        let regarding = ObjectRef { kind: self.kind, name: self.key.name.to_string() };
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
                    let health = self.health(replica);
                    Seen { name: name.as_str(), is_updated, health, status: &replica.status }
                }
            });
        }
        for (name, node, status) in &self.made {
            seen.push(Seen { name: name.as_str(), is_updated: true, health: waiting(node), status });
        }
        seen.sort_unstable_by_key(|replica| replica.name);
        let wanted = u32::try_from(self.wanted).unwrap_or(u32::MAX);
        let wants = status::Wants { replicas: wanted, blocked: self.blocked.clone(), home: self.home() };
        let status = status::status(self.service, self.target.name(), &wants, &seen, self.now);
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

fn stopping(kind: Kind, key: &ServiceKey, name: &ReplicaName, why: &str) -> PlannedEvent {
    PlannedEvent {
        regarding: ObjectRef { kind, name: key.name.to_string() },
        event_type: EventType::Normal,
        reason: "ReplicaStopping",
        message: format!("{name} is to stop: {why}"),
    }
}

fn removed(kind: Kind, key: &ServiceKey, name: &ReplicaName, why: &str) -> PlannedEvent {
    PlannedEvent {
        regarding: ObjectRef { kind, name: key.name.to_string() },
        event_type: EventType::Normal,
        reason: "ReplicaRemoved",
        message: format!("removed {name}: {why}"),
    }
}
