//! A watcher's side of a watch.
//!
//! ```text
//!   writer ── durable transaction ──> Feed (recent, bounded) ──┐
//!     └────────────────────────────> history (disk) ───────────┴─ from its own position ─> Watch ─ prefix ─> caller
//! ```
//!
//! A watcher that keeps up reads the feed; one that does not reads history in chunks until it does; one that comes too
//! late for both is told where history begins. Nobody waits for it in any case.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::Stream;
use tokio::sync::watch;

use super::feed::{After, Feed};
use super::{Batch, Error, Revision};

/// A page of history.
#[async_trait]
pub(super) trait History: Send + Sync {
    /// The transactions that follow a revision, at least one, in order and without a gap; some if there are many.
    /// Fails with [`Error::Compacted`] when the first of them is no longer there.
    async fn after(&self, revision: Revision) -> Result<Vec<Arc<Batch>>, Error>;
}

/// The transactions that touch a prefix, from [`Store::watch`](super::Store::watch). Ends when dropped.
pub struct Watch {
    prefix: String,
    position: Revision,
    ahead: VecDeque<Arc<Batch>>,
    feed: Arc<Feed>,
    tip: watch::Receiver<Revision>,
    history: Box<dyn History>,
}

impl Watch {
    pub(super) fn new(prefix: &str, after: Revision, feed: Arc<Feed>, history: impl History + 'static) -> Self {
        let tip = feed.subscribe();
        Self {
            prefix: prefix.to_owned(),
            position: after,
            ahead: VecDeque::new(),
            feed,
            tip,
            history: Box::new(history),
        }
    }

    /// The next transaction that touches the prefix, reduced to those of its changes that do. Waits for it; dropping the
    /// future loses nothing.
    ///
    /// [`Error::Compacted`] says that transactions are missing: list again and watch after what the list says.
    pub async fn next(&mut self) -> Result<Batch, Error> {
        loop {
            while let Some(batch) = self.ahead.pop_front() {
                self.position = batch.revision;
                if let Some(batch) = batch.filtered(&self.prefix) {
                    return Ok(batch);
                }
            }
            // Marked as seen before the feed is read, so that nothing is published unnoticed in between.
            self.tip.mark_unchanged();
            match self.feed.after(self.position) {
                After::Recent(batches) => self.ahead = batches.into(),
                After::Older => self.ahead = self.history.after(self.position).await?.into(),
                After::Future { current } => return Err(Error::Future { wanted: self.position, current }),
                After::Closed => return Err(Error::Closed),
                After::Nothing => self.tip.changed().await.map_err(|_| Error::Closed)?,
            }
        }
    }

    /// Everything up to here was delivered, or did not touch the prefix: where to resume, and what a bookmark says.
    pub fn position(&self) -> Revision {
        self.position
    }

    /// The same as a stream, which ends after an error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Batch, Error>> + Send {
        futures_util::stream::try_unfold(self, |mut watch| async move { Ok(Some((watch.next().await?, watch))) })
    }
}
