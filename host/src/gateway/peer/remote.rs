//! A service on another node, and the choice between several.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use skiff_api::id::{ServiceKey, Uid};

use super::health::{Health, State};
use super::pool::{Peer, now_ms};

/// A service on another node.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(super) peer: Arc<Peer>,
    pub(super) replicas: u32,
    /// The control plane cannot hear the node.
    pub(super) suspect: bool,
    pub(super) load: Arc<Load>,
}

/// What is known of it from here. Outlives changes of the table.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) service: ServiceKey,
    in_flight: AtomicU32,
    pub(super) health: Health,
}

/// A request that is under way there.
pub(super) struct Going(Arc<Load>);

impl Load {
    pub(super) fn new(service: ServiceKey) -> Self {
        Self { service, in_flight: AtomicU32::new(0), health: Health::default() }
    }
}

impl Remote {
    pub(in super::super) fn service(&self) -> &ServiceKey {
        &self.load.service
    }

    pub(in super::super) fn node(&self) -> &Uid {
        &self.peer.uid
    }

    pub(super) fn go(&self) -> Going {
        self.load.in_flight.fetch_add(1, Ordering::Relaxed);
        Going(self.load.clone())
    }

    /// Which of these to prefer: a smaller one. One that is suspect may well serve; one that failed did not.
    fn rank(&self, now: u64) -> (bool, bool) {
        let is_good = |state| state == State::Good;
        let is_bad = !(is_good(self.peer.state(now)) && is_good(self.load.health.state(now)));
        (is_bad, self.suspect)
    }

    /// Whether it has less to do than the other, for what it has to do it with.
    fn is_less_loaded(&self, other: &Self) -> bool {
        let load = |remote: &Self| u64::from(remote.load.in_flight.load(Ordering::Relaxed));
        load(self) * u64::from(other.replicas.max(1)) < load(other) * u64::from(self.replicas.max(1))
    }

    /// Whether the caller is to find out if it works again.
    fn try_again(&self, now: u64) -> bool {
        if self.suspect {
            return false;
        }
        match (self.peer.state(now), self.load.health.state(now)) {
            (State::Due, _) => self.peer.health.try_again(now),
            (State::Good, State::Due) => self.load.health.try_again(now),
            _ => false,
        }
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where a request is put.
#[derive(Debug, Clone)]
pub(in super::super) struct Choice {
    pub(super) remote: Arc<Remote>,
    /// It finds out whether something that failed works again.
    pub(super) is_trial: bool,
}

/// The less loaded of two, of those that are most likely to answer. None of the nodes that were tried.
pub(in super::super) fn choose(remotes: &[Arc<Remote>], tried: &[Arc<Peer>]) -> Option<Choice> {
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let now = now_ms();
    let is_tried = |remote: &Remote| tried.iter().any(|peer| Arc::ptr_eq(peer, &remote.peer));
    let untried = || remotes.iter().filter(|remote| !is_tried(remote));
    if let Some(due) = untried().find(|remote| remote.try_again(now)) {
        return Some(Choice { remote: due.clone(), is_trial: true });
    }
    let best = untried().map(|remote| remote.rank(now)).min()?;
    let likely: Vec<&Arc<Remote>> = untried().filter(|remote| remote.rank(now) == best).collect();
    let turn = TURN.fetch_add(1, Ordering::Relaxed);
    let first = likely.get(turn.checked_rem(likely.len())?)?;
    let chosen = match likely.len() {
        1 => first,
        count => {
            let second = likely.get((turn % count + 1 + turn / count % (count - 1)) % count)?;
            if second.is_less_loaded(first) { second } else { first }
        }
    };
    Some(Choice { remote: Arc::clone(chosen), is_trial: false })
}
