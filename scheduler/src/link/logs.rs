//! Logs: questions to nodes, and their answers to whoever asked.
//!
//! Each query has an id that only the node that was asked may answer: on its link, or on a second connection of the same
//! machine, so that a large log keeps nothing else waiting. A reader that goes away has its query cancelled on
//! the node; a node that goes away, or a reader that is slower than its node, ends the answer with an error that says
//! so. Neither holds up the link.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use skiff_api::wire::{LogLine, LogQuery, ToNode};
use skiff_api::{Code, NodeName, Problem, Uid};
use tokio::sync::mpsc;

use super::LinkId;
use crate::link_api::LogSource;

/// Messages with lines that one reader may be behind: some megabytes at the usual length of lines.
const BATCHES_MAX: usize = 1024;

/// Finds the way of log lines. Cheap to clone.
#[derive(Clone, Default)]
pub struct LogRouter(Arc<Mutex<Routes>>);

#[derive(Default)]
struct Routes {
    nodes: HashMap<NodeName, Asked>,
    queries: HashMap<u64, Query>,
    /// The newest second connection of each machine.
    bulks: HashMap<Uid, u64>,
    next: u64,
}

/// Where a node is asked.
#[derive(Clone)]
struct Asked {
    link: LinkId,
    uid: Uid,
    to_node: mpsc::Sender<ToNode>,
}

struct Query {
    link: LinkId,
    uid: Uid,
    /// The second connection that its lines come on.
    bulk: Option<u64>,
    lines: mpsc::Sender<Vec<LogLine>>,
    end: Arc<Mutex<Option<Problem>>>,
}

impl Query {
    /// Ends the answer: the reader sees the error after the lines that it still has to read.
    fn fail(self, problem: Problem) {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem);
    }
}

impl LogRouter {
    /// A node can be asked on this link from now on.
    pub(crate) fn open(&self, node: NodeName, uid: Uid, link: LinkId, to_node: mpsc::Sender<ToNode>) {
        self.lock().nodes.insert(node, Asked { link, uid, to_node });
    }

    /// A machine may also answer here from now on.
    pub(crate) fn open_bulk(&self, uid: Uid) -> Bulk {
        let mut routes = self.lock();
        routes.next += 1;
        let id = routes.next;
        routes.bulks.insert(uid.clone(), id);
        drop(routes);
        Bulk { id, uid, router: self.clone() }
    }

    /// The link is gone, and with it the answers that were to come on it.
    pub(crate) fn close(&self, link: LinkId) {
        let mut routes = self.lock();
        routes.nodes.retain(|_, asked| asked.link != link);
        let gone = routes.take(|query| query.link == link);
        drop(routes);
        gone.into_values().for_each(|query| query.fail(lost()));
    }

    /// The second connection is gone: the node goes on on no other with what it said there.
    fn close_bulk(&self, bulk: &Bulk) {
        let mut routes = self.lock();
        if routes.bulks.get(&bulk.uid) == Some(&bulk.id) {
            routes.bulks.remove(&bulk.uid);
        }
        let gone = routes.take(|query| query.bulk == Some(bulk.id));
        let gone: Vec<_> = gone.into_iter().map(|(id, query)| (id, routes.sender(query.link), query)).collect();
        drop(routes);
        for (id, to_node, query) in gone {
            query.fail(lost());
            cancel(to_node, id);
        }
    }

    pub(crate) fn deliver(&self, link: LinkId, id: u64, lines: Vec<LogLine>) {
        self.take_lines(Speaker::Link(link), id, lines);
    }

    fn take_lines(&self, speaker: Speaker<'_>, id: u64, lines: Vec<LogLine>) {
        let mut routes = self.lock();
        let Some(query) = routes.queries.get_mut(&id).filter(|query| speaker.may_answer(query)) else { return };
        if let Speaker::Bulk(bulk) = speaker {
            query.bulk = Some(bulk.id);
        }
        if query.lines.try_send(lines).is_ok() {
            return;
        }
        let link = query.link;
        let to_node = routes.sender(link);
        let query = routes.queries.remove(&id);
        drop(routes);
        if let Some(query) = query {
            query.fail(unavailable("the reader is slower than the log (hint: ask for fewer lines with --tail)"));
        }
        cancel(to_node, id);
    }

    pub(crate) fn end(&self, link: LinkId, id: u64, error: Option<String>) {
        self.take_end(Speaker::Link(link), id, error);
    }

    fn take_end(&self, speaker: Speaker<'_>, id: u64, error: Option<String>) {
        let mut routes = self.lock();
        if routes.queries.get(&id).is_none_or(|query| !speaker.may_answer(query)) {
            return;
        }
        let query = routes.queries.remove(&id);
        drop(routes);
        if let (Some(query), Some(error)) = (query, error) {
            query.fail(unavailable(&error));
        }
    }

    fn ask(&self, node: &NodeName, query: LogQuery) -> Result<Answer, Problem> {
        let absent = || unavailable(&format!("node {node} is not connected"));
        let mut routes = self.lock();
        let Asked { link, uid, to_node } = routes.nodes.get(node).cloned().ok_or_else(absent)?;
        let bulk = routes.bulks.get(&uid).copied();
        routes.next += 1;
        let id = routes.next;
        // Registered under the same lock, so that the answer finds it.
        to_node.try_send(ToNode::Logs { id, query }).map_err(|_| absent())?;
        let (sender, lines) = mpsc::channel(BATCHES_MAX);
        let end = Arc::default();
        routes.queries.insert(id, Query { link, uid, bulk, lines: sender, end: Arc::clone(&end) });
        drop(routes);
        Ok(Answer { id, router: self.clone(), lines, end, ready: VecDeque::new() })
    }

    /// The link that a node is asked on, which machine it is, and what it takes.
    pub(crate) fn way_to(&self, node: &NodeName) -> Option<(LinkId, Uid, mpsc::Sender<ToNode>)> {
        let asked = self.lock().nodes.get(node).cloned()?;
        Some((asked.link, asked.uid, asked.to_node))
    }

    fn lock(&self) -> MutexGuard<'_, Routes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Routes {
    fn sender(&self, link: LinkId) -> Option<mpsc::Sender<ToNode>> {
        self.nodes.values().find(|asked| asked.link == link).map(|asked| asked.to_node.clone())
    }

    fn take(&mut self, is_gone: impl Fn(&Query) -> bool) -> HashMap<u64, Query> {
        let (gone, kept) = self.queries.drain().partition(|(_, query)| is_gone(query));
        self.queries = kept;
        gone
    }
}

/// Who says something about a query.
#[derive(Clone, Copy)]
enum Speaker<'a> {
    Link(LinkId),
    Bulk(&'a Bulk),
}

impl Speaker<'_> {
    fn may_answer(self, query: &Query) -> bool {
        match self {
            Self::Link(link) => query.link == link,
            Self::Bulk(bulk) => query.uid == bulk.uid,
        }
    }
}

/// The second connection of a machine, until it is dropped.
pub(crate) struct Bulk {
    id: u64,
    uid: Uid,
    router: LogRouter,
}

impl Bulk {
    pub(crate) fn uid(&self) -> &Uid {
        &self.uid
    }

    pub(crate) fn deliver(&self, id: u64, lines: Vec<LogLine>) {
        self.router.take_lines(Speaker::Bulk(self), id, lines);
    }

    pub(crate) fn end(&self, id: u64, error: Option<String>) {
        self.router.take_end(Speaker::Bulk(self), id, error);
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        self.router.close_bulk(self);
    }
}

/// A node that takes no messages loses its link anyway, and its queries with it.
fn cancel(to_node: Option<mpsc::Sender<ToNode>>, id: u64) {
    if let Some(to_node) = to_node {
        let _ = to_node.try_send(ToNode::CancelLogs { id });
    }
}

fn lost() -> Problem {
    unavailable("the node with these logs has lost its connection")
}

fn unavailable(detail: &str) -> Problem {
    Problem::new(Code::Unavailable, detail)
}

/// The lines that come for one query.
struct Answer {
    id: u64,
    router: LogRouter,
    lines: mpsc::Receiver<Vec<LogLine>>,
    end: Arc<Mutex<Option<Problem>>>,
    ready: VecDeque<LogLine>,
}

impl Answer {
    async fn next(&mut self) -> Option<Result<LogLine, Problem>> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(Ok(line));
            }
            match self.lines.recv().await {
                Some(lines) => self.ready = lines.into(),
                None => return self.end.lock().unwrap_or_else(PoisonError::into_inner).take().map(Err),
            }
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let mut routes = self.router.lock();
        if let Some(query) = routes.queries.remove(&self.id) {
            let to_node = routes.sender(query.link);
            drop(routes);
            cancel(to_node, self.id);
        }
    }
}

impl LogSource for LogRouter {
    fn logs(&self, node: &NodeName, query: LogQuery) -> BoxStream<'static, Result<LogLine, Problem>> {
        match self.ask(node, query) {
            Err(problem) => stream::iter([Err(problem)]).boxed(),
            Ok(answer) => stream::unfold(answer, |mut answer| async move {
                let line = answer.next().await?;
                Some((line, answer))
            })
            .boxed(),
        }
    }
}
