//! The links as the control loop holds them: who is at the other end, and what is sent there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use skiff_api::resource::NodeSpec;
use skiff_api::wire::{FromNode, Hello, ToNode};
use skiff_api::{NodeName, Uid};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::DropGuard;

use super::counters::{Counters, add};
use super::mirror::Touched;
use super::term::{LEASES_LAPSE, Term};
use crate::link::{Arrival, LinkId, LogRouter, Refused, Session, What};
use crate::plan::State;
use crate::plan::endpoints::Directory;

/// A node describes itself in some hundred bytes.
const HELLO_BYTES_MAX: usize = 16 << 10;

pub(super) struct Links {
    links: BTreeMap<LinkId, Link>,
    by_node: BTreeMap<NodeName, LinkId>,
    term: Term,
    /// Before that, leases of an earlier epoch may be held.
    leases_from: Option<Instant>,
    directory: Directory,
    logs: LogRouter,
    counters: Arc<Counters>,
}

struct Link {
    session: Session,
    uid: Uid,
    incarnation: Uid,
    /// Which machine it is by its certificate.
    certified: Option<Uid>,
    to_node: mpsc::Sender<ToNode>,
    /// Ends the reader when the link is dropped.
    _reader: DropGuard,
}

/// What the control loop has to know of what happened on the links.
#[derive(Debug)]
pub(super) enum News {
    /// A node said something that is its to say.
    Said(NodeName, Box<FromNode>),
    /// A node cannot be heard any more.
    Lost(NodeName),
}

impl Links {
    pub(super) fn new(term: Term, logs: LogRouter, counters: Arc<Counters>) -> Self {
        let leases_from = (!term.is_settled()).then(|| Instant::now() + LEASES_LAPSE);
        let (links, by_node, directory) = (BTreeMap::new(), BTreeMap::new(), Directory::default());
        Self { links, by_node, term, leases_from, directory, logs, counters }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.term.epoch()
    }

    /// Takes in what came from a link, and answers what the node must be told at once.
    pub(super) fn arrived(&mut self, arrival: Arrival, state: &State) -> Vec<News> {
        let Arrival { link: id, what } = arrival;
        match what {
            What::Opened(opened) => {
                let (to_node, reader, certified) = (opened.to_node, opened.reader, opened.certified);
                let (uid, incarnation) = (Uid::default(), Uid::default());
                let link = Link { session: Session::default(), uid, incarnation, certified, to_node, _reader: reader };
                self.links.insert(id, link);
                Vec::new()
            }
            What::Closed => self.drop_link(id).into_iter().collect(),
            What::Said(message) => match self.said(id, message, state) {
                Ok(news) => news,
                Err(refused) => self.refuse(id, &refused).into_iter().collect(),
            },
        }
    }

    fn said(&mut self, id: LinkId, message: Box<FromNode>, state: &State) -> Result<Vec<News>, Refused> {
        // What a dropped link said last.
        let Some(link) = self.links.get_mut(&id) else { return Ok(Vec::new()) };
        if let FromNode::Hello(hello) = &*message {
            check(hello)?;
            if let Some(certified) = &link.certified {
                check_owner(certified, hello, state)?;
            }
            link.session.hello(hello)?;
            link.uid = hello.uid.clone();
            link.incarnation = hello.incarnation.clone();
            let to_node = link.to_node.clone();
            self.take_name(id, hello)?;
            self.logs.open(hello.node.clone(), hello.uid.clone(), id, to_node);
            let news = News::Said(hello.node.clone(), message);
            return Ok([news].into_iter().chain(self.send_whole(id, state)).collect());
        }
        let node = link.session.speaker(&message)?;
        match *message {
            FromNode::Resync => Ok(self.send_whole(id, state).into_iter().collect()),
            // Only on a link that is a node's own: from the moment it is lost, nobody is answered any more.
            FromNode::Lease { .. } if self.leases_from.is_some_and(|from| Instant::now() < from) => Ok(Vec::new()),
            FromNode::Lease { asked_ms } => Ok(self.send(id, vec![ToNode::Lease { asked_ms }]).into_iter().collect()),
            message => Ok(vec![News::Said(node, Box::new(message))]),
        }
    }

    /// One link for each name. A node that comes back before its old link was missed takes its own place, if it is the same
    /// process: another one on another machine may have a copy of its disk, and both would take turns. One that was
    /// restarted finds its old link gone within a second.
    fn take_name(&mut self, id: LinkId, hello: &Hello) -> Result<(), Refused> {
        let other = self.by_node.get(&hello.node).copied().filter(|other| *other != id);
        let holder = other.and_then(|other| self.links.get(&other));
        if holder.is_some_and(|holder| holder.uid != hello.uid) {
            return Err(Refused::NameTaken);
        }
        if holder.is_some_and(|holder| holder.incarnation != hello.incarnation) {
            return Err(Refused::Cloned);
        }
        self.by_node.insert(hello.node.clone(), id);
        if let Some(other) = other {
            self.drop_link(other);
        }
        self.counters.links.store(self.by_node.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Tells every node what changed.
    pub(super) fn publish(&mut self, state: &State, touched: &Touched) -> Vec<News> {
        self.directory.forget(&touched.routes);
        let ids: Vec<LinkId> = self.by_node.values().copied().collect();
        let mut news = Vec::new();
        for id in ids {
            let Some(link) = self.links.get_mut(&id) else { continue };
            let known = (state, &mut self.directory);
            let messages = link.session.delta(known, &touched.replicas, &touched.routes, || self.term.next());
            news.extend(self.send(id, messages));
        }
        news
    }

    /// Tells every node everything, when it is not known what changed.
    pub(super) fn publish_whole(&mut self, state: &State) -> Vec<News> {
        self.directory = Directory::default();
        let ids: BTreeSet<LinkId> = self.by_node.values().copied().collect();
        ids.into_iter().filter_map(|id| self.send_whole(id, state)).collect()
    }

    fn send_whole(&mut self, id: LinkId, state: &State) -> Option<News> {
        let link = self.links.get_mut(&id)?;
        let messages = link.session.whole(state, &mut self.directory, || self.term.next());
        self.send(id, messages)
    }

    /// Never waits: a node whose queue is full loses its link.
    fn send(&mut self, id: LinkId, messages: Vec<ToNode>) -> Option<News> {
        let link = self.links.get(&id)?;
        for message in messages {
            match link.to_node.try_send(message) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => return self.refuse(id, &Refused::Stuck),
                Err(mpsc::error::TrySendError::Closed(_)) => return self.drop_link(id),
            }
        }
        None
    }

    fn refuse(&mut self, id: LinkId, why: &Refused) -> Option<News> {
        let node = self.links.get(&id).and_then(|link| link.session.node());
        tracing::warn!(?id, node = node.map(tracing::field::display), %why, "dropped a node's link");
        add(&self.counters.links_refused, 1);
        if let Some(link) = self.links.get(&id) {
            // Whoever is stuck learns it from the end of the link.
            let _ = link.to_node.try_send(ToNode::Refused { why: why.to_string() });
        }
        self.drop_link(id)
    }

    fn drop_link(&mut self, id: LinkId) -> Option<News> {
        let link = self.links.remove(&id)?;
        self.logs.close(id);
        let node = link.session.node()?.clone();
        // It may have another link by now, or never have got the name.
        if self.by_node.get(&node) != Some(&id) {
            return None;
        }
        self.by_node.remove(&node);
        self.counters.links.store(self.by_node.len() as u64, Ordering::Relaxed);
        Some(News::Lost(node))
    }
}

fn check(hello: &Hello) -> Result<(), Refused> {
    if !skiff_api::validate::is_node_name(hello.node.as_str()) {
        return Err(Refused::BadName);
    }
    let peer = hello.peer.clone().unwrap_or_default();
    let texts = [&hello.version, &hello.platform, &hello.gateway, &peer, &hello.engine.name, &hello.docker];
    if !skiff_api::validate::node(&hello.labels, &NodeSpec::default()).is_empty() || !is_site(&hello.site) {
        return Err(Refused::BadLabels);
    }
    let choices: usize = hello.engine.choices.iter().map(|(key, value)| key.len() + value.len()).sum();
    let ids = hello.uid.as_str().len() + hello.incarnation.as_str().len();
    if texts.map(String::len).iter().sum::<usize>() + choices + ids > HELLO_BYTES_MAX {
        return Err(Refused::LongHello);
    }
    Ok(())
}

/// A machine speaks for itself, by the name that it joined with.
fn check_owner(certified: &Uid, hello: &Hello, state: &State) -> Result<(), Refused> {
    if hello.uid != *certified {
        return Err(Refused::OtherIdentity { says: hello.uid.clone() });
    }
    let object = |name: &NodeName| state.node(name).and_then(|node| node.node.as_ref());
    match object(&hello.node) {
        Some(node) if node.metadata.uid == hello.uid => Ok(()),
        Some(_) => Err(Refused::NameTaken),
        None => {
            // It was not heard since the cluster was restored, or it calls itself by another name than before.
            let mut others = state.nodes().iter().filter_map(|(name, node)| Some((name, node.node.as_ref()?)));
            match others.find(|(_, node)| node.metadata.uid == hello.uid) {
                Some((was, _)) => Err(Refused::Renamed { was: was.clone(), says: hello.node.clone() }),
                None => Ok(()),
            }
        }
    }
}

/// A site is a label's value: services may require it.
fn is_site(site: &str) -> bool {
    let label = BTreeMap::from([("of".to_owned(), site.to_owned())]);
    skiff_api::validate::node(&label, &NodeSpec::default()).is_empty()
}
