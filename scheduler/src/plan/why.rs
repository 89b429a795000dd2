//! Why a service's replicas are where they are, and what those wait for that have no node.
//!
//! It asks the same filters and scores as placement does, of every node, so it can say of each filter how many nodes it
//! refuses, and how many would take the replica if it were not for that filter alone: that is what would help.

use std::collections::BTreeMap;

use jiff::Timestamp;
use skiff_api::ServiceKey;
use skiff_api::resource::{Replica, Replicas, Service};
use skiff_api::why::{Why, WhyFilter, WhyReplica};

use super::board::{Access, Ask, Board, Peers, Refusal, Seat};
use super::exclusive::{self, Standing};
use super::placement::rough;
use super::state::{Health, NamespaceState};
use super::{State, Workload};

/// The reasons, if there is such a service.
pub fn explain(state: &State, board: &Board, key: &ServiceKey, now: Timestamp) -> Option<Why> {
    let workload = state.workload(key)?;
    let service = workload.service.as_deref()?;
    let strategy = state.namespace(&key.namespace).map(NamespaceState::strategy).unwrap_or_default();
    let (wanted, runtime) = (service.spec.resources, service.spec.runtime);
    let ask = Ask { wanted, placement: &service.spec.placement, strategy, runtime };
    let teller = Teller { state, board, workload, service, ask, now };
    let replicas = workload.replicas.values().map(|replica| teller.replica(replica)).collect();
    let (filters, fitting) = teller.filters();
    let waits = workload.replicas.values().any(|replica| replica.spec.node.is_none());
    let blocked = service.spec.replicas == Replicas::EveryNode && fitting == 0;
    let help = match (waits || blocked, teller.home()) {
        (false, _) => Vec::new(),
        (true, Some(help)) => vec![help],
        (true, None) => teller.help(&filters, fitting),
    };
    let filters =
        filters.into_iter().map(|((_, filter), (refused, alone))| WhyFilter { filter, refused, alone }).collect();
    Some(Why { replicas, nodes: board.seats().count(), fitting, filters, help })
}

struct Teller<'a> {
    state: &'a State,
    board: &'a Board,
    workload: &'a Workload,
    service: &'a Service,
    ask: Ask<'a>,
    now: Timestamp,
}

/// By the order in which filters are told, and what they ask: how many nodes each refuses, and how many it alone does.
type Filters = BTreeMap<(usize, String), (usize, usize)>;

impl Teller<'_> {
    fn replica(&self, replica: &Replica) -> WhyReplica {
        let mut because = Vec::new();
        match replica.spec.node.as_ref().and_then(|node| self.board.seat(node)) {
            Some(seat) => because.extend(self.reasons(replica, seat)),
            None => because.push(replica.status.message.clone()),
        }
        let name = skiff_api::ReplicaName::new(replica.metadata.name.clone());
        because.retain(|reason| !reason.is_empty());
        WhyReplica { name, node: replica.spec.node.clone(), phase: replica.status.phase, because }
    }

    /// What helps where the volumes are on one node.
    fn home(&self) -> Option<String> {
        let (volume, home) = self.service.spec.bound_by().zip(self.service.status.home.as_ref())?;
        let (volume, node) = (volume.called(), &home.node);
        Some(format!("only {node} has its volume {volume}: that node has to take it, or its service is to begin anew"))
    }

    fn reasons(&self, replica: &Replica, seat: &Seat) -> Vec<String> {
        let placement = &self.service.spec.placement;
        let mut reasons = Vec::new();
        let is_home = self.service.status.home.as_ref().is_some_and(|home| home.node == seat.name);
        let volume = self.service.spec.bound_by().filter(|_| is_home);
        reasons.extend(volume.map(|volume| format!("its volume {} is there", volume.called())));
        if self.service.spec.replicas == Replicas::EveryNode {
            reasons.push("one runs on every node that the placement allows".to_owned());
        }
        if !placement.require.is_empty() {
            reasons.push(format!("it has the required {}", labels(&placement.require)));
        }
        match seat.allows(placement) {
            Ok(()) => {}
            Err(refusal) => reasons.push(format!("placed there before: a new one would not be, the node {refusal}")),
        }
        let peers = self.others(replica);
        let score = seat.score(&self.ask, &peers);
        if let Some(met) = placement.prefer.get(score.unmet) {
            reasons.push(format!("it has the preferred {}", labels(met)));
        }
        let domain = placement.spread();
        if let Some(value) = seat.labels.get(domain) {
            reasons.push(format!("{domain} {value} has {} of the other replicas", score.peers));
        }
        reasons.push(format!("the node has {} of the other replicas", score.siblings));
        let tenths = seat.share(seat.reserved) / 1000;
        reasons.push(format!("{}.{}% of it are reserved", tenths / 10, tenths % 10));
        if let Some(to) = &replica.spec.moves_to {
            reasons.push(format!("it moves to {to}: a successor starts there first"));
        }
        let health = Health::of(replica, self.state, &self.service.spec.offline, self.now);
        if let Some(waits) = self.ends(replica, health) {
            reasons.push(waits);
            return reasons;
        }
        match (seat.access, health) {
            (_, Health::Lost) if volume.is_some() => reasons.push("its node is dead: it has to come back".to_owned()),
            (_, Health::Lost) => reasons.push("its node is dead: a successor takes its place".to_owned()),
            (Access::Draining, _) => reasons.push("the node is drained: it goes once a successor answers".to_owned()),
            (Access::Suspect, _) => {
                reasons.push("the node cannot be heard: it is placed elsewhere once it is dead".to_owned());
            }
            _ => {}
        }
        reasons
    }

    /// How one goes that may run in one place only.
    fn ends(&self, replica: &Replica, health: Health) -> Option<String> {
        if !self.service.spec.is_exclusive() && !self.workload.is_exclusive(replica) {
            return None;
        }
        let node = replica.spec.node.as_ref()?;
        let name = skiff_api::ReplicaName::new(replica.metadata.name.clone());
        match exclusive::standing(self.state, self.workload, replica) {
            Standing::Stops(until) => {
                Some(format!("it is to stop; a successor {}", exclusive::waits(&name, node, until)))
            }
            Standing::Runs if health == Health::Unknown => {
                let node = format!("node {node} cannot be heard");
                Some(format!("{node}: another one starts elsewhere once it is dead and its lease has lapsed"))
            }
            Standing::Runs | Standing::Unplaced | Standing::Gone => None,
        }
    }

    fn others(&self, replica: &Replica) -> Peers {
        let mut peers = Peers::default();
        let others = self.workload.replicas.values().filter(|other| other.metadata.name != replica.metadata.name);
        for node in others.filter_map(|other| other.spec.node.as_ref()) {
            self.board.meet(&mut peers, node, &self.service.spec.placement);
        }
        peers
    }

    fn filters(&self) -> (Filters, usize) {
        let mut filters = Filters::new();
        let mut fitting = 0;
        for seat in self.board.seats() {
            let refusals = seat.refusals(&self.ask);
            fitting += usize::from(refusals.is_empty());
            let alone = usize::from(refusals.len() == 1);
            for refusal in refusals {
                let (refused, only) = filters.entry(self.filter(&refusal)).or_default();
                *refused += 1;
                *only += alone;
            }
        }
        (filters, fitting)
    }

    fn filter(&self, refusal: &Refusal) -> (usize, String) {
        match refusal {
            Refusal::Closed(Access::Cordoned | Access::Draining) => (1, "not cordoned".to_owned()),
            Refusal::Closed(_) => (0, "alive".to_owned()),
            Refusal::Label { key, value } => (2, format!("label {key}={value}")),
            Refusal::Tainted(taint) => (3, format!("taint {taint} tolerated")),
            Refusal::NoDocker => (7, "a Docker engine".to_owned()),
            Refusal::Memory { .. } => (4, format!("{} of memory free", self.ask.wanted.memory)),
            Refusal::Cpu { .. } => (5, format!("{} of CPU free", self.ask.wanted.cpu)),
            Refusal::Quota => (6, "quota".to_owned()),
        }
    }

    /// What somebody could do, the most promising first.
    fn help(&self, filters: &Filters, fitting: usize) -> Vec<String> {
        if fitting > 0 {
            let quota = self.workload.replicas.values().find(|replica| replica.status.reason == "QuotaExceeded");
            return quota.map(|_| "raise the quota of the namespace".to_owned()).into_iter().collect();
        }
        let free = |pick: fn(&Refusal) -> Option<u64>| {
            let seats = self.board.seats().filter(|seat| seat.access == Access::Open);
            seats
                .filter(|seat| seat.allows(self.ask.placement).is_ok())
                .flat_map(|seat| seat.refusals(&self.ask))
                .filter_map(|refusal| pick(&refusal))
                .max()
        };
        let mut help: Vec<(usize, String)> = Vec::new();
        for ((order, filter), (_, alone)) in filters.iter().filter(|(_, (_, alone))| *alone > 0) {
            let on = format!("{alone} node{} would take it", if *alone == 1 { "" } else { "s" });
            let what = match order {
                0 => "bring it back".to_owned(),
                1 => "uncordon a node (`skiff uncordon NODE`)".to_owned(),
                2 => format!("give a node the {filter} (`skiff label node NODE …`), or require less"),
                3 => {
                    let key = filter.split(['=', ':', ' ']).nth(1).unwrap_or_default();
                    format!("tolerate {key} (placement.tolerate: [{key}])")
                }
                7 => "install Docker on a node, and start the node again".to_owned(),
                4 => {
                    let most = free(|refusal| match refusal {
                        Refusal::Memory { free } => Some(free.0),
                        _ => None,
                    });
                    let most = rough(skiff_api::quantity::Bytes(most.unwrap_or(0)));
                    format!("reserve at most {most} of memory (resources.memory), or add a node")
                }
                _ => {
                    let most = free(|refusal| match refusal {
                        Refusal::Cpu { free } => Some(free.0),
                        _ => None,
                    });
                    let most = skiff_api::quantity::MilliCpu(most.unwrap_or(0));
                    format!("reserve at most {most} of CPU (resources.cpu), or add a node")
                }
            };
            help.push((*alone, format!("{on}: {what}")));
        }
        if help.is_empty() {
            help.push((0, "no single change would help: add a node, or ask less of one".to_owned()));
        }
        help.sort_by_key(|(alone, _)| std::cmp::Reverse(*alone));
        help.into_iter().map(|(_, text)| text).collect()
    }
}

fn labels(labels: &BTreeMap<String, String>) -> String {
    let shown: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("label{} {}", if shown.len() == 1 { "" } else { "s" }, shown.join(", "))
}
