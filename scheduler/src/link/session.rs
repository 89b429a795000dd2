//! One link as a state machine: what the node was told, and what to tell it next.
//!
//! ```text
//! New ── hello ──> Told (whole) ── change ──> Told (delta) ── resync or hello ──> Told (whole)
//! ```
//! It does no I/O: messages are what its methods return.

use std::collections::BTreeSet;

use skiff_api::wire::{Base, Desired, Fence, FromNode, Hello, PROTOCOL, Routes, ToNode};
use skiff_api::{NodeName, ReplicaKey, ServiceKey, Uid};

use crate::plan::State;
use crate::plan::desired::Told;
use crate::plan::endpoints::{Directory, Listener};

/// Why a link is dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("it speaks version {theirs} of the protocol, not {PROTOCOL} (hint: run the same version of skiff on both)")]
    Protocol { theirs: u32 },
    #[error("it is {was} and says that it is {says}")]
    Renamed { was: NodeName, says: NodeName },
    #[error("it sent {message} before it said hello")]
    NoHello { message: &'static str },
    #[error("its name is not one (hint: use letters, digits, '-', '.' and '_')")]
    BadName,
    #[error("its site or labels are none (hint: write KEY=VALUE, of letters, digits, '-', '_' and '.')")]
    BadLabels,
    #[error("its hello is longer than any node's")]
    LongHello,
    #[error("another machine has that name (hint: give each node its own name)")]
    NameTaken,
    #[error("its certificate is another machine's than {says}, which it says that it is")]
    OtherIdentity { says: Uid },
    #[error(
        "another machine with the same identity is connected (hint: one is a copy of the other: delete DATA/node/identity there, and join it as a node of its own)"
    )]
    Cloned,
    #[error("it does not take its messages: its queue is full")]
    Stuck,
}

#[derive(Debug, Default)]
pub struct Session {
    listener: Option<Listener>,
    told: Told,
    /// How many removed machines were told of.
    removed: usize,
    /// The services whose volumes it was told that it has.
    volumes: BTreeSet<Uid>,
    /// It was not told, since not all services could be read.
    owes_volumes: bool,
    desired: Fence,
    routes: Fence,
}

impl Session {
    /// Who is at the other end, once it has said so.
    pub fn node(&self) -> Option<&NodeName> {
        self.listener.as_ref().map(|listener| &listener.node)
    }

    pub fn hello(&mut self, hello: &Hello) -> Result<(), Refused> {
        if hello.protocol != PROTOCOL {
            return Err(Refused::Protocol { theirs: hello.protocol });
        }
        match self.node() {
            Some(was) if *was != hello.node => Err(Refused::Renamed { was: was.clone(), says: hello.node.clone() }),
            _ => {
                let (node, site) = (hello.node.clone(), hello.site.clone());
                self.listener = Some(Listener { node, site, has_peers: hello.peer.is_some() });
                Ok(())
            }
        }
    }

    /// Who said this; only a hello may come before a hello.
    pub fn speaker(&self, message: &FromNode) -> Result<NodeName, Refused> {
        let message = match message {
            FromNode::Hello(_) => "a hello",
            FromNode::Observed(_) => "a report",
            FromNode::Resync => "a request for the whole",
            FromNode::Event(_) => "an event",
            FromNode::Lease { .. } => "a question for its lease",
            FromNode::Logs { .. } | FromNode::LogsEnd { .. } => "log lines",
            FromNode::NoTunnel { .. } => "that there is no tunnel",
        };
        self.node().cloned().ok_or(Refused::NoHello { message })
    }

    /// All that the node should run and answer for. Nothing before its hello.
    pub fn whole(&mut self, state: &State, directory: &mut Directory, mut fence: impl FnMut() -> Fence) -> Vec<ToNode> {
        let Some(listener) = &self.listener else { return Vec::new() };
        let (told, assignments, routes) = Told::whole(state, directory, listener);
        self.told = told;
        self.routes = fence();
        self.desired = fence();
        let removed_nodes = listener.has_peers.then(|| state.removed().iter().cloned().collect());
        self.removed = state.removed().len();
        let routes =
            Routes { fence: self.routes, base: Base::Whole, upsert: routes, remove: Vec::new(), removed_nodes };
        self.volumes = state.volumes_on(&listener.node).cloned().unwrap_or_default();
        self.owes_volumes = !state.knows_all();
        let desired = Desired {
            fence: self.desired,
            base: Base::Whole,
            upsert: assignments,
            remove: Vec::new(),
            volumes: state.knows_all().then(|| self.volumes.iter().cloned().collect()),
        };
        vec![ToNode::Routes(routes), ToNode::Desired(desired)]
    }

    /// What changed. Routes come first: what is removed gets no new requests before it stops.
    pub fn delta<'a>(
        &mut self,
        (state, directory): (&State, &mut Directory),
        replicas: impl IntoIterator<Item = &'a ReplicaKey>,
        services: impl IntoIterator<Item = &'a ServiceKey>,
        mut fence: impl FnMut() -> Fence,
    ) -> Vec<ToNode> {
        let Some(listener) = &self.listener else { return Vec::new() };
        let mut messages = Vec::new();
        let routes = self.told.route(state, directory, listener, services);
        let is_removed_news = listener.has_peers && state.removed().len() != self.removed;
        if !routes.is_empty() || is_removed_news {
            let base = Base::After(self.routes);
            self.routes = fence();
            let (upsert, remove) = (routes.upsert, routes.remove);
            let removed_nodes = is_removed_news.then(|| state.removed().iter().cloned().collect());
            self.removed = state.removed().len();
            messages.push(ToNode::Routes(Routes { fence: self.routes, base, upsert, remove, removed_nodes }));
        }
        let desired = self.told.assign(state, &listener.node, replicas.into_iter().cloned());
        let volumes = state.volumes_on(&listener.node);
        let is_volume_news = state.knows_all()
            && (self.owes_volumes || volumes.map_or(!self.volumes.is_empty(), |volumes| *volumes != self.volumes));
        if !desired.is_empty() || is_volume_news {
            let base = Base::After(self.desired);
            self.desired = fence();
            let (upsert, remove) = (desired.upsert, desired.remove);
            if is_volume_news {
                self.volumes = volumes.cloned().unwrap_or_default();
                self.owes_volumes = false;
            }
            let volumes = is_volume_news.then(|| self.volumes.iter().cloned().collect());
            messages.push(ToNode::Desired(Desired { fence: self.desired, base, upsert, remove, volumes }));
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use skiff_api::resource::Phase;
    use skiff_api::{ReplicaName, Uid};

    use super::*;
    use crate::plan::testing::{World, hello_from, key, memory};

    fn counting() -> impl FnMut() -> Fence {
        let mut counter = 0;
        move || {
            counter += 1;
            Fence { epoch: 1, term: 1, counter }
        }
    }

    #[test]
    fn deltas_build_on_what_was_sent_last() {
        let mut world = World::new();
        world.node("n", memory(10));
        world.service("cart", 1, memory(1));
        world.revision("cart", 1, memory(1));
        let mut session = Session::default();
        let mut fence = counting();
        let directory = &mut Directory::default();
        assert!(session.whole(&world.state, directory, &mut fence).is_empty(), "nobody is there yet");
        session.hello(&hello_from("n", memory(10))).unwrap();
        let whole = session.whole(&world.state, directory, &mut fence);
        assert!(matches!(&whole[..], [ToNode::Routes(routes), ToNode::Desired(desired)]
            if routes.base == Base::Whole && routes.upsert.len() == 1 && desired.base == Base::Whole));

        world.replica("cart", 1, "aaaaa", Some("n"), Phase::Pending);
        let replica = ReplicaKey { namespace: key("x").namespace, name: ReplicaName::new("cart-1-aaaaa") };
        let delta = session.delta((&world.state, directory), [&replica], [&key("cart")], &mut fence);
        let [ToNode::Desired(desired)] = &delta[..] else { panic!("{delta:?}") };
        assert_eq!(desired.base, Base::After(Fence { epoch: 1, term: 1, counter: 2 }));
        assert_eq!((desired.fence.counter, desired.upsert.len()), (3, 1));
        assert!(session.delta((&world.state, directory), [&replica], [&key("cart")], &mut fence).is_empty());

        world.no_service("cart");
        world.no_replica("cart", "cart-1-aaaaa");
        directory.forget([&key("cart")]);
        let delta = session.delta((&world.state, directory), [&replica], [&key("cart")], &mut fence);
        assert!(matches!(&delta[..], [ToNode::Routes(routes), ToNode::Desired(desired)]
            if routes.remove == [key("cart")] && desired.remove == [replica]
                && desired.base == Base::After(Fence { epoch: 1, term: 1, counter: 3 })));
    }

    #[test]
    fn a_node_is_told_whose_volumes_it_has_when_that_changes() {
        let mut world = World::new();
        world.node("n", memory(10));
        world.change_node("n", |node| node.metadata.uid = Uid::new("machine"));
        world.service("cart", 0, memory(1));
        let directory = &mut Directory::default();
        let mut fence = counting();
        let mut session = Session::default();
        session.hello(&hello_from("n", memory(10))).unwrap();
        let volumes = |messages: &[ToNode]| match messages.last() {
            Some(ToNode::Desired(desired)) => desired.volumes.clone(),
            _ => None,
        };
        assert_eq!(volumes(&session.whole(&world.state, directory, &mut fence)), Some(Vec::new()));
        let home = skiff_api::resource::Home { node: NodeName::new("n"), uid: Uid::new("machine") };
        world.settled_at("cart", home);
        let mut told = |world: &World| {
            let delta = session.delta((&world.state, directory), [], [], &mut fence);
            volumes(&delta)
        };
        assert_eq!(told(&world), Some(vec![Uid::new("uid of cart")]));
        assert_eq!(told(&world), None);
        world.change_node("n", |node| node.metadata.uid = Uid::new("another of that name"));
        assert_eq!(told(&world), Some(Vec::new()));
        world.change_node("n", |node| node.metadata.uid = Uid::new("machine"));
        assert_eq!(told(&world), Some(vec![Uid::new("uid of cart")]));
        // A service that cannot be read may have volumes there: nothing goes before it is known.
        world.state.set_unread(&key("shop"), true);
        world.no_service("cart");
        assert_eq!(told(&world), None);
        world.state.set_unread(&key("shop"), false);
        assert_eq!(told(&world), Some(Vec::new()));
        world.state.set_unread(&key("shop"), true);
        let mut other = Session::default();
        other.hello(&hello_from("n", memory(10))).unwrap();
        assert_eq!(volumes(&other.whole(&world.state, &mut Directory::default(), counting())), None);
        world.state.set_unread(&key("shop"), false);
        let delta = other.delta((&world.state, &mut Directory::default()), [], [], counting());
        assert_eq!(volumes(&delta), Some(Vec::new()));
    }

    #[test]
    fn nodes_that_others_dial_are_told_who_was_removed() {
        let mut world = World::new();
        world.node("n", memory(10));
        world.state.add_removed(Uid::new("thief"));
        let directory = &mut Directory::default();
        let mut fence = counting();
        for (peer, told) in [(None, None), (Some("n:1".to_owned()), Some(vec![Uid::new("thief")]))] {
            let mut session = Session::default();
            session.hello(&Hello { peer, ..hello_from("n", memory(10)) }).unwrap();
            let whole = session.whole(&world.state, directory, &mut fence);
            assert!(matches!(&whole[0], ToNode::Routes(routes) if routes.removed_nodes == told), "{whole:?}");
            assert!(session.delta((&world.state, directory), [], [], &mut fence).is_empty());
            let mut state = State::default();
            ["thief", "other"].into_iter().for_each(|uid| state.add_removed(Uid::new(uid)));
            let delta = session.delta((&state, directory), [], [], &mut fence);
            let count = delta.iter().filter(|message| {
                matches!(message, ToNode::Routes(routes) if routes.removed_nodes.as_ref().is_some_and(|all| all.len() == 2))
            });
            assert_eq!(count.count(), usize::from(told.is_some()));
        }
    }

    #[test]
    fn a_link_begins_with_a_hello_in_the_right_protocol_and_keeps_its_name() {
        let mut session = Session::default();
        let error = session.speaker(&FromNode::Resync).unwrap_err();
        assert_eq!(error, Refused::NoHello { message: "a request for the whole" });
        let mut hello = hello_from("n", memory(1));
        hello.protocol = PROTOCOL + 1;
        assert_eq!(session.hello(&hello), Err(Refused::Protocol { theirs: PROTOCOL + 1 }));
        session.hello(&hello_from("n", memory(1))).unwrap();
        session.hello(&hello_from("n", memory(2))).unwrap();
        assert!(matches!(session.hello(&hello_from("m", memory(1))), Err(Refused::Renamed { .. })));
        assert_eq!(session.speaker(&FromNode::Resync), Ok(NodeName::new("n")));
    }
}
