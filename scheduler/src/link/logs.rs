//! Logs: questions to nodes, and their answers to whoever asked.
//!
//! Each query has an id that only the node that was asked may answer. A reader that goes away has its query cancelled on
//! the node; a node that goes away, or a reader that is slower than its node, ends the answer with an error that says
//! so. Neither holds up the link.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use skiff_api::wire::{LogLine, LogQuery, ToNode};
use skiff_api::{Code, NodeName, Problem};
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
    nodes: HashMap<NodeName, (LinkId, mpsc::Sender<ToNode>)>,
    queries: HashMap<u64, Query>,
    next: u64,
}

struct Query {
    link: LinkId,
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
    pub(crate) fn open(&self, node: NodeName, link: LinkId, to_node: mpsc::Sender<ToNode>) {
        self.lock().nodes.insert(node, (link, to_node));
    }

    /// The link is gone, and with it the answers that were to come on it.
    pub(crate) fn close(&self, link: LinkId) {
        let mut routes = self.lock();
        routes.nodes.retain(|_, (of_node, _)| *of_node != link);
        let (gone, kept) = routes.queries.drain().partition(|(_, query)| query.link == link);
        routes.queries = kept;
        drop(routes);
        let gone: HashMap<u64, Query> = gone;
        let problem = || unavailable("the node with these logs has lost its connection");
        gone.into_values().for_each(|query| query.fail(problem()));
    }

    pub(crate) fn deliver(&self, link: LinkId, id: u64, lines: Vec<LogLine>) {
        let mut routes = self.lock();
        let Some(query) = routes.queries.get(&id).filter(|query| query.link == link) else { return };
        if query.lines.try_send(lines).is_ok() {
            return;
        }
        let to_node = routes.sender(link);
        let query = routes.queries.remove(&id);
        drop(routes);
        if let Some(query) = query {
            query.fail(unavailable("the reader is slower than the log (hint: ask for fewer lines with --tail)"));
        }
        cancel(to_node, id);
    }

    pub(crate) fn end(&self, link: LinkId, id: u64, error: Option<String>) {
        let mut routes = self.lock();
        if routes.queries.get(&id).is_none_or(|query| query.link != link) {
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
        let (link, to_node) = routes.nodes.get(node).cloned().ok_or_else(absent)?;
        routes.next += 1;
        let id = routes.next;
        // Registered under the same lock, so that the answer finds it.
        to_node.try_send(ToNode::Logs { id, query }).map_err(|_| absent())?;
        let (sender, lines) = mpsc::channel(BATCHES_MAX);
        let end = Arc::default();
        routes.queries.insert(id, Query { link, lines: sender, end: Arc::clone(&end) });
        drop(routes);
        Ok(Answer { id, router: self.clone(), lines, end, ready: VecDeque::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Routes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Routes {
    fn sender(&self, link: LinkId) -> Option<mpsc::Sender<ToNode>> {
        self.nodes.values().find(|(of_node, _)| *of_node == link).map(|(_, sender)| sender.clone())
    }
}

/// A node that takes no messages loses its link anyway, and its queries with it.
fn cancel(to_node: Option<mpsc::Sender<ToNode>>, id: u64) {
    if let Some(to_node) = to_node {
        let _ = to_node.try_send(ToNode::CancelLogs { id });
    }
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
