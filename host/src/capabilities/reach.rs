//! What all replicas of a node share to reach others.

use std::sync::{Arc, Weak};

use skiff_api::id::ReplicaKey;
use skiff_api::wire::NodeEvent;
use tokio::sync::{Semaphore, mpsc};

use super::Resolve;
use super::connect::Connector;
use super::natives::Natives;
use crate::gateway::Shared;
use crate::metrics::Outgoing;

/// Refusals and troubles on their way to the control plane; more than these are only logged. The reconciler takes them in
/// microseconds.
const EVENTS_MAX: usize = 256;

/// Sockets of all guests: as those of requests, a part of a process's descriptors.
const GUEST_SOCKETS_MAX: usize = 2048;

/// What an event says at most: guests have a say in some of it.
const MESSAGE_CHARS_MAX: usize = 1000;

/// A node's way to services and servers.
#[derive(Debug)]
pub(crate) struct Reach {
    /// Weak: the gateway's table leads to replicas, which lead here.
    gateway: Weak<Shared>,
    pub(super) connector: Connector,
    pub(super) figures: Arc<Outgoing>,
    /// The containers of this node.
    pub(super) natives: Natives,
    pub(super) sockets: Arc<Semaphore>,
    events: mpsc::Sender<NodeEvent>,
}

impl Reach {
    /// Also returns where refusals are heard of.
    pub(crate) fn new(gateway: &Arc<Shared>, names: Arc<dyn Resolve>) -> (Arc<Self>, mpsc::Receiver<NodeEvent>) {
        let (events, told) = mpsc::channel(EVENTS_MAX);
        let figures = gateway.metrics.outgoing.clone();
        let connector = Connector::new(names, figures.clone());
        let (gateway, natives) = (Arc::downgrade(gateway), Natives::default());
        let sockets = Arc::new(Semaphore::new(GUEST_SOCKETS_MAX));
        (Arc::new(Self { gateway, connector, figures, natives, sockets, events }), told)
    }

    /// `None` once the node has stopped.
    pub(super) fn gateway(&self) -> Option<Arc<Shared>> {
        self.gateway.upgrade()
    }

    /// A warning about a replica, unless too many are on their way.
    pub(super) fn warn(&self, replica: &ReplicaKey, reason: &str, mut message: String) {
        if let Some((end, _)) = message.char_indices().nth(MESSAGE_CHARS_MAX) {
            message.truncate(end);
        }
        let event_type = skiff_api::resource::EventType::Warning;
        let event = NodeEvent { replica: replica.clone(), event_type, reason: reason.to_owned(), message };
        // It stands in the replica's log as well.
        let _ = self.events.try_send(event);
    }
}
