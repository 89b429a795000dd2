//! Placement: which node takes a replica, and why not the others.
//!
//! Hard constraints are filters, each with its reason to refuse; among the nodes that remain the lowest
//! [`Score`] wins. A component runs on any platform, so platforms filter only where a service
//! requires the label `arch` or `os`.

use std::collections::BTreeMap;
use std::fmt;

use skiff_api::NodeName;
use skiff_api::quantity::{Bytes, MilliCpu};
use skiff_api::resource::{Quota, Resources, Taint};

use super::board::{Access, Ask, Board, Peers, Refusal, Score};

/// A choice, with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub score: Score,
    /// Nodes that there are.
    pub nodes: usize,
    /// How full the node's scarcer resource will be, in parts of a million.
    pub fullness: u64,
}

/// Why a replica waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waits {
    NoNodeFits(Box<NoNodeFits>),
    /// Its namespace has all that it may have.
    Quota {
        quota: Quota,
        placed: u32,
        reserved: Resources,
        wanted: Resources,
    },
    /// What it keeps is on a node that does not take it.
    Home(Box<AwayFrom>),
}

/// Why a service cannot run where its volume is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwayFrom {
    pub volume: String,
    pub node: NodeName,
    pub refusal: Refusal,
}

/// No node takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoNodeFits {
    pub wanted: Resources,
    pub tally: Tally,
}

/// How many nodes refuse for which reason. Of capacity the most that is free anywhere counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    pub nodes: usize,
    pub closed: BTreeMap<Access, usize>,
    pub labels: BTreeMap<(String, String), usize>,
    pub taints: BTreeMap<Taint, usize>,
    /// Nodes without a Docker engine.
    pub no_docker: usize,
    pub memory: Option<(usize, Bytes)>,
    pub cpu: Option<(usize, MilliCpu)>,
}

impl Tally {
    pub fn add(&mut self, refusal: Refusal) {
        match refusal {
            Refusal::Closed(access) => *self.closed.entry(access).or_default() += 1,
            Refusal::Label { key, value } => *self.labels.entry((key, value)).or_default() += 1,
            Refusal::Tainted(taint) => *self.taints.entry(taint).or_default() += 1,
            Refusal::NoDocker => self.no_docker += 1,
            Refusal::Quota => {}
            Refusal::Memory { free } => {
                let (n, most) = self.memory.unwrap_or((0, Bytes(0)));
                self.memory = Some((n + 1, most.max(free)));
            }
            Refusal::Cpu { free } => {
                let (n, most) = self.cpu.unwrap_or((0, MilliCpu(0)));
                self.cpu = Some((n + 1, most.max(free)));
            }
        }
    }
}

/// Chooses a node for one replica and reserves its place there.
pub fn place(board: &mut Board, ask: &Ask<'_>, peers: &Peers) -> Result<Choice, Box<NoNodeFits>> {
    match board.best(ask, peers) {
        Some(score) => Ok(take(board, ask, score)),
        None => {
            let mut tally = Tally::default();
            for seat in board.seats() {
                tally.nodes += 1;
                if let Err(refusal) = seat.fits(ask) {
                    tally.add(refusal);
                }
            }
            Err(Box::new(NoNodeFits { wanted: ask.wanted, tally }))
        }
    }
}

/// The same on one node only.
pub fn place_on(board: &mut Board, ask: &Ask<'_>, peers: &Peers, node: &NodeName) -> Result<Choice, Refusal> {
    let seat = board.seat(node).ok_or(Refusal::Closed(Access::Gone))?;
    seat.fits(ask)?;
    let score = seat.score(ask, peers);
    Ok(take(board, ask, score))
}

fn take(board: &mut Board, ask: &Ask<'_>, score: Score) -> Choice {
    board.reserve(&score.node, ask.wanted);
    let fullness = board.seat(&score.node).map_or(0, |seat| seat.share(seat.reserved));
    Choice { nodes: board.seats().count(), fullness, score }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { score: Score { siblings, node, .. }, nodes, fullness } = self;
        let tenths = fullness / 1000;
        write!(f, "best of {nodes} node{}: ", if *nodes == 1 { "" } else { "s" })?;
        write!(
            f,
            "{node} has {siblings} of the service's replicas and will be {}.{}% reserved",
            tenths / 10,
            tenths % 10
        )
    }
}

impl fmt::Display for NoNodeFits {
    /// `0/3 nodes fit: 1 is suspect, 2 lack 3Gi of memory (most free: 1.2Gi)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tally = &self.tally;
        if tally.nodes == 0 {
            return f.write_str("there is no node");
        }
        let one = |n: usize, single: &'static str, many: &'static str| if n == 1 { single } else { many };
        let mut parts: Vec<String> = Vec::new();
        for (access, n) in &tally.closed {
            parts.push(format!("{n} {} {}", one(*n, "is", "are"), access.name()));
        }
        for ((key, value), n) in &tally.labels {
            parts.push(format!("{n} {} the label {key}={value}", one(*n, "lacks", "lack")));
        }
        for (taint, n) in &tally.taints {
            parts.push(format!("{n} {} the taint {taint}", one(*n, "has", "have")));
        }
        if tally.no_docker > 0 {
            let n = tally.no_docker;
            parts.push(format!("{n} {} no Docker engine", one(n, "has", "have")));
        }
        if let Some((n, free)) = tally.memory {
            let (lack, most) = (one(n, "lacks", "lack"), one(n, "free", "most free"));
            parts.push(format!("{n} {lack} {} of memory ({most}: {})", rough(self.wanted.memory), rough(free)));
        }
        if let Some((n, free)) = tally.cpu {
            let (lack, most) = (one(n, "lacks", "lack"), one(n, "free", "most free"));
            parts.push(format!("{n} {lack} {} of CPU ({most}: {free})", self.wanted.cpu));
        }
        write!(f, "0/{} nodes fit: {}", tally.nodes, parts.join(", "))
    }
}

impl fmt::Display for AwayFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { volume, node, refusal } = self;
        let anew = "delete the service and apply it again, to begin elsewhere without what is in it";
        let what = match refusal {
            Refusal::Closed(Access::Gone) => {
                return write!(f, "its volume {volume} is on node {node}, which was removed (hint: {anew})");
            }
            Refusal::Closed(Access::Cordoned | Access::Draining) => format!("`skiff uncordon {node}`"),
            Refusal::Closed(_) => "bring it back".to_owned(),
            _ => "change that".to_owned(),
        };
        write!(f, "its volume {volume} is on node {node}, which {refusal} (hint: {what}; or {anew})")
    }
}

impl Waits {
    /// One word for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoNodeFits(_) => "NoNodeFits",
            Self::Quota { .. } => "QuotaExceeded",
            Self::Home(_) => "VolumeElsewhere",
        }
    }
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (quota, placed, reserved, wanted) = match self {
            Self::Quota { quota, placed, reserved, wanted } => (quota, placed, reserved, wanted),
            Self::NoNodeFits(refused) => return refused.fmt(f),
            Self::Home(away) => return away.fmt(f),
        };
        let mut parts = Vec::new();
        if let Some(most) = quota.replicas.filter(|most| placed.saturating_add(1) > *most) {
            parts.push(format!("{placed} of {most} replicas are placed"));
        }
        if let Some(most) = quota.memory.filter(|most| reserved.plus(*wanted).memory > *most) {
            parts.push(format!("{} of {most} memory are reserved, and it wants {}", reserved.memory, wanted.memory));
        }
        if let Some(most) = quota.cpu.filter(|most| reserved.plus(*wanted).cpu > *most) {
            parts.push(format!("{} of {most} CPU are reserved, and it wants {}", reserved.cpu, wanted.cpu));
        }
        write!(f, "the namespace's quota is used up: {}", parts.join(", "))
    }
}

/// Whether a namespace may have another replica.
pub fn within(quota: &Quota, placed: u32, reserved: Resources, wanted: Resources) -> Result<(), Waits> {
    let after = reserved.plus(wanted);
    let exceeded = quota.replicas.is_some_and(|most| placed.saturating_add(1) > most)
        || quota.memory.is_some_and(|most| after.memory > most)
        || quota.cpu.is_some_and(|most| after.cpu > most);
    match exceeded {
        true => Err(Waits::Quota { quota: *quota, placed, reserved, wanted }),
        false => Ok(()),
    }
}

impl Access {
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Cordoned => "cordoned",
            Self::Draining => "draining",
            Self::Suspect => "suspect",
            Self::Dead => "dead",
            Self::Gone => "gone",
        }
    }
}

/// A number of bytes with one decimal at most, rounded down: a person compares it, nobody computes with it.
pub(super) fn rough(bytes: Bytes) -> String {
    let units = [("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];
    let Some((unit, shift)) = units.into_iter().find(|(_, shift)| bytes.0 >> shift > 0) else {
        return bytes.to_string();
    };
    let tenths = (u128::from(bytes.0) * 10) >> shift;
    match tenths % 10 {
        0 => format!("{}{unit}", tenths / 10),
        tenth => format!("{}.{tenth}{unit}", tenths / 10),
    }
}

#[cfg(test)]
mod tests;
