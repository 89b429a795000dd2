//! The one thread that writes.
//!
//! ```text
//!   commit ──permit──> queue ──drained──> one write transaction ──fsync──> feed ──> answers
//! ```
//!
//! An fsync costs the same for one transaction as for hundreds, so all that queued up during the last one go into the
//! next (group commit). Each sees the effects of those before it; none is answered, read or watched before all are
//! durable. Nothing is written when nothing changed.
//!
//! Recovery: redb refuses to go on after any I/O error, so the database is opened again, which returns to the last commit
//! that is whole. A disk that was full is usable again as soon as there is room. A failed fsync is another matter: the
//! kernel then forgets the pages it could not write, so what is read back is not what the disk has. The store answers
//! [`Error::Sync`] to everything from then on.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Instant;

use redb::{Database, ReadableDatabase};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::apply::{Head, Tables};
use super::file::Trust;
use super::{Opened, Shared};
use crate::store::events::{EventLog, SAVE_WITHIN, Unsaved};
use crate::store::{Batch, Cause, Error, Revision, Txn, TxnOutcome};

/// Bounds what one write transaction of the database keeps in memory, and how long the first of a group waits.
const GROUP_BYTES: usize = 4 << 20;

/// What the thread is asked to do.
pub(super) enum Job {
    Work(Work),
    /// There are events to save.
    Events,
    /// Save what is left, and end.
    Close,
}

pub(super) struct Work {
    pub(super) task: Task,
    /// A compaction answers the current revision.
    pub(super) reply: oneshot::Sender<Result<TxnOutcome, Error>>,
    /// Its place in the queue, held until it is answered.
    pub(super) _permit: OwnedSemaphorePermit,
}

pub(super) enum Task {
    Commit(Txn),
    Compact { before: Revision },
}

/// What a group did, to be told once it is durable.
struct Written {
    outcomes: Vec<Result<TxnOutcome, Error>>,
    batches: Vec<Batch>,
}

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) events: EventLog,
    pub(super) head: Head,
    pub(super) jobs: Receiver<Job>,
}

impl Writer {
    pub(super) fn run(mut self) {
        let mut save_by: Option<Instant> = None;
        let mut closing = false;
        while !closing {
            let mut group = Vec::new();
            let mut bytes = 0;
            let mut next = self.wait(save_by);
            while let Some(job) = next {
                match job {
                    Job::Work(work) => {
                        bytes += if let Task::Commit(txn) = &work.task { txn.bytes() } else { 0 };
                        group.push(work);
                    }
                    Job::Events => save_by = save_by.or_else(|| Some(Instant::now() + SAVE_WITHIN)),
                    Job::Close => closing = true,
                }
                next = if closing || bytes >= GROUP_BYTES { None } else { self.jobs.try_recv().ok() };
            }
            let due = save_by.is_some_and(|by| closing || !group.is_empty() || by <= Instant::now());
            if due {
                save_by = None;
            }
            let unsaved = if due { self.events.unsaved() } else { None };
            if unsaved.is_some() || !group.is_empty() {
                self.write(group, unsaved.as_ref());
            }
        }
    }

    /// The next job; `None` when it is time to save events.
    fn wait(&self, save_by: Option<Instant>) -> Option<Job> {
        let Some(by) = save_by else { return Some(self.jobs.recv().unwrap_or(Job::Close)) };
        match self.jobs.recv_timeout(by.saturating_duration_since(Instant::now())) {
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Job::Close),
        }
    }

    /// Whoever stopped waiting for an answer does not need it.
    fn write(&mut self, group: Vec<Work>, unsaved: Option<&Unsaved>) {
        match self.reopen_if_needed().and_then(|()| self.try_write(&group, unsaved)) {
            Ok(Written { outcomes, batches }) => {
                unsaved.into_iter().for_each(|unsaved| self.events.saved(unsaved));
                self.shared.feed.publish(batches.into_iter().map(Arc::new));
                for (work, outcome) in group.into_iter().zip(outcomes) {
                    drop(work.reply.send(outcome));
                }
            }
            Err(e) => {
                tracing::warn!(error = &e as &dyn std::error::Error, "failed to write the store");
                for work in group {
                    drop(work.reply.send(Err(e.clone())));
                }
            }
        }
    }

    fn try_write(&mut self, group: &[Work], unsaved: Option<&Unsaved>) -> Result<Written, Error> {
        let head = &mut self.head;
        let cause = match self.shared.with_database(|db| write_group(db, head, group, unsaved))? {
            Ok(written) => return Ok(written),
            Err(cause) => cause_of(cause),
        };
        if self.shared.place.sync_failed() {
            return Err(self.shared.stop(Error::Sync { source: cause }));
        }
        let e = Error::Write { source: cause };
        self.shared.replace(Opened::Lost(e.clone()));
        // At once, for the sake of readers; if it fails, whoever writes next tries again and is told.
        let _ = self.reopen_if_needed();
        Err(e)
    }

    fn reopen_if_needed(&mut self) -> Result<(), Error> {
        if !self.shared.is_lost() {
            return Ok(());
        }
        let place = &self.shared.place;
        let opened = place.open(Trust::Known).and_then(|db| {
            let head = db.begin_read().map_err(redb::Error::from).and_then(|read| Head::read(&read));
            Ok((head.map_err(|e| place.open_failed_in(e))?, db))
        });
        match opened {
            Ok((head, db)) => {
                self.head = head;
                self.shared.feed.reset(self.head.span.revision);
                self.shared.replace(Opened::Open(db));
                Ok(())
            }
            Err(e) if place.sync_failed() => Err(self.shared.stop(Error::Sync { source: Arc::new(e) })),
            Err(e) => Err(e),
        }
    }
}

/// The error of the disk itself where that is it, so that a full one can be told from a broken one: redb's own hides it.
fn cause_of(error: redb::Error) -> Cause {
    match error {
        redb::Error::Io(error) => Arc::new(error),
        error => Arc::new(error),
    }
}

fn write_group(
    db: &Database,
    head: &mut Head,
    group: &[Work],
    unsaved: Option<&Unsaved>,
) -> Result<Written, redb::Error> {
    let mut write = db.begin_write()?;
    // Makes a start after a power cut independent of the size of the file.
    write.set_quick_repair(true);
    let mut tables = Tables::open(&write)?;
    let mut written = Written { outcomes: Vec::with_capacity(group.len()), batches: Vec::new() };
    for work in group {
        let outcome = match &work.task {
            Task::Commit(txn) => {
                let (outcome, batch) = tables.apply(head, txn)?;
                written.batches.extend(batch);
                Ok(outcome)
            }
            Task::Compact { before } if *before > head.span.revision => {
                Err(Error::Future { wanted: *before, current: head.span.revision })
            }
            Task::Compact { before } => {
                tables.compact(head, *before)?;
                Ok(TxnOutcome::Committed(head.span.revision))
            }
        };
        written.outcomes.push(outcome);
    }
    if let Some(before) = head.compaction_due() {
        tables.compact(head, before)?;
    }
    if let Some(unsaved) = unsaved {
        tables.save(unsaved)?;
    }
    if tables.finish(head)? {
        write.commit()?;
    } else {
        write.abort()?;
    }
    Ok(written)
}
