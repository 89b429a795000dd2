//! The doorways of a node: opened before a container starts, or for one that runs on, and closed behind it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use skiff_api::grant::Allow;
use skiff_api::id::Uid;
use skiff_registry::hash::sha256;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::spawn_blocking;

use super::door::Door;
use super::firewall::{Firewall, Way, Ways};
use super::names;
use crate::capabilities::Outbound;

/// Connections of all containers. A process gets 20,000 descriptors on common machines; each of these may take two.
const CONTAINER_CONNECTIONS_MAX: usize = 4096;

/// Addresses of a container's network, of which the node's is the second.
const NETWORK_SIZE: u32 = 8;

/// Why a container has no doorway.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "this node cannot hold a container to its `allow`: {0} (hint: install iptables there, and let the node run as root)"
    )]
    Rules(String),
    #[error("failed to open the way out of a container")]
    Open(#[source] std::io::Error),
}

/// Which container a doorway is for, and where it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'p> {
    pub(crate) container: &'p str,
    pub(crate) uid: &'p Uid,
    /// The node's address in its network.
    pub(crate) gateway: Ipv4Addr,
}

/// All of a node's.
#[derive(Debug)]
pub(crate) struct Doorways {
    node: Uid,
    /// For the files that containers look names up by.
    folder: PathBuf,
    firewall: Firewall,
    connections: Arc<Semaphore>,
    open: Mutex<BTreeMap<Uid, (Door, Way)>>,
    /// It was said that there are no rules.
    said: AtomicBool,
}

impl Doorways {
    pub(crate) fn new(node: Uid, folder: PathBuf) -> Self {
        let (firewall, connections) = (Firewall::new(&of_node(&node)), Semaphore::new(CONTAINER_CONNECTIONS_MAX));
        let connections = Arc::new(connections);
        Self { node, folder, firewall, connections, open: Mutex::default(), said: AtomicBool::new(false) }
    }

    /// Opens a container's doorway, and returns the file that is to be its `/etc/resolv.conf`. `None`: there can be no rules
    /// here, and the container does without, as it is allowed nothing.
    pub(crate) async fn open(
        &self,
        place: Place<'_>,
        allow: &Allow,
        outbound: &Outbound,
    ) -> Result<Option<PathBuf>, Error> {
        let door = Door::open(place.gateway, outbound.clone(), self.connections.clone()).map_err(Error::Open)?;
        let way = Way { gateway: place.gateway, ports: allow.ports(), udp: door.udp, tcp: door.tcp };
        let mut open = self.open.lock().await;
        open.insert(place.uid.clone(), (door, way));
        if let Err(why) = self.firewall.set(&self.ways(&open)).await {
            open.remove(place.uid);
            if open.is_empty() {
                // Some of them may have been set.
                self.firewall.clear().await;
            }
            if !allow.is_empty() {
                return Err(Error::Rules(why));
            }
            if !self.said.swap(true, Ordering::Relaxed) {
                let so = "containers reach what listens on all of this machine's addresses, and may be allowed nothing";
                tracing::warn!(why, "no rules can be set for containers: {so}");
            }
            return Ok(None);
        }
        drop(open);
        let (folder, container, gateway) = (self.folder.clone(), place.container.to_owned(), place.gateway);
        let written = spawn_blocking(move || names::write(&folder, &container, gateway)).await;
        written.map_err(std::io::Error::other).flatten().map(Some).map_err(Error::Open)
    }

    /// Closes a container's doorway, if it has one. Its network may be gone already.
    pub(crate) async fn close(&self, uid: &Uid) {
        let mut open = self.open.lock().await;
        if open.remove(uid).is_none() {
            return;
        }
        if open.is_empty() {
            self.firewall.clear().await;
        } else if let Err(why) = self.firewall.set(&self.ways(&open)).await {
            // The door is closed in any case.
            tracing::warn!(why, "the rules of a container that has ended are still there");
        }
    }

    /// Forgets what a container looked names up by.
    pub(crate) async fn forget(&self, container: &str) {
        let (folder, container) = (self.folder.clone(), container.to_owned());
        // The next start of the node removes what stays.
        drop(spawn_blocking(move || names::remove(&folder, &container)).await);
    }

    /// Removes what earlier runs of the node have left: these containers are all that is wanted.
    pub(crate) async fn sweep(&self, wanted: Vec<String>) {
        let open = self.open.lock().await;
        if open.is_empty() && wanted.is_empty() {
            self.firewall.clear().await;
        }
        drop(open);
        let folder = self.folder.clone();
        drop(
            spawn_blocking(move || names::remove_others(&folder, |name| wanted.iter().any(|wanted| wanted == name)))
                .await,
        );
    }

    fn ways(&self, open: &BTreeMap<Uid, (Door, Way)>) -> Ways {
        open.iter().map(|(uid, (_, way))| (bridge(&self.node, uid), way.clone())).collect()
    }
}

/// What the bridges of a node begin with.
fn of_node(node: &Uid) -> String {
    let hash = sha256(node.as_str().as_bytes());
    format!("skf{}", hash.hex().get(..4).unwrap_or_default())
}

/// What the bridge of a replica's container is called, in the 15 characters that there are: rules are by its name.
pub(crate) fn bridge(node: &Uid, replica: &Uid) -> String {
    let own = sha256(format!("{}\0{}", node.as_str(), replica.as_str()).as_bytes());
    format!("{}{}", of_node(node), own.hex().get(..8).unwrap_or_default())
}

/// The node's address in the network that this one is in.
pub(crate) fn gateway_of(address: Ipv4Addr) -> Ipv4Addr {
    Ipv4Addr::from_bits((address.to_bits() & !(NETWORK_SIZE - 1)) + 1)
}

/// Whether somebody is the container behind this gateway: another process of the machine is at the gateway's own address.
pub(super) fn is_from(gateway: Ipv4Addr, from: IpAddr) -> bool {
    matches!(from, IpAddr::V4(ip) if ip != gateway && gateway_of(ip) == gateway)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_has_a_name_of_its_own_that_the_kernel_takes() {
        let of = |node: &str, uid: &str| bridge(&Uid::new(node), &Uid::new(uid));
        assert_eq!(of("n", "u").len(), 15);
        assert!(of("n", "u") != of("n", "v") && of("n", "u")[..7] == of("n", "v")[..7]);
        assert_ne!(of("n", "u")[..7], of("m", "u")[..7]);
    }

    #[test]
    fn a_container_is_who_shares_the_network_with_the_node() {
        let ip = |text: &str| text.parse::<Ipv4Addr>().unwrap();
        assert_eq!(gateway_of(ip("198.18.3.10")), ip("198.18.3.9"));
        let is_from = |from: &str| is_from(ip("198.18.3.9"), from.parse().unwrap());
        assert!(is_from("198.18.3.10"));
        for other in ["198.18.3.9", "198.18.3.2", "198.18.3.18", "127.0.0.1", "::1"] {
            assert!(!is_from(other), "{other}");
        }
    }
}
