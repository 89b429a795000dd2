//! The embedded store: a redb database in one file.
//!
//! One thread writes (`writer.rs`); reads are snapshots of the last durable commit, taken on tokio's blocking threads.
//! The caller keeps the data folder to itself: no two processes may open one file.

mod apply;
mod file;
mod tables;
mod writer;

use std::path::Path;
use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

use async_trait::async_trait;
use redb::{Database, ReadTransaction, ReadableDatabase};
use skiff_disk::Disk;
use tokio::sync::{Semaphore, oneshot, watch};

use self::apply::Head;
use self::file::{Place, Trust};
use self::writer::{Job, Task, Work, Writer};
use super::feed::Feed;
use super::watch::History;
use super::{Batch, Entry, Error, EventLog, List, Listing, Revision, Store, Txn, TxnOutcome, Watch};

/// What may wait for the writer, in KiB: two groups' worth. Who has more waits before it queues.
const QUEUE_KIB: u32 = 8 << 10;

/// A [`Store`] in one file. Dropping it saves what is left and closes the file, which takes as long as an fsync.
pub struct RedbStore {
    shared: Arc<Shared>,
    events: EventLog,
    queue: Arc<Semaphore>,
    jobs: Sender<Job>,
    writer: Option<JoinHandle<()>>,
}

struct Shared {
    place: Place,
    opened: RwLock<Opened>,
    feed: Arc<Feed>,
    /// The failed sync after which nothing is promised any more.
    sync_failed: watch::Sender<Option<Error>>,
}

/// Open ⇄ Lost while the disk refuses writes; either → Stopped for good.
enum Opened {
    Open(Database),
    /// The disk refused a write, and then to open the database again; the writer tries anew with every group.
    Lost(Error),
    /// Closed, or the disk lost something.
    Stopped(Error),
}

impl RedbStore {
    /// Opens the store in `path`, or makes it; its directory must exist. Blocks while it reads the whole file once.
    pub fn open(disk: Disk, path: impl AsRef<Path>) -> Result<Self, Error> {
        let place = Place::new(disk, path.as_ref());
        let db = place.open(Trust::Verify)?;
        let read = || {
            let read = db.begin_read()?;
            Ok((Head::read(&read)?, tables::events(&read)?))
        };
        let (head, saved) = read().map_err(|e| place.open_failed_in(e))?;
        let feed = Feed::new(head.span.revision);
        let shared = Arc::new(Shared {
            place,
            opened: RwLock::new(Opened::Open(db)),
            feed,
            sync_failed: watch::Sender::new(None),
        });
        let (jobs, received) = std::sync::mpsc::channel();
        let announce = jobs.clone();
        // An event after the store was closed is not saved.
        let events = EventLog::new(saved, move || drop(announce.send(Job::Events)));
        let writer = Writer { shared: shared.clone(), events: events.clone(), head, jobs: received };
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(|| writer.run());
        let writer = Some(thread.map_err(|e| shared.place.open_failed(e))?);
        Ok(Self { shared, events, queue: Arc::new(Semaphore::new(QUEUE_KIB as usize)), jobs, writer })
    }

    /// The events, saved in the same file.
    pub fn events(&self) -> EventLog {
        self.events.clone()
    }

    /// The error when a sync has failed: from then on the store refuses everything, and only opening it again, best in a
    /// new process, tells what the disk has kept. Never resolves if that does not happen.
    pub fn sync_failed(&self) -> impl Future<Output = Error> + Send + use<> {
        let mut failed = self.shared.sync_failed.subscribe();
        async move {
            let failed = failed.wait_for(Option::is_some).await.ok().and_then(|error| error.clone());
            match failed {
                Some(error) => error,
                // The store was closed.
                None => std::future::pending().await,
            }
        }
    }

    async fn ask(&self, task: Task, bytes: usize) -> Result<TxnOutcome, Error> {
        let kib = u32::try_from(bytes / 1024).unwrap_or(QUEUE_KIB).saturating_add(1).min(QUEUE_KIB);
        let permit = self.queue.clone().acquire_many_owned(kib).await.map_err(|_| Error::Closed)?;
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job::Work(Work { task, reply, _permit: permit })).map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        drop(self.jobs.send(Job::Close));
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has answered nobody, and what it had not committed is not in the file.
            drop(writer.join());
        }
        self.shared.feed.close();
        self.shared.stop(Error::Closed);
    }
}

#[async_trait]
impl Store for RedbStore {
    async fn commit(&self, txn: Txn) -> Result<TxnOutcome, Error> {
        txn.check()?;
        let bytes = txn.bytes();
        self.ask(Task::Commit(txn), bytes).await
    }

    async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        let key = key.to_owned();
        self.shared.read(move |read| tables::get(read, &key).map(Ok)).await
    }

    async fn list(&self, list: List) -> Result<Listing, Error> {
        self.shared.read(move |read| tables::list(read, &list)).await
    }

    fn watch(&self, prefix: &str, after: Revision) -> Watch {
        Watch::new(prefix, after, self.shared.feed.clone(), self.shared.clone())
    }

    async fn compact(&self, before: Revision) -> Result<(), Error> {
        self.ask(Task::Compact { before }, 0).await.map(|_| ())
    }

    async fn revision(&self) -> Result<Revision, Error> {
        Ok(self.shared.feed.tip())
    }
}

#[async_trait]
impl History for Arc<Shared> {
    async fn after(&self, revision: Revision) -> Result<Vec<Arc<Batch>>, Error> {
        self.read(move |read| tables::history(read, revision)).await
    }
}

impl Shared {
    /// Reads a snapshot; what the closure answers inside is the caller's own error.
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&ReadTransaction) -> Result<Result<T, Error>, redb::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let shared = self.clone();
        let reading = tokio::task::spawn_blocking(move || shared.with_database(|db| read(&db.begin_read()?)));
        match reading.await {
            Ok(result) => result?.map_err(|e| Error::Read { source: Arc::new(e) })?,
            Err(e) => Err(Error::Read { source: Arc::new(e) }),
        }
    }

    fn with_database<T>(&self, run: impl FnOnce(&Database) -> T) -> Result<T, Error> {
        match &*self.opened.read().unwrap_or_else(PoisonError::into_inner) {
            Opened::Open(db) => Ok(run(db)),
            Opened::Lost(e) | Opened::Stopped(e) => Err(e.clone()),
        }
    }

    fn is_lost(&self) -> bool {
        matches!(&*self.opened.read().unwrap_or_else(PoisonError::into_inner), Opened::Lost(_))
    }

    /// Waits for those who read, so that no file is open twice.
    fn replace(&self, opened: Opened) {
        *self.opened.write().unwrap_or_else(PoisonError::into_inner) = opened;
    }

    /// Answers this error to everything from now on.
    fn stop(&self, e: Error) -> Error {
        self.replace(Opened::Stopped(e.clone()));
        if matches!(e, Error::Sync { .. }) {
            self.sync_failed.send_replace(Some(e.clone()));
        }
        e
    }
}
