//! The latest transactions in memory, for watchers that keep up.
//!
//! A writer must never wait for a watcher, nor keep what only a slow one still needs. So there is no queue per watcher:
//! each remembers its own position, and reads from there either this bounded run of recent transactions or, when that
//! has moved on, the store's history. All that is sent to a watcher is "there is a newer revision".

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::{Batch, Revision};

/// A watcher that falls further behind reads from history, which costs it a visit to the disk.
const BATCHES_MAX: usize = 1024;
const BYTES_MAX: usize = 4 << 20;

/// What a watcher at some position finds.
#[derive(Debug)]
pub(super) enum After {
    /// The transactions that follow, one after another.
    Recent(Vec<Arc<Batch>>),
    /// It has all there is.
    Nothing,
    /// It must read history, up to this revision at least.
    Older,
    /// The store is not there yet.
    Future { current: Revision },
    /// There will be no more.
    Closed,
}

#[derive(Debug)]
pub(super) struct Feed {
    recent: Mutex<Recent>,
    tip: watch::Sender<Revision>,
}

/// The run of transactions that ends at `tip`.
#[derive(Debug)]
struct Recent {
    tip: Revision,
    batches: VecDeque<Arc<Batch>>,
    bytes: usize,
    closed: bool,
}

impl Feed {
    pub(super) fn new(tip: Revision) -> Arc<Self> {
        let recent = Recent { tip, batches: VecDeque::new(), bytes: 0, closed: false };
        Arc::new(Self { recent: Mutex::new(recent), tip: watch::Sender::new(tip) })
    }

    /// The next transactions, durable by now, in order.
    pub(super) fn publish(&self, batches: impl IntoIterator<Item = Arc<Batch>>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        for batch in batches {
            debug_assert_eq!(batch.revision, recent.tip.next());
            recent.tip = batch.revision;
            recent.bytes += batch.bytes();
            recent.batches.push_back(batch);
            while recent.batches.len() > BATCHES_MAX || recent.bytes > BYTES_MAX {
                let Some(oldest) = recent.batches.pop_front() else { break };
                recent.bytes -= oldest.bytes();
            }
        }
        self.tip.send_replace(recent.tip);
    }

    /// The store was opened again, at a revision that may be beyond what was published.
    pub(super) fn reset(&self, tip: Revision) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        *recent = Recent { tip, batches: VecDeque::new(), bytes: 0, closed: false };
        self.tip.send_replace(tip);
    }

    /// The store is gone: watchers learn it at once, though they hold this feed.
    pub(super) fn close(&self) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.closed = true;
        self.tip.send_replace(recent.tip);
    }

    pub(super) fn after(&self, position: Revision) -> After {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.closed {
            return After::Closed;
        }
        let Some(missing) = recent.tip.get().checked_sub(position.get()) else {
            return After::Future { current: recent.tip };
        };
        let Ok(missing) = usize::try_from(missing) else { return After::Older };
        match recent.batches.len().checked_sub(missing) {
            _ if missing == 0 => After::Nothing,
            Some(known) => After::Recent(recent.batches.range(known..).cloned().collect()),
            None => After::Older,
        }
    }

    pub(super) fn tip(&self) -> Revision {
        *self.tip.borrow()
    }

    /// Changes with every publication.
    pub(super) fn subscribe(&self) -> watch::Receiver<Revision> {
        self.tip.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Change;

    fn batch(revision: u64, bytes: usize) -> Arc<Batch> {
        let change = Change { key: "k".repeat(bytes).into(), before: None, after: None };
        Arc::new(Batch { revision: Revision::new(revision), changes: vec![change] })
    }

    fn recent(feed: &Feed, after: u64) -> Option<Vec<u64>> {
        match feed.after(Revision::new(after)) {
            After::Recent(batches) => Some(batches.iter().map(|b| b.revision.get()).collect()),
            _ => None,
        }
    }

    #[test]
    fn hands_out_what_follows_a_position() {
        let feed = Feed::new(Revision::new(4));
        feed.publish([batch(5, 1), batch(6, 1), batch(7, 1)]);
        assert_eq!(recent(&feed, 4), Some(vec![5, 6, 7]));
        assert_eq!(recent(&feed, 6), Some(vec![7]));
        assert!(matches!(feed.after(Revision::new(7)), After::Nothing));
        assert!(matches!(feed.after(Revision::new(3)), After::Older));
        assert!(matches!(feed.after(Revision::new(8)), After::Future { current } if current.get() == 7));
        feed.reset(Revision::new(9));
        assert!(matches!(feed.after(Revision::new(7)), After::Older));
        feed.close();
        assert!(matches!(feed.after(Revision::new(7)), After::Closed));
    }

    #[test]
    fn is_bounded_in_number_and_in_bytes() {
        let feed = Feed::new(Revision::ZERO);
        let last = BATCHES_MAX as u64 + 1;
        feed.publish((1..=last).map(|n| batch(n, 1)));
        assert!(matches!(feed.after(Revision::ZERO), After::Older));
        assert_eq!(recent(&feed, 1).map(|batches| batches.len()), Some(BATCHES_MAX));
        feed.publish([batch(last + 1, BYTES_MAX)]);
        assert_eq!(recent(&feed, last), Some(vec![last + 1]));
        assert!(matches!(feed.after(Revision::new(last - 1)), After::Older));
    }
}
