//! The nodes as placement sees them, kept in the order in which they fill up.
//!
//! A [`Board`] lives as long as the state that it mirrors: [`Board::sync`] looks again only at nodes that changed, so
//! that ten thousand nodes cost a round nothing. What one plan of a round reserves, the next one finds taken; the next
//! sync forgets all of that, since what was committed is in the state by then, and what was not is free again.
//!
//! Choosing walks the nodes from the emptiest (or the fullest, where a namespace packs) and stops at the first that no
//! other can beat. Only if there is none among the first few, every node is scored; both ways give the same answer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use skiff_api::quantity::{Bytes, MilliCpu};
use skiff_api::resource::{Effect, Liveness, Placement, Resources, Runtime, Strategy, Taint, own_labels};
use skiff_api::{Name, NodeName};

use super::State;
use super::placement::rough;
use super::state::NodeState;

/// Nodes that are looked at in order before all are: enough to pass over those that are full or in the wrong zone.
const WALK_MAX: usize = 48;

/// Groups of equally full nodes that are looked at in order: beyond, scoring all of them is quicker.
const STEPS_MAX: usize = 4 * WALK_MAX;

/// Fullness is counted in parts of a million: fine enough that a thousand small replicas on a node differ.
const FULL: u64 = 1_000_000;

/// The nodes, and what is free on each.
#[derive(Debug, Clone, Default)]
pub struct Board {
    seats: Vec<Seat>,
    by_name: BTreeMap<NodeName, usize>,
    /// The open ones by fullness, then by name.
    order: BTreeSet<(u64, NodeName, usize)>,
    /// How many nodes have which value of a label. What only one node can have is left out.
    values: BTreeMap<String, BTreeMap<String, usize>>,
    /// The most that any node has, or had: a bound, so it never shrinks.
    largest: Resources,
    /// Where plans of this round have reserved something.
    tentative: BTreeSet<NodeName>,
    /// What plans of this round have placed in each namespace.
    spent: BTreeMap<Name, (u32, Resources)>,
}

/// A node as a place.
#[derive(Debug, Clone)]
pub struct Seat {
    pub name: NodeName,
    pub access: Access,
    pub capacity: Resources,
    pub reserved: Resources,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    /// It has a Docker engine.
    pub docker: bool,
    fullness: u64,
}

/// Whether a node takes anything at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    Open,
    Cordoned,
    Draining,
    Suspect,
    Dead,
    /// The node is no object any more.
    Gone,
}

/// What is to be placed.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    pub wanted: Resources,
    pub placement: &'a Placement,
    pub strategy: Strategy,
    /// What must run it.
    pub runtime: Option<Runtime>,
}

/// Where the other replicas of the service are.
#[derive(Debug, Clone, Default)]
pub struct Peers {
    nodes: BTreeMap<NodeName, usize>,
    domains: BTreeMap<String, usize>,
}

/// What a node costs as a choice: the lowest wins. The order of the fields is the order of importance.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Score {
    /// It has a taint that asks to be avoided.
    pub avoided: bool,
    /// How many preferences, from the most important one on, it does not meet before it meets one.
    pub unmet: usize,
    /// Replicas of the same service in its zone: losing the zone should lose as few as possible.
    pub peers: usize,
    /// Replicas of the same service there: losing the node should lose as few as possible.
    pub siblings: usize,
    /// How full its scarcer resource is, in parts of a million; the other way round where a namespace packs.
    pub fill: u64,
    /// Ties are broken by name, so that every choice can be repeated.
    pub node: NodeName,
}

/// Why a node does not take a replica. The order is the one in which they are told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    Closed(Access),
    Label {
        key: String,
        value: String,
    },
    Tainted(Taint),
    /// It is a container, and the node has no engine for it.
    NoDocker,
    Memory {
        free: Bytes,
    },
    Cpu {
        free: MilliCpu,
    },
    /// Not the node, but the quota of the namespace.
    Quota,
}

impl fmt::Display for Refusal {
    /// After the node's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(access) => write!(f, "is {}", access.name()),
            Self::Label { key, value } => write!(f, "lacks the label {key}={value}"),
            Self::Tainted(taint) => write!(f, "has the taint {taint}"),
            Self::NoDocker => f.write_str("has no Docker engine"),
            Self::Memory { free } => write!(f, "has only {} of memory free", rough(*free)),
            Self::Cpu { free } => write!(f, "has only {free} of CPU free"),
            Self::Quota => f.write_str("would take it, but the namespace's quota is used up"),
        }
    }
}

impl Board {
    pub fn new(state: &State) -> Self {
        let mut board = Self::default();
        state.nodes().keys().for_each(|name| board.reseat(state, name));
        board
    }

    /// Looks again at what has changed, and forgets what was only planned.
    pub fn sync(&mut self, state: &mut State) {
        let mut names = std::mem::take(&mut self.tentative);
        names.append(&mut state.take_changed());
        names.iter().for_each(|name| self.reseat(state, name));
        self.spent.clear();
    }

    pub fn seats(&self) -> impl Iterator<Item = &Seat> {
        self.seats.iter().filter(|seat| seat.access != Access::Gone)
    }

    pub fn seat(&self, name: &NodeName) -> Option<&Seat> {
        self.by_name.get(name).map(|&at| &self.seats[at]).filter(|seat| seat.access != Access::Gone)
    }

    /// Counts another replica of the service on a node.
    pub fn meet(&self, peers: &mut Peers, node: &NodeName, placement: &Placement) {
        *peers.nodes.entry(node.clone()).or_default() += 1;
        if let Some(seat) = self.seat(node) {
            *peers.domains.entry(seat.domain(placement.spread()).to_owned()).or_default() += 1;
        }
    }

    /// The best of the nodes that take it, with its score; nothing if there is none.
    pub fn best(&self, ask: &Ask<'_>, peers: &Peers) -> Option<Score> {
        let floor = self.fewest_peers(ask, peers);
        let perfect = |seat: &Seat, score: &Score| {
            !score.avoided
                && score.unmet == 0
                && score.peers <= floor
                && score.siblings == 0
                && seat.access == Access::Open
        };
        let judge = |at: usize| {
            let seat = &self.seats[at];
            seat.fits(ask).is_ok().then(|| seat.score(ask, peers)).filter(|score| perfect(seat, score))
        };
        let first = match ask.strategy {
            Strategy::Spread => self.order.iter().take(WALK_MAX).find_map(|(_, _, at)| judge(*at)),
            Strategy::Pack => self.walk_full(ask).take(WALK_MAX).find_map(judge),
        };
        first.or_else(|| {
            self.seats.iter().filter(|seat| seat.fits(ask).is_ok()).map(|seat| seat.score(ask, peers)).min()
        })
    }

    /// From the fullest that could have room on; equally full ones by name.
    fn walk_full(&self, ask: &Ask<'_>) -> impl Iterator<Item = usize> + '_ {
        let wanted = ask.wanted;
        // No node is larger than the largest, so on none the replica takes a smaller share.
        let least = share(wanted.memory.0, self.largest.memory.0).min(share(wanted.cpu.0, self.largest.cpu.0));
        let mut below = FULL.saturating_sub(least).saturating_add(1);
        let mut group = Vec::new().into_iter();
        let mut steps = 0;
        std::iter::from_fn(move || {
            loop {
                if let Some(at) = group.next() {
                    return Some(at);
                }
                steps += 1;
                if steps > STEPS_MAX {
                    return None;
                }
                let (fullness, ..) = self.order.range(..(below, NodeName::default(), 0)).next_back()?;
                below = *fullness;
                let from = (below, NodeName::default(), 0);
                let equal = self.order.range(from..).take_while(|(fullness, ..)| *fullness == below);
                let fitting = equal.map(|(_, _, at)| *at).filter(|&at| self.seats[at].free().holds(wanted));
                group = fitting.take(WALK_MAX).collect::<Vec<_>>().into_iter();
            }
        })
    }

    /// Reserves a place that was chosen.
    pub fn reserve(&mut self, node: &NodeName, wanted: Resources) {
        let Some(&at) = self.by_name.get(node) else { return };
        self.unlist(at);
        self.seats[at].reserved = self.seats[at].reserved.plus(wanted);
        self.list(at);
        self.tentative.insert(node.clone());
    }

    /// Gives back what a plan takes away, for plans that move things.
    pub fn release(&mut self, node: &NodeName, freed: Resources) {
        let Some(&at) = self.by_name.get(node) else { return };
        self.unlist(at);
        self.seats[at].reserved = self.seats[at].reserved.minus(freed);
        self.list(at);
        self.tentative.insert(node.clone());
    }

    /// Notes what a plan of this round places in a namespace.
    pub fn spend(&mut self, namespace: &Name, wanted: Resources) {
        let (replicas, resources) = self.spent.entry(namespace.clone()).or_insert((0, Resources::ZERO));
        *replicas += 1;
        *resources = resources.plus(wanted);
    }

    /// What plans of this round have placed in a namespace.
    pub fn spent(&self, namespace: &Name) -> (u32, Resources) {
        self.spent.get(namespace).copied().unwrap_or((0, Resources::ZERO))
    }

    /// No zone can have fewer of the service's replicas than that.
    fn fewest_peers(&self, ask: &Ask<'_>, peers: &Peers) -> usize {
        if !ask.spreads_over_domains() {
            return 0;
        }
        let known = self.values.get(ask.placement.spread());
        let labelled: usize = known.map_or(0, |values| values.values().sum());
        let without = (labelled < self.seats.len()).then_some("");
        let domains = known.into_iter().flat_map(BTreeMap::keys).map(String::as_str).chain(without);
        domains.map(|domain| peers.domains.get(domain).copied().unwrap_or(0)).min().unwrap_or(0)
    }

    fn reseat(&mut self, state: &State, name: &NodeName) {
        let node = state.node(name).filter(|node| node.node.is_some());
        let at = match self.by_name.get(name) {
            Some(&at) => {
                self.unlist(at);
                self.uncount(at);
                at
            }
            None if node.is_none() => return,
            None => {
                self.seats.push(Seat::gone(name.clone()));
                self.by_name.insert(name.clone(), self.seats.len() - 1);
                self.seats.len() - 1
            }
        };
        self.seats[at] = node.map_or_else(|| Seat::gone(name.clone()), |node| Seat::of(name.clone(), node));
        self.list(at);
        let capacity = self.seats[at].capacity;
        self.largest.memory = self.largest.memory.max(capacity.memory);
        self.largest.cpu = self.largest.cpu.max(capacity.cpu);
        for (key, value) in self.seats[at].labels.clone() {
            *self.values.entry(key).or_default().entry(value).or_default() += 1;
        }
    }

    fn uncount(&mut self, at: usize) {
        for (key, value) in &self.seats[at].labels {
            let Some(values) = self.values.get_mut(key) else { continue };
            let Some(count) = values.get_mut(value) else { continue };
            *count -= 1;
            if *count == 0 {
                values.remove(value);
            }
        }
    }

    fn unlist(&mut self, at: usize) {
        let seat = &self.seats[at];
        self.order.remove(&(seat.fullness, seat.name.clone(), at));
    }

    fn list(&mut self, at: usize) {
        let seat = &mut self.seats[at];
        seat.fullness = seat.share(seat.reserved);
        if seat.access == Access::Open {
            self.order.insert((seat.fullness, seat.name.clone(), at));
        }
    }
}

impl Ask<'_> {
    /// Whoever packs gives up spreading, unless a service asks for it by name.
    fn spreads_over_domains(&self) -> bool {
        self.strategy == Strategy::Spread || self.placement.spread.is_some()
    }
}

impl Seat {
    fn gone(name: NodeName) -> Self {
        Self {
            name,
            access: Access::Gone,
            capacity: Resources::ZERO,
            reserved: Resources::ZERO,
            labels: BTreeMap::new(),
            taints: Vec::new(),
            docker: false,
            fullness: FULL,
        }
    }

    fn of(name: NodeName, state: &NodeState) -> Self {
        let Some(node) = &state.node else { return Self::gone(name) };
        let access = match node.status.liveness {
            Liveness::Dead => Access::Dead,
            Liveness::Suspect => Access::Suspect,
            Liveness::Alive if node.spec.draining => Access::Draining,
            Liveness::Alive if node.spec.unschedulable => Access::Cordoned,
            Liveness::Alive => Access::Open,
        };
        let mut labels = node.metadata.labels.clone();
        let own = own_labels(name.as_str(), &node.status).into_iter().filter(|(_, value)| !value.is_empty());
        labels.extend(own.map(|(key, value)| (key.to_owned(), value)));
        Self {
            name,
            access,
            capacity: state.capacity(),
            reserved: state.reserved,
            labels,
            taints: node.spec.taints.clone(),
            docker: !node.status.docker.is_empty(),
            fullness: 0,
        }
    }

    pub fn free(&self) -> Resources {
        self.capacity.minus(self.reserved)
    }

    /// How much of the scarcer resource that is, in parts of a million.
    pub fn share(&self, of: Resources) -> u64 {
        share(of.memory.0, self.capacity.memory.0).max(share(of.cpu.0, self.capacity.cpu.0))
    }

    fn domain(&self, key: &str) -> &str {
        self.labels.get(key).map_or("", String::as_str)
    }

    /// Whether the node may have it at all, however full it is.
    pub fn allows(&self, placement: &Placement) -> Result<(), Refusal> {
        for (key, value) in &placement.require {
            if self.labels.get(key) != Some(value) {
                return Err(Refusal::Label { key: key.clone(), value: value.clone() });
            }
        }
        placement.repelled(&self.taints).map_or(Ok(()), |taint| Err(Refusal::Tainted(taint.clone())))
    }

    /// Whether it has what runs such an image.
    pub fn runs(&self, runtime: Option<Runtime>) -> Result<(), Refusal> {
        match runtime {
            Some(Runtime::Docker) if !self.docker => Err(Refusal::NoDocker),
            _ => Ok(()),
        }
    }

    /// Whether there is room for it.
    pub fn holds(&self, wanted: Resources) -> Result<(), Refusal> {
        let free = self.free();
        if wanted.memory > free.memory {
            return Err(Refusal::Memory { free: free.memory });
        }
        if wanted.cpu > free.cpu {
            return Err(Refusal::Cpu { free: free.cpu });
        }
        Ok(())
    }

    /// Whether it takes a replica, or the first reason why not.
    pub fn fits(&self, ask: &Ask<'_>) -> Result<(), Refusal> {
        if self.access != Access::Open {
            return Err(Refusal::Closed(self.access));
        }
        // The cheap comparison first; what is told is ordered by those who tell it.
        self.allows(ask.placement).and_then(|()| self.runs(ask.runtime)).and_then(|()| self.holds(ask.wanted))
    }

    /// Every reason why it does not take one.
    pub fn refusals(&self, ask: &Ask<'_>) -> Vec<Refusal> {
        let closed = (self.access != Access::Open).then_some(Refusal::Closed(self.access));
        let able = self.allows(ask.placement).err().into_iter().chain(self.runs(ask.runtime).err());
        closed.into_iter().chain(able).chain(self.holds(ask.wanted).err()).collect()
    }

    pub fn score(&self, ask: &Ask<'_>, peers: &Peers) -> Score {
        let placement = ask.placement;
        let soft = |taint: &Taint| taint.effect == Effect::PreferNoSchedule && !placement.tolerates(taint);
        let met =
            |labels: &BTreeMap<String, String>| labels.iter().all(|(key, value)| self.labels.get(key) == Some(value));
        let prefer = &placement.prefer;
        let count = |at: Option<&usize>| at.copied().unwrap_or(0);
        let spreads = ask.spreads_over_domains();
        let packs = ask.strategy == Strategy::Pack;
        Score {
            avoided: self.taints.iter().any(soft),
            unmet: prefer.iter().position(met).unwrap_or(prefer.len()),
            peers: if spreads { count(peers.domains.get(self.domain(placement.spread()))) } else { 0 },
            siblings: if packs { 0 } else { count(peers.nodes.get(&self.name)) },
            fill: if packs { FULL.saturating_sub(self.fullness) } else { self.fullness },
            node: self.name.clone(),
        }
    }
}

fn share(part: u64, whole: u64) -> u64 {
    if part == 0 {
        return 0;
    }
    let ratio = (u128::from(part) * u128::from(FULL)).checked_div(u128::from(whole)).unwrap_or(u128::MAX);
    u64::try_from(ratio).unwrap_or(u64::MAX)
}
