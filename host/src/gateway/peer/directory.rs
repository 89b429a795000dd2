//! The other nodes that this one knows.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use skiff_api::id::{ServiceKey, Uid};
use skiff_api::wire::Endpoint;

use super::budget::Budget;
use super::identity::Ends;
use super::pool::Peer;
use super::remote::{Load, Remote};
use crate::metrics::Metrics;

/// Fewer entries are not worth a sweep.
const SWEEP_MIN: usize = 64;

/// A node's way to others.
#[derive(Debug)]
pub(crate) struct Peers {
    ends: Ends,
    metrics: Arc<Metrics>,
    pub(super) budget: Budget,
    /// They live as long as the table, or a request, leads to them.
    known: Mutex<HashMap<Uid, Weak<Peer>>>,
    /// Who was removed from the cluster.
    removed: ArcSwap<HashSet<Uid>>,
}

impl Peers {
    pub(crate) fn new(ends: Ends, metrics: Arc<Metrics>) -> Self {
        Self { ends, metrics, budget: Budget::default(), known: Mutex::default(), removed: ArcSwap::default() }
    }

    /// These nodes, and no others, were removed from the cluster. Answers whether that is news.
    pub(crate) fn shut_out(&self, removed: &[Uid]) -> bool {
        let removed: HashSet<Uid> = removed.iter().cloned().collect();
        let is_news = **self.removed.load() != removed;
        if is_news {
            self.removed.store(Arc::new(removed));
        }
        is_news
    }

    pub(super) fn is_removed(&self, node: &Uid) -> bool {
        self.removed.load().contains(node)
    }

    /// Where a service is on other nodes. What was known of them before stays.
    pub(crate) fn remotes(
        &self,
        service: &ServiceKey,
        endpoints: &[Endpoint],
        before: &[Arc<Remote>],
    ) -> Vec<Arc<Remote>> {
        endpoints.iter().map(|endpoint| self.remote(service, endpoint, before)).collect()
    }

    fn remote(&self, service: &ServiceKey, endpoint: &Endpoint, before: &[Arc<Remote>]) -> Arc<Remote> {
        let Endpoint { node, address, replicas, suspect } = endpoint;
        let is_same = |old: &&Arc<Remote>| old.peer.uid == *node && old.peer.address == *address;
        match before.iter().find(is_same) {
            Some(old) if (old.replicas, old.suspect) == (*replicas, *suspect) => old.clone(),
            Some(old) => {
                // The control plane hears it again: so may this node.
                if old.suspect && !suspect {
                    old.peer.health.succeeded();
                }
                let (peer, load) = (old.peer.clone(), old.load.clone());
                Arc::new(Remote { peer, replicas: *replicas, suspect: *suspect, load })
            }
            None => {
                let (peer, load) = (self.peer(node, address), Arc::new(Load::new(service.clone())));
                Arc::new(Remote { peer, replicas: *replicas, suspect: *suspect, load })
            }
        }
    }

    fn peer(&self, uid: &Uid, address: &str) -> Arc<Peer> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = known.get(uid).and_then(Weak::upgrade).filter(|peer| peer.address == address) {
            return peer;
        }
        let peer = Peer::new(uid.clone(), address.to_owned(), self.ends.clone(), self.metrics.clone());
        let peer = Arc::new(peer);
        if known.len() >= SWEEP_MIN {
            known.retain(|_, peer| peer.strong_count() > 0);
        }
        known.insert(uid.clone(), Arc::downgrade(&peer));
        peer
    }
}

#[cfg(test)]
mod tests {
    use skiff_link::authority::Authority;
    use skiff_link::clock::Clock;
    use skiff_link::identity::{Identity, Key};

    use super::super::remote::choose;
    use super::*;
    use crate::uplink::Credentials;

    fn peers() -> Peers {
        let (now, key) = (jiff::Timestamp::now(), Key::generate().unwrap());
        let authority = Authority::generate(now).unwrap();
        let chain = authority.issue_node(&key.csr().unwrap(), &Uid::new("me"), now).unwrap();
        let identity = Identity::new(&key, &chain, &authority.ca_pem()).unwrap();
        Peers::new(Ends::new(&Credentials::new(identity, Clock::new(now)).unwrap()).unwrap(), Arc::default())
    }

    fn service() -> ServiceKey {
        ServiceKey { namespace: "shop".parse().unwrap(), name: "cart".parse().unwrap() }
    }

    /// `a`, with two replicas `a*2`, suspect `a?`; at port 1.
    fn endpoints(text: &str) -> Vec<Endpoint> {
        let endpoint = |word: &str| {
            let (word, suspect) = word.strip_suffix('?').map_or((word, false), |word| (word, true));
            let (node, replicas) = word.split_once('*').unwrap_or((word, "1"));
            let (node, replicas) = (Uid::new(node), replicas.parse().unwrap());
            Endpoint { node, address: "127.0.0.1:1".to_owned(), replicas, suspect }
        };
        text.split_whitespace().map(endpoint).collect()
    }

    /// How often each is chosen of a hundred times, each of which stays under way.
    fn chosen(remotes: &[Arc<Remote>], tried: &[&str]) -> Vec<(String, usize)> {
        let tried: Vec<Arc<Peer>> =
            remotes.iter().filter(|r| tried.contains(&r.peer.uid.as_str())).map(|r| r.peer.clone()).collect();
        let mut counts = std::collections::BTreeMap::<String, usize>::new();
        let mut going = Vec::new();
        for _ in 0..100 {
            let Some(choice) = choose(remotes, &tried) else { continue };
            going.push(choice.remote.go());
            *counts.entry(choice.remote.peer.uid.to_string()).or_default() += 1;
        }
        counts.into_iter().collect()
    }

    fn count(counts: &[(String, usize)], node: &str) -> usize {
        counts.iter().find(|(name, _)| name == node).map_or(0, |(_, count)| *count)
    }

    #[test]
    fn load_is_shared_by_what_there_is_to_bear_it() {
        let peers = peers();
        let remotes = peers.remotes(&service(), &endpoints("a b*3 c?"), &[]);
        let counts = chosen(&remotes, &[]);
        assert!((20..=30).contains(&count(&counts, "a")) && count(&counts, "c") == 0, "{counts:?}");
        assert_eq!(chosen(&remotes, &["a", "b"]), [("c".to_owned(), 100)], "the last one to be asked");
        assert_eq!(chosen(&remotes, &["a", "b", "c"]), []);
    }

    #[test]
    fn who_failed_is_left_alone_unless_all_did() {
        let peers = peers();
        let remotes = peers.remotes(&service(), &endpoints("a b c?"), &[]);
        let error = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        remotes[0].peer.failed(&error, false);
        assert_eq!(chosen(&remotes, &[]), [("b".to_owned(), 100)]);
        remotes[1].peer.failed(&error, false);
        assert_eq!(chosen(&remotes, &[]), [("c".to_owned(), 100)]);
        remotes[2].peer.failed(&error, false);
        let counts = chosen(&remotes, &[]);
        assert!(count(&counts, "a") > 30 && count(&counts, "b") > 30, "{counts:?}");
    }

    #[test]
    fn what_is_known_of_a_node_outlives_changes_of_the_table() {
        let peers = peers();
        let first = peers.remotes(&service(), &endpoints("a b?"), &[]);
        let going = first[0].go();
        let error = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        first.iter().for_each(|remote| remote.peer.failed(&error, false));
        let second = peers.remotes(&service(), &endpoints("a*2 b"), &first);
        assert!(Arc::ptr_eq(&first[0].peer, &second[0].peer) && Arc::ptr_eq(&first[0].load, &second[0].load));
        // One that the control plane hears again is good until it fails again.
        assert_eq!(chosen(&second, &[]), [("b".to_owned(), 100)]);
        drop(going);
        let third = peers.remotes(&service(), &endpoints("a*2 b"), &second);
        assert!(Arc::ptr_eq(&second[0], &third[0]));
        // A node that has moved is another one to whoever dials it.
        let moved = Endpoint { address: "127.0.0.1:2".to_owned(), ..endpoints("a").remove(0) };
        assert!(!Arc::ptr_eq(&peers.remotes(&service(), &[moved], &third)[0].peer, &third[0].peer));
    }
}
