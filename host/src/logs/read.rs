//! Reading a replica's log.

use skiff_api::id::ReplicaKey;
use skiff_api::wire::{LogLine, LogQuery, Stream};
use tokio::sync::broadcast;

use super::journal::Snapshot;

/// Lines per answer: a frame of at most some MiB, also when each line is as long as it may be.
const BATCH_LINES_MAX: usize = 256;

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(
        "failed to read the log of replica {0}: this node has none (hint: it is kept for the last replicas of a service that have stopped)"
    )]
    NotFound(ReplicaKey),
    #[error("failed to read the log of replica {0}: the reading thread was stopped")]
    Stopped(ReplicaKey),
}

/// The answer to a query, in batches.
#[derive(Debug)]
pub struct Reading {
    stored: std::vec::IntoIter<LogLine>,
    new: Option<broadcast::Receiver<LogLine>>,
}

impl Reading {
    pub(super) fn new(query: &LogQuery, snapshot: Snapshot) -> Self {
        let mut stored = snapshot.stored;
        if let Some(since) = query.since {
            stored.retain(|line| line.time >= since);
        }
        if let Some(tail) = query.tail {
            let tail = usize::try_from(tail).unwrap_or(usize::MAX);
            stored.drain(..stored.len().saturating_sub(tail));
        }
        Self { stored: stored.into_iter(), new: snapshot.new }
    }

    /// The next lines, oldest first; `None` at the end, which a followed log has when its replica stops. Safe to cancel.
    pub async fn next(&mut self) -> Option<Vec<LogLine>> {
        let stored: Vec<LogLine> = self.stored.by_ref().take(BATCH_LINES_MAX).collect();
        if !stored.is_empty() {
            return Some(stored);
        }
        let new = self.new.as_mut()?;
        let mut lines = match new.recv().await {
            Ok(line) => vec![line],
            Err(broadcast::error::RecvError::Lagged(missed)) => vec![gap(missed)],
            Err(broadcast::error::RecvError::Closed) => return None,
        };
        while lines.len() < BATCH_LINES_MAX {
            match new.try_recv() {
                Ok(line) => lines.push(line),
                Err(broadcast::error::TryRecvError::Lagged(missed)) => lines.push(gap(missed)),
                Err(_) => break,
            }
        }
        Some(lines)
    }
}

/// What a reader is told who was too slow.
fn gap(missed: u64) -> LogLine {
    let text = format!("{missed} lines are left out here: they came faster than they were read");
    LogLine { time: jiff::Timestamp::now(), stream: Stream::System, text }
}
