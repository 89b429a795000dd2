//! What the control plane has not been told yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use skiff_api::id::ReplicaKey;
use skiff_api::resource::{EventType, ReplicaStatus};
use skiff_api::wire::{Fence, FromNode, Hello, NodeEvent, Observed};

/// Kept while there is no control plane; the oldest are dropped. What a person asks about later is the newest anyway.
const EVENTS_MAX: usize = 512;

/// Statuses as they are now, and which of them are news. A newer status takes the place of an older one that was not
/// sent, so this is as small as the number of replicas.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) statuses: BTreeMap<ReplicaKey, ReplicaStatus>,
    hello: Option<Box<Hello>>,
    whole: bool,
    resync: bool,
    /// When the node asked for its lease, by its own clock.
    lease: Option<u64>,
    /// The fence of the desired set is news, also where no replica changed.
    fence: bool,
    changed: BTreeSet<ReplicaKey>,
    gone: BTreeSet<ReplicaKey>,
    events: VecDeque<NodeEvent>,
}

impl Outbox {
    /// A new link: it is told who speaks, and everything from the start.
    pub(super) fn greet(&mut self, hello: Hello) {
        self.hello = Some(Box::new(hello));
        self.whole = true;
        self.resync = false;
        self.lease = None;
    }

    /// Everything once more: a control plane that was restored believes no end that it has not asked for.
    pub(super) fn repeat(&mut self) {
        self.whole = true;
    }

    pub(super) fn resync(&mut self) {
        self.resync = true;
    }

    /// Asks for the lease. What was asked before and not sent is asked no more.
    pub(super) fn ask_lease(&mut self, asked_ms: u64) {
        self.lease = Some(asked_ms);
    }

    pub(super) fn fence_changed(&mut self) {
        self.fence = true;
    }

    pub(super) fn set(&mut self, replica: ReplicaKey, status: ReplicaStatus) {
        self.gone.remove(&replica);
        self.changed.insert(replica.clone());
        self.statuses.insert(replica, status);
    }

    /// The replica does not exist here. Also said of one that never did: who asks wants to hear it.
    pub(super) fn gone(&mut self, replica: ReplicaKey) {
        self.statuses.remove(&replica);
        self.changed.remove(&replica);
        self.gone.insert(replica);
    }

    pub(super) fn event(&mut self, replica: ReplicaKey, event_type: EventType, reason: &str, message: String) {
        self.pass_on(NodeEvent { replica, event_type, reason: reason.to_owned(), message });
    }

    pub(super) fn pass_on(&mut self, event: NodeEvent) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    pub(super) fn is_empty(&self) -> bool {
        let Self { hello, whole, resync, lease, fence, changed, gone, events, statuses: _ } = self;
        let quiet = !(*whole || *resync || *fence || lease.is_some());
        hello.is_none() && quiet && changed.is_empty() && gone.is_empty() && events.is_empty()
    }

    /// The next message; what it says is no news any more.
    pub(super) fn take(&mut self, fence: Fence) -> Option<FromNode> {
        if let Some(hello) = self.hello.take() {
            return Some(FromNode::Hello(*hello));
        }
        if self.whole {
            self.whole = false;
            self.fence = false;
            self.changed.clear();
            self.gone.clear();
            let replicas = self.statuses.iter().map(|(key, status)| (key.clone(), status.clone())).collect();
            return Some(FromNode::Observed(Observed { whole: true, fence, replicas, gone: Vec::new() }));
        }
        if let Some(asked_ms) = self.lease.take() {
            return Some(FromNode::Lease { asked_ms });
        }
        if std::mem::take(&mut self.resync) {
            return Some(FromNode::Resync);
        }
        if self.fence || !self.changed.is_empty() || !self.gone.is_empty() {
            self.fence = false;
            let changed = std::mem::take(&mut self.changed);
            let replicas = changed.into_iter().filter_map(|key| {
                let status = self.statuses.get(&key)?.clone();
                Some((key, status))
            });
            let replicas = replicas.collect();
            let gone = std::mem::take(&mut self.gone).into_iter().collect();
            return Some(FromNode::Observed(Observed { whole: false, fence, replicas, gone }));
        }
        self.events.pop_front().map(FromNode::Event)
    }
}

#[cfg(test)]
mod tests {
    use skiff_api::id::ReplicaName;
    use skiff_api::resource::Phase;

    use super::*;

    fn key(name: &str) -> ReplicaKey {
        ReplicaKey { namespace: "default".parse().unwrap(), name: ReplicaName::new(name) }
    }

    fn status(phase: Phase) -> ReplicaStatus {
        ReplicaStatus { phase, ..ReplicaStatus::default() }
    }

    #[test]
    fn only_the_newest_is_said_and_only_once() {
        let mut outbox = Outbox::default();
        outbox.set(key("a"), status(Phase::Pulling));
        outbox.set(key("a"), status(Phase::Ready));
        outbox.set(key("b"), status(Phase::Ready));
        outbox.gone(key("b"));
        let Some(FromNode::Observed(said)) = outbox.take(Fence::default()) else { panic!("nothing is said") };
        assert_eq!(said.replicas, [(key("a"), status(Phase::Ready))]);
        assert_eq!(said.gone, [key("b")]);
        assert!(outbox.is_empty() && outbox.take(Fence::default()).is_none());
    }

    #[test]
    fn events_are_bounded_and_the_newest_stay() {
        let mut outbox = Outbox::default();
        for number in 0..2 * EVENTS_MAX {
            outbox.event(key("a"), EventType::Normal, "Pulled", number.to_string());
        }
        let mut messages = std::iter::from_fn(|| outbox.take(Fence::default()));
        let Some(FromNode::Event(first)) = messages.next() else { panic!("no event") };
        assert_eq!(first.message, EVENTS_MAX.to_string());
        assert_eq!(messages.count(), EVENTS_MAX - 1);
    }
}
