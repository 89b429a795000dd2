//! Where a service is found: its routes, and the nodes that answer for it.
//!
//! A node that answers others is told which other nodes of its site have ready replicas of a service. A node that cannot be
//! heard is told as one that is suspect: the others ask it when nobody else is left, as it may well go on serving while it
//! or this control plane is cut off. A dead one is not told at all.
//!
//! **Large services.** A node is told of [`ENDPOINTS_MAX`] others at most. Which ones follows from a number that each pair of
//! nodes has (rendezvous hashing): every node is told to about equally many others, and when one comes or goes, only those
//! who were told of it, or are now, hear of it.
//!
//! A [`Directory`] remembers what it has looked up until it is told that a service was touched, so that a thousand nodes
//! that are told the same cost one look.

use std::collections::BTreeMap;
use std::fmt::Write;

use skiff_api::resource::{Callers, Liveness, Phase, Route};
use skiff_api::wire::{Endpoint, ServiceRoutes};
use skiff_api::{NodeName, ServiceKey};

use super::State;
use crate::objects::routes_of;

/// Nodes that one node is told of for one service. The less loaded of two is nearly as good a choice among eight as among a
/// thousand; eight may well not all fail at once, and each holds a connection.
pub const ENDPOINTS_MAX: usize = 8;

/// A node that is told, as it described itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listener {
    pub node: NodeName,
    pub site: String,
    /// It has a port for others, and so a way to them.
    pub has_peers: bool,
}

/// What was looked up.
#[derive(Debug, Default)]
pub struct Directory(BTreeMap<ServiceKey, Listed>);

/// A service as it is told to all nodes.
#[derive(Debug)]
struct Listed {
    routes: Vec<Route>,
    callers: Callers,
    /// By the names of the nodes.
    candidates: Vec<Candidate>,
    /// Tells this from what else may be said of its routes and callers.
    print: u64,
}

#[derive(Debug)]
struct Candidate {
    node: NodeName,
    site: String,
    endpoint: Endpoint,
    print: u64,
}

/// What one node is to know of a service.
#[derive(Debug)]
pub struct Entry<'d> {
    listed: &'d Listed,
    chosen: Vec<&'d Candidate>,
    /// Differs from that of any other entry, but for one chance in 2^64: this is what links remember.
    pub print: u64,
}

impl Directory {
    /// Something about these services changed.
    pub fn forget<'a>(&mut self, touched: impl IntoIterator<Item = &'a ServiceKey>) {
        for key in touched {
            self.0.remove(key);
        }
    }

    /// Where a service is found, if it exists. It need not have a replica: gateways then say that it has none.
    pub fn entry(&mut self, state: &State, key: &ServiceKey, listener: &Listener) -> Option<Entry<'_>> {
        if !self.0.contains_key(key) {
            self.0.insert(key.clone(), Listed::new(state, key)?);
        }
        let listed = self.0.get(key)?;
        let chosen = listed.chosen(listener);
        let print = chosen.iter().fold(listed.print, |print, candidate| mixed(print ^ candidate.print));
        Some(Entry { listed, chosen, print })
    }
}

impl Entry<'_> {
    pub fn routes(&self, key: &ServiceKey) -> ServiceRoutes {
        ServiceRoutes {
            service: key.clone(),
            routes: self.listed.routes.clone(),
            callers: self.listed.callers.clone(),
            endpoints: self.chosen.iter().map(|candidate| candidate.endpoint.clone()).collect(),
        }
    }
}

impl Listed {
    fn new(state: &State, key: &ServiceKey) -> Option<Self> {
        let workload = state.workload(key)?;
        let service = workload.service.as_ref()?;
        let mut ready: BTreeMap<&NodeName, u32> = BTreeMap::new();
        let answers = |phase| phase == Phase::Ready && !service.spec.is_worker();
        let replicas = workload.replicas.values().filter(|replica| answers(replica.status.phase));
        for node in replicas.filter_map(|replica| replica.spec.node.as_ref()) {
            *ready.entry(node).or_default() += 1;
        }
        let candidates =
            ready.into_iter().filter_map(|(node, replicas)| Candidate::new(state, node, replicas)).collect();
        let (routes, callers) = (routes_of(key, &service.spec), service.spec.http.callers.clone());
        let print = print_of(format_args!("{routes:?}{callers:?}"));
        Some(Self { routes, callers, candidates, print })
    }

    fn chosen(&self, listener: &Listener) -> Vec<&Candidate> {
        if !listener.has_peers {
            return Vec::new();
        }
        let reaches = |candidate: &&Candidate| candidate.node != listener.node && candidate.site == listener.site;
        let mut chosen: Vec<&Candidate> = self.candidates.iter().filter(reaches).collect();
        if chosen.len() > ENDPOINTS_MAX {
            let of_pair = |uid: &str| print_of(format_args!("{} {uid}", listener.node));
            chosen.sort_by_cached_key(|candidate| {
                let endpoint = &candidate.endpoint;
                (endpoint.suspect, of_pair(endpoint.node.as_str()), candidate.node.clone())
            });
            chosen.truncate(ENDPOINTS_MAX);
            chosen.sort_unstable_by(|a, b| a.node.cmp(&b.node));
        }
        chosen
    }
}

impl Candidate {
    fn new(state: &State, node: &NodeName, replicas: u32) -> Option<Self> {
        let object = state.node(node)?.node.as_ref()?;
        let status = &object.status;
        if status.peer.is_empty() || status.liveness == Liveness::Dead {
            return None;
        }
        let suspect = status.liveness == Liveness::Suspect;
        let endpoint = Endpoint { node: object.metadata.uid.clone(), address: status.peer.clone(), replicas, suspect };
        let print = print_of(format_args!("{endpoint:?}"));
        Some(Self { node: node.clone(), site: status.site.clone(), endpoint, print })
    }
}

/// FNV-1a: the same in every build, so that an update of this program tells nobody anything new.
struct Print(u64);

impl Write for Print {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}

fn print_of(what: std::fmt::Arguments<'_>) -> u64 {
    let mut print = Print(0xcbf2_9ce4_8422_2325);
    // It takes all that is written.
    let _ = print.write_fmt(what);
    mixed(print.0)
}

/// Spreads what differs over all bits.
fn mixed(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{World, key, memory};

    fn listener(node: &str) -> Listener {
        Listener { node: NodeName::new(node), site: String::new(), has_peers: true }
    }

    fn with_peers(world: &mut World, names: &[&str]) {
        for name in names {
            world.node(name, memory(100));
            world.change_node(name, |node| {
                node.status.peer = format!("{}:1", node.metadata.name);
                node.metadata.uid = skiff_api::Uid::new(format!("u-{}", node.metadata.name));
            });
        }
    }

    /// The nodes that one is told of: `b*2` has two replicas, `b?` is suspect.
    fn told(world: &World, listener: &Listener) -> String {
        let mut directory = Directory::default();
        let routes = directory.entry(&world.state, &key("cart"), listener).unwrap().routes(&key("cart"));
        let word = |endpoint: &Endpoint| {
            let node = endpoint.address.trim_end_matches(":1");
            let count = if endpoint.replicas == 1 { String::new() } else { format!("*{}", endpoint.replicas) };
            format!("{node}{count}{}", if endpoint.suspect { "?" } else { "" })
        };
        routes.endpoints.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn others_of_the_site_that_have_ready_replicas_are_told() {
        let mut world = World::new();
        with_peers(&mut world, &["a", "b", "c", "d"]);
        world.node("shy", memory(100));
        world.service("cart", 7, memory(1));
        for (suffix, node, phase) in [
            ("aaaaa", "a", Phase::Ready),
            ("bbbbb", "b", Phase::Ready),
            ("ccccc", "b", Phase::Ready),
            ("ddddd", "c", Phase::Ready),
            ("eeeee", "d", Phase::Compiling),
            ("fffff", "d", Phase::Stopping),
            ("ggggg", "shy", Phase::Ready),
        ] {
            world.replica("cart", 1, suffix, Some(node), phase);
        }
        assert_eq!(told(&world, &listener("a")), "b*2 c");
        assert_eq!(told(&world, &listener("d")), "a b*2 c");
        assert_eq!(told(&world, &Listener { has_peers: false, ..listener("d") }), "");
        world.suspect("b");
        assert_eq!(told(&world, &listener("d")), "a b*2? c");
        world.liveness("b", Liveness::Dead);
        assert_eq!(told(&world, &listener("d")), "a c");
        world.change_node("c", |node| node.status.site = "far".to_owned());
        assert_eq!(told(&world, &listener("d")), "a");
        assert_eq!(told(&world, &Listener { site: "far".to_owned(), ..listener("e") }), "c");
    }

    fn many(world: &mut World, nodes: usize) -> Vec<String> {
        let names: Vec<String> = (0..nodes).map(|number| format!("n{number:03}")).collect();
        with_peers(world, &names.iter().map(String::as_str).collect::<Vec<_>>());
        world.service("cart", 1, memory(1));
        for (number, name) in names.iter().enumerate() {
            world.replica("cart", 1, &format!("r{number:04}"), Some(name), Phase::Ready);
        }
        names
    }

    #[test]
    fn of_many_some_are_told_evenly_and_a_change_concerns_few() {
        let mut world = World::new();
        let names = many(&mut world, 200);
        let all = |world: &World| names.iter().map(|name| told(world, &listener(name))).collect::<Vec<_>>();
        let before = all(&world);
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for list in &before {
            let list: Vec<&str> = list.split(' ').collect();
            assert_eq!(list.len(), ENDPOINTS_MAX);
            list.into_iter().for_each(|node| *times.entry(node).or_default() += 1);
        }
        assert!(times.len() >= 198, "some are told to nobody: {}", times.len());
        assert!(times.values().all(|count| *count <= 3 * ENDPOINTS_MAX), "{times:?}");

        // One that is suspect makes room, and is told only where it was, if at all.
        world.suspect("n017");
        let after = all(&world);
        assert!(after.iter().all(|list| !list.contains('?')));
        let changed = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        assert_eq!(changed, times["n017"]);
        world.liveness("n017", Liveness::Alive);
        assert_eq!(all(&world), before);
    }

    #[test]
    fn suspects_fill_up_what_the_others_leave() {
        let mut world = World::new();
        for name in many(&mut world, 12).iter().skip(3) {
            world.suspect(name);
        }
        let list = told(&world, &listener("other"));
        assert_eq!(list.split(' ').count(), ENDPOINTS_MAX);
        assert!(["n000", "n001", "n002"].iter().all(|alive| list.split(' ').any(|node| node == *alive)), "{list}");
    }

    #[test]
    fn what_is_remembered_is_looked_up_again_once_it_was_touched() {
        let mut world = World::new();
        with_peers(&mut world, &["a", "b"]);
        world.service("cart", 1, memory(1));
        let mut directory = Directory::default();
        let print = |directory: &mut Directory, world: &World| {
            directory.entry(&world.state, &key("cart"), &listener("a")).map(|entry| entry.print)
        };
        let before = print(&mut directory, &world);
        world.replica("cart", 1, "aaaaa", Some("b"), Phase::Ready);
        assert_eq!(print(&mut directory, &world), before);
        directory.forget([&key("cart")]);
        let after = print(&mut directory, &world);
        assert!(after.is_some() && after != before);
        world.no_service("cart");
        directory.forget([&key("cart")]);
        assert_eq!(print(&mut directory, &world), None);
        assert!(directory.0.is_empty());
    }
}
