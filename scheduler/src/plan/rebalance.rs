//! Rebalancing: what is to move when nodes came, went or filled up unevenly.
//!
//! Placement is right when it happens and grows wrong later: a new node stands empty beside full ones. This plans a whole
//! set of moves that brings every node near the mean, and proves for each target that it fits while the source still has
//! its replica, for a successor starts before its predecessor stops. A node gives or takes, never both, so no move waits
//! for another one and none undoes another.
//!
//! **Few moves.** Of a node that is too full the largest replica goes that brings it no lower than the mean; what takes
//! it comes no higher. A move never costs a service any of what placement gave it: its target must be as good in all
//! that is asked and preferred, and in the spread over zones and nodes.
//!
//! **Hysteresis.** It begins only when a node is far from the mean ([`Options::begin`]) and goes on until all are near
//! ([`Options::end_of_mean`]), so a second run right after it finds nothing. Each move brings the pair of its nodes nearer to
//! the mean, so that runs come to an end also where replicas are so large that nothing can be even. Namespaces that pack are
//! left as they are.
//!
//! The rollout of each service carries its moves out, within its budget; how many there are at once is the caller's.

use std::collections::{BTreeMap, BTreeSet};

use skiff_api::resource::{Phase, Replica, Resources, Strategy};
use skiff_api::{NodeName, ReplicaKey, ServiceKey};

use super::board::{Access, Ask, Board, Peers, Seat};
use super::state::NamespaceState;
use super::{State, Workload};

/// How uneven nodes may be. Parts of a million of a node's capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// It begins when a node is further from the mean than this part of the mean ...
    pub begin_of_mean: u64,
    /// ... and this much at all: on nodes that are nearly empty nothing needs to be even.
    pub begin: u64,
    /// A node that is as near to the mean as this part of it is near enough.
    pub end_of_mean: u64,
}

impl Options {
    /// When nobody asked for it.
    pub const BY_ITSELF: Self = Self { begin_of_mean: 200_000, begin: 20_000, end_of_mean: 50_000 };
    /// When somebody did: a smaller gain is worth it.
    pub const ASKED: Self = Self { begin_of_mean: 60_000, begin: 1_000, end_of_mean: 50_000 };
}

/// One replica's move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    pub service: ServiceKey,
    pub replica: ReplicaKey,
    pub from: NodeName,
    pub to: NodeName,
}

/// All that is to move.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MoveSet {
    pub moves: Vec<Move>,
    /// The emptiest and the fullest node, in parts of a million: now, and once all is moved.
    pub before: (u64, u64),
    pub after: (u64, u64),
}

/// The moves that make nodes even. Nothing if they are even enough.
pub fn plan(state: &State, board: &Board, options: Options) -> MoveSet {
    let mut planner = Planner::new(state, board.clone());
    let before = planner.extremes();
    let mut moves = Vec::new();
    if planner.is_uneven(&options) {
        planner.run(&options, &mut moves);
    }
    MoveSet { moves, before, after: planner.extremes() }
}

struct Planner<'a> {
    state: &'a State,
    /// What is reserved while everything that moves is on both sides.
    board: Board,
    /// What will be reserved once everything has moved.
    levels: BTreeMap<NodeName, Resources>,
    mean: u64,
    moved: BTreeSet<ReplicaKey>,
}

impl<'a> Planner<'a> {
    fn new(state: &'a State, board: Board) -> Self {
        let open = board.seats().filter(|seat| seat.access == Access::Open);
        let mut levels: BTreeMap<NodeName, Resources> = open.map(|seat| (seat.name.clone(), seat.reserved)).collect();
        for key in state.moving() {
            let Some(replica) = state.replica(key) else { continue };
            let Some(size) = state.owner(key).and_then(|owner| size(state.workload(&owner)?, replica)) else {
                continue;
            };
            // A successor that is there already is counted by itself.
            if let Some(level) = replica.spec.node.as_ref().and_then(|node| levels.get_mut(node)) {
                *level = level.minus(size);
            }
        }
        let mut planner = Self { state, board, levels, mean: 0, moved: BTreeSet::new() };
        planner.mean = planner.mean();
        planner
    }

    /// How full the nodes would be if all were equally full.
    fn mean(&self) -> u64 {
        let sum = |pick: fn(&Resources) -> u64| self.levels.values().map(|level| u128::from(pick(level))).sum::<u128>();
        let seats = || self.levels.keys().filter_map(|name| self.board.seat(name));
        let capacity = |pick: fn(&Resources) -> u64| seats().map(|seat| u128::from(pick(&seat.capacity))).sum::<u128>();
        let ratio = |part: u128, whole: u128| (part * 1_000_000).checked_div(whole).unwrap_or(0);
        let memory = ratio(sum(|r| r.memory.0), capacity(|r| r.memory.0));
        let cpu = ratio(sum(|r| r.cpu.0), capacity(|r| r.cpu.0));
        u64::try_from(memory.max(cpu)).unwrap_or(u64::MAX)
    }

    fn level(&self, name: &NodeName) -> u64 {
        let level = self.levels.get(name).copied().unwrap_or(Resources::ZERO);
        self.board.seat(name).map_or(0, |seat| seat.share(level))
    }

    fn extremes(&self) -> (u64, u64) {
        let levels = || self.levels.keys().map(|name| self.level(name));
        (levels().min().unwrap_or(0), levels().max().unwrap_or(0))
    }

    fn is_uneven(&self, options: &Options) -> bool {
        let far = (part(self.mean, options.begin_of_mean)).max(options.begin);
        let (low, high) = self.extremes();
        high > self.mean.saturating_add(far) || low.saturating_add(far) < self.mean
    }

    /// From the fullest to the emptiest, until there is none left that may give or take.
    fn run(&mut self, options: &Options, moves: &mut Vec<Move>) {
        let near = part(self.mean, options.end_of_mean);
        let names: Vec<NodeName> = self.levels.keys().cloned().collect();
        let of = |planner: &Self, name: &NodeName| (planner.level(name), name.clone());
        let mut givers: BTreeSet<(u64, NodeName)> =
            names.iter().map(|name| of(self, name)).filter(|(level, _)| *level > self.mean).collect();
        let mut takers: BTreeSet<(u64, NodeName)> = names
            .iter()
            .map(|name| of(self, name))
            .filter(|(level, _)| level.saturating_add(near) < self.mean)
            .collect();
        let mut stock: BTreeMap<NodeName, Vec<(u64, ReplicaKey)>> = BTreeMap::new();
        while let (Some((_, to)), false) = (takers.first().cloned(), givers.is_empty()) {
            let found = givers.iter().rev().find_map(|(_, from)| {
                let stock = stock.entry(from.clone()).or_insert_with(|| self.movable(from));
                self.fitting(stock, from, &to).map(|at| (from.clone(), at))
            });
            takers.pop_first();
            let Some((from, at)) = found else { continue };
            let Some((_, key)) = stock.get_mut(&from).map(|stock| stock.remove(at)) else { continue };
            givers.remove(&of(self, &from));
            if let Some(step) = self.take(&key, &from, &to) {
                moves.push(step);
            }
            for (set, name, is_in) in [
                (&mut givers, &from, self.level(&from) > self.mean),
                (&mut takers, &to, self.level(&to).saturating_add(near) < self.mean),
            ] {
                if is_in {
                    set.insert(of(self, name));
                }
            }
        }
    }

    /// What may leave a node, the largest first.
    fn movable(&self, from: &NodeName) -> Vec<(u64, ReplicaKey)> {
        let Some((node, seat)) = self.state.node(from).zip(self.board.seat(from)) else { return Vec::new() };
        let mut stock: Vec<(u64, ReplicaKey)> = (node.replicas.iter())
            .filter(|key| !self.moved.contains(*key))
            .filter_map(|key| {
                let workload = self.state.workload(&self.state.owner(key)?)?;
                let replica = workload.replicas.get(&key.name)?;
                let share = seat.share(size(workload, replica)?);
                (share > 0 && self.is_settled(key, workload, replica)).then(|| (share, key.clone()))
            })
            .collect();
        stock.sort_unstable_by(|a, b| (b.0, &a.1).cmp(&(a.0, &b.1)));
        stock
    }

    /// Only what answers and is not changing anyway moves.
    fn is_settled(&self, key: &ReplicaKey, workload: &Workload, replica: &Replica) -> bool {
        let Some(service) = &workload.service else { return false };
        let status = &service.status;
        let spreads = self.state.namespace(&key.namespace).map(NamespaceState::strategy).unwrap_or_default();
        replica.status.phase == Phase::Ready
            && replica.spec.moves_to.is_none()
            && service.spec.replicas.count().is_some()
            // It could not start before it has stopped, and that is too much for an even load.
            && !service.spec.is_exclusive()
            && status.observed_generation == service.metadata.generation
            && status.revision.as_ref() == Some(&replica.spec.revision)
            && spreads == Strategy::Spread
            && workload.owns(&replica.metadata.owners)
    }

    /// Which of them may go there.
    fn fitting(&self, stock: &[(u64, ReplicaKey)], from: &NodeName, to: &NodeName) -> Option<usize> {
        let (source, target) = (self.board.seat(from)?, self.board.seat(to)?);
        let last_size = std::cell::Cell::new(u64::MAX);
        stock.iter().position(|(share, key)| {
            // The next one of a size that did not fit does not fit either, unless its service asks for something else.
            let is_new = last_size.replace(*share) != *share;
            (is_new || self.state.workloads().len() > 1) && self.may_go(key, source, target)
        })
    }

    fn may_go(&self, key: &ReplicaKey, source: &Seat, target: &Seat) -> bool {
        let look = || {
            let owner = self.state.owner(key)?;
            let workload = self.state.workload(&owner)?;
            let service = workload.service.as_ref()?;
            let replica = workload.replicas.get(&key.name)?;
            let wanted = size(workload, replica)?;
            let (from, to) = (self.levels.get(&source.name)?, self.levels.get(&target.name)?);
            let half = target.share(wanted) / 2;
            // Neither may pass the mean by more than half a replica: then the move would have to be undone.
            let even = target.share(to.plus(wanted)) <= self.mean.saturating_add(half)
                && source.share(from.minus(wanted)).saturating_add(half) >= self.mean;
            // And the pair is nearer to it than before: of two empty nodes and one replica, none is the better place.
            let far = |seat: &Seat, level: Resources| seat.share(level).abs_diff(self.mean);
            let gains = far(source, from.minus(wanted)).max(far(target, to.plus(wanted)))
                < far(source, *from).max(far(target, *to));
            let (placement, runtime) = (&service.spec.placement, service.spec.runtime);
            let ask = Ask { wanted, placement, strategy: Strategy::Spread, runtime };
            if !even || !gains || target.fits(&ask).is_err() {
                return None;
            }
            let peers = self.others(workload, key);
            let cost = |seat: &Seat| {
                let score = seat.score(&ask, &peers);
                (score.avoided, score.unmet, score.peers, score.siblings)
            };
            Some(cost(target) <= cost(source))
        };
        look().unwrap_or(false)
    }

    /// Where the others of the service are, once all that is planned has moved.
    fn others(&self, workload: &Workload, key: &ReplicaKey) -> Peers {
        let mut peers = Peers::default();
        let Some(service) = &workload.service else { return peers };
        for (name, other) in workload.replicas.iter().filter(|(name, _)| **name != key.name) {
            let id = ReplicaKey { namespace: key.namespace.clone(), name: name.clone() };
            let node = if self.moved.contains(&id) { None } else { other.spec.node.as_ref() };
            if let Some(node) = node {
                self.board.meet(&mut peers, node, &service.spec.placement);
            }
        }
        for node in self.targets(workload, key) {
            self.board.meet(&mut peers, &node, &service.spec.placement);
        }
        peers
    }

    fn targets(&self, workload: &Workload, key: &ReplicaKey) -> Vec<NodeName> {
        let moving = workload.replicas.iter().filter(|(name, _)| **name != key.name);
        moving.filter_map(|(_, replica)| replica.spec.moves_to.clone()).collect()
    }

    fn take(&mut self, key: &ReplicaKey, from: &NodeName, to: &NodeName) -> Option<Move> {
        let owner = self.state.owner(key)?;
        let workload = self.state.workload(&owner)?;
        let wanted = size(workload, workload.replicas.get(&key.name)?)?;
        self.board.reserve(to, wanted);
        if let Some(level) = self.levels.get_mut(from) {
            *level = level.minus(wanted);
        }
        if let Some(level) = self.levels.get_mut(to) {
            *level = level.plus(wanted);
        }
        self.moved.insert(key.clone());
        Some(Move { service: owner, replica: key.clone(), from: from.clone(), to: to.clone() })
    }
}

fn size(workload: &Workload, replica: &Replica) -> Option<Resources> {
    workload.revisions.get(&replica.spec.revision).map(|revision| revision.template.resources)
}

fn part(of: u64, millionths: u64) -> u64 {
    u64::try_from(u128::from(of) * u128::from(millionths) / 1_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use skiff_api::resource::Phase;

    use super::*;
    use crate::plan::testing::{World, key, memory};

    /// `services` of one replica each on every node, settled.
    fn world(nodes: usize, services: usize, mebi: u64) -> World {
        let mut world = World::new();
        for n in 0..nodes {
            world.node(&format!("n{n:03}"), memory(1000));
        }
        for s in 0..services * nodes {
            let (name, node) = (format!("s{s:04}"), format!("n{:03}", s % nodes));
            world.service(&name, 1, memory(mebi));
            world.revision(&name, 1, memory(mebi));
            world.replica(&name, 1, "aaaaa", Some(&node), Phase::Ready);
            world.settle(&name);
        }
        world
    }

    fn moves(world: &World) -> MoveSet {
        plan(&world.state, &Board::new(&world.state), Options::BY_ITSELF)
    }

    fn carry_out(world: &mut World, set: &MoveSet) {
        for step in &set.moves {
            let service = step.service.name.to_string();
            world.no_replica(&service, step.replica.name.as_str());
            world.replica(&service, 1, "bbbbb", Some(step.to.as_str()), Phase::Ready);
        }
    }

    #[test]
    fn what_is_even_stays() {
        assert_eq!(moves(&world(10, 10, 50)).moves, []);
        assert_eq!(moves(&World::new()), MoveSet::default());
        // Two replicas more or less make no difference worth a move.
        let mut world = world(10, 10, 50);
        world.no_replica("s0000", "s0000-1-aaaaa");
        assert_eq!(moves(&world).moves, []);
    }

    #[test]
    fn new_nodes_get_their_share_in_few_moves_and_a_second_run_finds_nothing() {
        let mut world = world(20, 20, 25);
        ["x1", "x2"].iter().for_each(|name| world.node(name, memory(1000)));
        let set = moves(&world);
        // 400 replicas on 22 nodes are 18 and a bit on each: two times 18 have to move at least.
        let least = 36;
        assert!(set.moves.len() >= least - 2 && set.moves.len() * 10 <= least * 12, "{} moves", set.moves.len());
        assert!(set.moves.iter().all(|step| step.to.as_str().starts_with('x') && step.from.as_str().starts_with('n')));
        carry_out(&mut world, &set);
        assert_eq!(moves(&world).moves, []);
        assert_eq!(plan(&world.state, &Board::new(&world.state), Options::ASKED).moves, []);
    }

    /// One replica and several empty nodes: wherever it is, the others are as far from the mean.
    #[test]
    fn what_cannot_be_even_stays_where_it_is() {
        let mut world = world(1, 1, 100);
        (1..4).for_each(|n| world.node(&format!("x{n}"), memory(1000)));
        assert_eq!(plan(&world.state, &Board::new(&world.state), Options::ASKED).moves, []);
    }

    #[test]
    fn a_move_costs_a_service_nothing() {
        let mut world = world(2, 4, 100);
        // A second replica of each service on the node that is empty: then nothing of them may move there.
        world.node("x", memory(1000));
        world.service("s0000", 2, memory(100));
        world.replica("s0000", 1, "ccccc", Some("x"), Phase::Ready);
        world.settle("s0000");
        let set = moves(&world);
        assert!(!set.moves.is_empty());
        assert!(set.moves.iter().all(|step| step.service != key("s0000")), "{set:?}");
        // Nor where it may not be at all.
        world.taint("x", "edge:NoSchedule");
        assert_eq!(moves(&world).moves, []);
    }

    #[test]
    fn what_packs_or_changes_stays() {
        let mut packed = world(2, 8, 100);
        packed.node("x", memory(1000));
        packed.namespace(|spec| spec.placement = Strategy::Pack);
        assert_eq!(moves(&packed).moves, []);
        let mut changing = world(1, 8, 100);
        changing.node("x", memory(1000));
        for s in 0..8 {
            changing.service(&format!("s{s:04}"), 1, memory(101));
        }
        assert_eq!(moves(&changing).moves, []);
    }
}
