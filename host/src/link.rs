//! The link between a node and its control plane: messages both ways, in order, bounded.
//!
//! In one process it is a handful of channels. Whatever carries it between machines hands the node the same ends. Log lines
//! have a channel of their own, since there may be many of them, and nothing else waits for them.

use std::net::{IpAddr, SocketAddr};

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
    /// Log lines and their ends. Whoever drops it ends the queries.
    pub bulk: mpsc::Receiver<FromNode>,
}

impl Peer {
    /// What the node says next, of either kind; for those that carry both on one way. `None`: the node has ended the link.
    pub async fn recv(&mut self) -> Option<FromNode> {
        tokio::select! {
            message = self.from_node.recv() => message,
            Some(message) = self.bulk.recv() => Some(message),
        }
    }
}

/// The node's end.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) inbox: mpsc::Receiver<ToNode>,
    pub(crate) outbox: mpsc::Sender<FromNode>,
    pub(crate) bulk: mpsc::Sender<FromNode>,
    /// Which of this machine's addresses the link goes out from.
    pub(crate) from: Option<IpAddr>,
}

impl Link {
    /// An address of this node as others can dial it: one that means "every address of this machine" is the one that the
    /// link goes out from, since the control plane's network is the one that is shared.
    pub(crate) fn reachable(&self, addr: &str) -> String {
        match (addr.parse::<SocketAddr>(), self.from) {
            (Ok(addr), Some(from)) if addr.ip().is_unspecified() => SocketAddr::new(from, addr.port()).to_string(),
            _ => addr.to_owned(),
        }
    }
}

pub(crate) fn pair(from: Option<IpAddr>) -> (Peer, Link) {
    let (to_node, inbox) = mpsc::channel(MESSAGES_MAX);
    let (outbox, from_node) = mpsc::channel(MESSAGES_MAX);
    let (to_bulk, bulk) = mpsc::channel(MESSAGES_MAX);
    (Peer { to_node, from_node, bulk }, Link { inbox, outbox, bulk: to_bulk, from })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_means_all_of_them_becomes_the_one_that_is_shared() {
        let (_peer, link) = pair(Some("10.0.0.7".parse().unwrap()));
        assert_eq!(link.reachable("0.0.0.0:8080"), "10.0.0.7:8080");
        assert_eq!(link.reachable("[::]:8080"), "10.0.0.7:8080");
        assert_eq!(link.reachable("192.168.1.2:8080"), "192.168.1.2:8080");
        assert_eq!(link.reachable("edge.example:80"), "edge.example:80");
        let (_peer, inside) = pair(None);
        assert_eq!(inside.reachable("0.0.0.0:8080"), "0.0.0.0:8080");
    }
}
