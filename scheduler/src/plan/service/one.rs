//! A service of which one copy runs at most: what the plan for its copies makes of it, and where that one runs.

use std::collections::BTreeSet;

use skiff_api::ReplicaName;
use skiff_api::resource::{Home, Replica, Resources, Volume};

use super::super::board::{Access, Peers, Refusal};
use super::super::placement::{AwayFrom, Choice, Waits};
use super::super::rollout::{self, Why};
use super::super::state::Health;
use super::super::status::Blocked;
use super::super::{Action, Board, Names, exclusive};
use super::{Builder, stopping};

impl Builder<'_> {
    /// One copy, which starts when no other one may run any more. Answers what goes.
    pub(super) fn one_at_most(
        &mut self,
        wanted: u32,
        board: &mut Board,
        peers: &mut Peers,
        names: &mut Names,
    ) -> Vec<rollout::Removal> {
        self.wanted = usize::try_from(wanted.min(1)).unwrap_or_default();
        self.report_scaling(wanted);
        let copies = self.copies();
        let exclusive::Step { stop, remove, keeps, may_start } =
            exclusive::plan(self.wanted > 0, self.target.number(), &copies);
        let why = |name: &ReplicaName| {
            let copy = copies.iter().find(|copy| copy.name == *name);
            match copy {
                Some(copy) if copy.health == Health::Lost => Why::Lost,
                Some(copy) if copy.number != self.target.number() => Why::Replaced,
                Some(copy) if !copy.stays => Why::Moved,
                _ => Why::Surplus,
            }
        };
        let events: Vec<_> =
            stop.iter().map(|name| stopping(self.kind, self.key, name, &self.stops_because(name, why(name)))).collect();
        self.plan.events.extend(events);
        self.plan.actions.extend(stop.into_iter().map(|name| Action::StopReplica { name }));
        let removals: Vec<_> = remove.into_iter().map(|name| rollout::Removal { why: Why::Ended, name }).collect();
        match (may_start, &keeps) {
            (true, None) => {
                let mut taken: BTreeSet<ReplicaName> = self.workload.replicas.keys().cloned().collect();
                let choice = self.place(board, peers, self.service.spec.resources);
                self.add(choice, &mut taken, names);
            }
            (true, Some(_)) => {
                let removed = removals.iter().map(|removal| removal.name.clone()).collect();
                self.place_waiting(board, peers, &removed);
            }
            (false, _) => self.blocked = self.waits_for(&copies),
        }
        removals
    }

    /// One whose volumes are on its dead node is not given up before its node has stopped it: nobody could take its place, and
    /// if that is back before, it has gone on.
    fn health_at_home(&self, replica: &Replica) -> Health {
        let health = self.health(replica);
        let home = self.service.status.home.as_ref().filter(|_| self.service.spec.bound_by().is_some());
        let is_there = replica.spec.node.as_ref() == home.map(|home| &home.node);
        let node = home.and_then(|home| self.state.node(&home.node));
        let may_run = node.is_some_and(|node| node.node.is_some() && !node.is_lapsed);
        if health == Health::Lost && is_there && may_run { Health::Unknown } else { health }
    }

    /// Why nothing may start yet.
    fn waits_for(&self, copies: &[exclusive::Copy]) -> Option<Blocked> {
        let stops = copies.iter().find_map(|copy| match copy.standing {
            exclusive::Standing::Stops(until) => Some((&copy.name, until)),
            _ => None,
        });
        let (name, until) = stops?;
        let node = self.workload.replicas.get(name)?.spec.node.as_ref()?;
        Some(Blocked { reason: "Exclusive", message: exclusive::waits(name, node, until) })
    }

    fn copies(&mut self) -> Vec<exclusive::Copy> {
        let workload = self.workload;
        let mut copies = Vec::with_capacity(workload.replicas.len());
        for (name, replica) in &workload.replicas {
            self.wake_when_given_up(replica);
            copies.push(exclusive::Copy {
                name: name.clone(),
                number: self.number(&replica.spec.revision),
                health: self.health_at_home(replica),
                stays: self.stays(replica),
                standing: exclusive::standing(self.state, workload, replica),
            });
        }
        copies
    }

    /// Where its volumes are, or anywhere where they are nowhere yet.
    pub(super) fn place_at_home(
        &self,
        board: &mut Board,
        peers: &mut Peers,
        volume: &Volume,
        wanted: Resources,
    ) -> Result<Choice, Waits> {
        let Some(home) = &self.service.status.home else { return self.place_anywhere(board, peers, wanted) };
        self.within_quota(board, wanted)?;
        let away = |refusal| {
            let (volume, node) = (volume.called().to_owned(), home.node.clone());
            Waits::Home(Box::new(AwayFrom { volume, node, refusal }))
        };
        let machine = self.state.node(&home.node).and_then(|node| node.node.as_ref()).map(|node| &node.metadata.uid);
        if machine != Some(&home.uid) {
            return Err(away(Refusal::Closed(Access::Gone)));
        }
        self.place_on(board, peers, &home.node).map_err(away)
    }

    /// The node that has its volumes: the first that a copy with one was placed on.
    pub(super) fn home(&self) -> Option<Home> {
        if let Some(home) = &self.service.status.home {
            return Some(home.clone());
        }
        self.service.spec.bound_by()?;
        let made = self.made.iter().filter_map(|(_, node, _)| node.as_ref());
        let placed = self.changed.values().filter_map(|(node, _)| node.as_ref());
        let there = self.workload.replicas.values().filter(|replica| replica.spec.revision == *self.target.name());
        let there = there.filter_map(|replica| replica.spec.node.as_ref());
        let node = made.chain(placed).chain(there).next()?;
        let uid = self.state.node(node)?.node.as_ref()?.metadata.uid.clone();
        Some(Home { node: node.clone(), uid })
    }

    /// Why one is told to stop before anything takes its place.
    fn stops_because(&self, name: &ReplicaName, why: Why) -> String {
        let node = self.node_of(name);
        match why {
            Why::Replaced => format!("{} is to replace it, and it may run in one place only", self.target.name()),
            Why::Moved => format!("it has to leave {node}, and may run in one place only"),
            Why::Lost => format!("{node} is dead"),
            Why::Surplus | Why::Unwanted | Why::Ended => format!("{} replicas are wanted", self.service.spec.replicas),
        }
    }

    /// One that may run in one place only is told to stop, and goes once it has: also where its service is not so any more, for
    /// it may be again. Answers whether it stays meanwhile.
    pub(super) fn ends_first(&mut self, name: &ReplicaName) -> bool {
        let Some(replica) = self.workload.replicas.get(name).filter(|replica| self.workload.is_exclusive(replica))
        else {
            return false;
        };
        let standing = exclusive::standing(self.state, self.workload, replica);
        if standing == exclusive::Standing::Runs {
            self.plan.actions.push(Action::StopReplica { name: name.clone() });
        }
        matches!(standing, exclusive::Standing::Runs | exclusive::Standing::Stops(_))
    }

    /// How it is known that one may not run any more.
    pub(super) fn ended_because(&self, name: &ReplicaName) -> String {
        let node = self.node_of(name);
        match self.workload.replicas.get(name) {
            Some(replica) if replica.spec.node.is_none() => "it had not begun".to_owned(),
            Some(replica) if replica.status.ended => format!("{node} has stopped it"),
            Some(replica) if self.workload.is_exclusive(replica) => format!("the lease of {node} has lapsed"),
            _ => format!("{node} was removed"),
        }
    }
}
