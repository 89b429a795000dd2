//! The log of one replica: what is not on disk yet, and who follows it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use skiff_api::wire::{LogLine, Stream};
use tokio::sync::{broadcast, mpsc};

use super::files::Files;
use super::limit::Limit;

/// Lines that a slow follower may be behind before it loses some, which it is told.
const FOLLOWER_LINES_MAX: usize = 4096;
/// What a line costs beside its text: its time, its stream, its place in memory and on disk.
const LINE_OVERHEAD_BYTES: usize = 80;
/// Pending lines are held until the flusher comes; beyond this (a disk that hangs) new ones are only counted. Twice
/// what the rate lets through between two flushes.
const PENDING_BYTES_MAX: usize = 3 << 20;

/// The log of one replica. Small while nothing is written: a node has ten thousand of them.
#[derive(Debug)]
pub struct Journal {
    started: Instant,
    state: Mutex<State>,
    /// Held while lines move from memory to disk, and while both are read. Taken before `state`.
    files: Mutex<Option<Files>>,
    flusher: Option<mpsc::UnboundedSender<Arc<Journal>>>,
    this: std::sync::Weak<Journal>,
}

#[derive(Debug)]
struct State {
    limit: Limit,
    pending: Vec<LogLine>,
    pending_bytes: usize,
    /// The flusher knows that there is something to do. Keeps its queue as short as the number of journals.
    dirty: bool,
    followers: Option<broadcast::Sender<LogLine>>,
    /// The replica has stopped: whoever follows from now on has come to the end.
    is_closed: bool,
}

/// What a reader gets of one moment: nothing is missing or doubled between its parts.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) stored: Vec<LogLine>,
    pub(super) new: Option<broadcast::Receiver<LogLine>>,
}

impl Journal {
    /// A log that stays in memory: for tests of what writes to a [`super::Sink`].
    pub fn in_memory() -> Arc<Self> {
        Self::new(None, None)
    }

    pub(super) fn new(files: Option<Files>, flusher: Option<mpsc::UnboundedSender<Arc<Self>>>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            started: Instant::now(),
            state: Mutex::new(State {
                limit: Limit::new(std::time::Duration::ZERO),
                pending: Vec::new(),
                pending_bytes: 0,
                dirty: false,
                followers: None,
                is_closed: false,
            }),
            files: Mutex::new(files),
            flusher,
            this: this.clone(),
        })
    }

    /// The lines that are not on disk yet.
    pub fn pending(&self) -> Vec<LogLine> {
        self.state().pending.clone()
    }

    pub(super) fn append(&self, stream: Stream, text: String) {
        let now = self.started.elapsed();
        let mut state = self.state();
        if let Some(dropped) = state.limit.over(now) {
            state.push(Stream::System, dropped.to_string());
        }
        let bytes = text.len() + LINE_OVERHEAD_BYTES;
        let held = state.pending_bytes + bytes <= PENDING_BYTES_MAX;
        if !held {
            state.limit.refuse(bytes);
        } else if state.limit.admit(bytes, now) {
            state.push(stream, text);
        }
        if !state.dirty
            && let (Some(flusher), Some(this)) = (&self.flusher, self.this.upgrade())
        {
            state.dirty = flusher.send(this).is_ok();
        }
    }

    /// Moves what is pending to disk. Blocks. Returns whether it must be called again: a flood's end is still to be said.
    pub(super) fn flush(&self) -> bool {
        let mut files = self.files();
        let (lines, again) = {
            let mut state = self.state();
            if let Some(dropped) = state.limit.over(self.started.elapsed()) {
                state.push(Stream::System, dropped.to_string());
            }
            state.dirty = state.limit.is_dropping();
            state.pending_bytes = 0;
            (std::mem::take(&mut state.pending), state.dirty)
        };
        if let Some(files) = files.as_mut() {
            files.append(&lines);
        }
        again
    }

    /// Everything that is kept, and with `follow` everything that comes after it. Blocks.
    pub(super) fn snapshot(&self, follow: bool) -> Snapshot {
        let files = self.files();
        let mut stored = files.as_ref().map_or_else(Vec::new, Files::read);
        let mut state = self.state();
        stored.extend(state.pending.iter().cloned());
        let new = (follow && !state.is_closed).then(|| match &state.followers {
            Some(sender) => sender.subscribe(),
            None => {
                let (sender, receiver) = broadcast::channel(FOLLOWER_LINES_MAX);
                state.followers = Some(sender);
                receiver
            }
        });
        Snapshot { stored, new }
    }

    /// Ends what follows it: the replica has stopped.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.followers = None;
        state.is_closed = true;
    }

    /// The replica runs again.
    pub(super) fn reopen(&self) {
        self.state().is_closed = false;
    }

    /// Removes it from disk; what is written later stays in memory. Blocks.
    pub(super) fn remove(&self) {
        self.close();
        if let Some(files) = self.files().take() {
            files.remove();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn files(&self) -> MutexGuard<'_, Option<Files>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, stream: Stream, text: String) {
        let line = LogLine { time: Timestamp::now(), stream, text };
        // Nobody is told any more when the last follower is gone; the buffer it needed goes with it.
        if let Some(followers) = &self.followers
            && followers.send(line.clone()).is_err()
        {
            self.followers = None;
        }
        self.pending_bytes += line.text.len() + LINE_OVERHEAD_BYTES;
        self.pending.push(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_said() {
        let journal = Journal::in_memory();
        let line = "x".repeat(1000);
        for _ in 0..10_000 {
            journal.append(Stream::Stdout, line.clone());
        }
        let kept = journal.pending().len();
        assert!((500..5000).contains(&kept), "{kept}");
        let start = Instant::now();
        while journal.flush() {
            assert!(start.elapsed().as_secs() < 5, "the end of the flood is never said");
            std::thread::yield_now();
        }
        assert!(journal.pending().is_empty());
    }

    #[test]
    fn a_snapshot_and_what_follows_are_the_whole() {
        let journal = Journal::in_memory();
        journal.append(Stream::Stdout, "before".to_owned());
        let mut snapshot = journal.snapshot(true);
        journal.append(Stream::Stdout, "after".to_owned());
        assert_eq!(snapshot.stored.len(), 1);
        assert_eq!(snapshot.new.as_mut().unwrap().try_recv().unwrap().text, "after");
        journal.close();
        assert!(matches!(snapshot.new.unwrap().try_recv(), Err(broadcast::error::TryRecvError::Closed)));
        assert!(journal.snapshot(true).new.is_none(), "whoever comes later would wait for ever");
        journal.reopen();
        assert!(journal.snapshot(true).new.is_some());
    }
}
