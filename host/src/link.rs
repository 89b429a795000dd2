//! The link between a node and its control plane: messages both ways, in order, bounded.
//!
//! In one process it is a pair of channels. Whatever carries it between machines hands the node the same two ends.

use skiff_api::wire::{FromNode, ToNode};
use tokio::sync::mpsc;

/// Messages on their way in one direction. Whoever sends more waits, or keeps what is newest: neither side grows when
/// the other is slow.
const MESSAGES_MAX: usize = 256;

/// The control plane's end. Dropping it ends the link.
#[derive(Debug)]
pub struct Peer {
    pub to_node: mpsc::Sender<ToNode>,
    pub from_node: mpsc::Receiver<FromNode>,
}

/// The node's end.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) inbox: mpsc::Receiver<ToNode>,
    pub(crate) outbox: mpsc::Sender<FromNode>,
}

pub(crate) fn pair() -> (Peer, Link) {
    let (to_node, inbox) = mpsc::channel(MESSAGES_MAX);
    let (outbox, from_node) = mpsc::channel(MESSAGES_MAX);
    (Peer { to_node, from_node }, Link { inbox, outbox })
}
