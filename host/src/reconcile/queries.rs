//! Log queries: each is a task that sends lines until its end, or until nobody asks any more. Lines go their own way, so a
//! reader that is slow, or a connection that is full of them, holds up nothing but queries.

use std::collections::HashMap;

use skiff_api::wire::{FromNode, LogQuery};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::operation::chain;
use crate::logs::Logs;

/// Queries at once. People ask them, a few at a time.
const QUERIES_MAX: usize = 128;

/// The queries of one link. Dropping it ends them.
#[derive(Debug)]
pub(super) struct Queries {
    bulk: mpsc::Sender<FromNode>,
    running: HashMap<u64, AbortHandle>,
}

impl Queries {
    pub(super) fn new(bulk: mpsc::Sender<FromNode>) -> Self {
        Self { bulk, running: HashMap::new() }
    }

    /// Answers a query. The same id again replaces the earlier one.
    pub(super) fn ask(&mut self, id: u64, query: LogQuery, logs: &Logs) {
        self.cancel(id);
        self.running.retain(|_, task| !task.is_finished());
        let (bulk, logs) = (self.bulk.clone(), logs.clone());
        let refused = self.running.len() >= QUERIES_MAX;
        let task = tokio::spawn(async move {
            let error = match refused {
                true => Some(format!("this node answers {QUERIES_MAX} log queries at once (hint: end some of them)")),
                false => answer(id, &query, &logs, &bulk).await,
            };
            // The link is gone, or is told.
            let _ = bulk.send(FromNode::LogsEnd { id, error }).await;
        });
        self.running.insert(id, task.abort_handle());
    }

    /// Where answers that are no lines go as well.
    pub(super) fn bulk(&self) -> mpsc::Sender<FromNode> {
        self.bulk.clone()
    }

    pub(super) fn cancel(&mut self, id: u64) {
        if let Some(task) = self.running.remove(&id) {
            task.abort();
        }
    }
}

impl Drop for Queries {
    fn drop(&mut self) {
        self.running.values().for_each(AbortHandle::abort);
    }
}

/// Returns what the person who asked should be told at the end.
async fn answer(id: u64, query: &LogQuery, logs: &Logs, bulk: &mpsc::Sender<FromNode>) -> Option<String> {
    let mut reading = match logs.read(query).await {
        Ok(reading) => reading,
        Err(error) => return Some(chain(&error)),
    };
    while let Some(lines) = reading.next().await {
        if bulk.send(FromNode::Logs { id, lines }).await.is_err() {
            break;
        }
    }
    None
}
