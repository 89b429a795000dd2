//! Buckets in one file: one thread writes, in groups; reads are snapshots of what is durable.
//!
//! ```text
//!   run ──┬── reads ──────────────────────────────> a snapshot of the last durable group ──> answer
//!         └── writes ──> queue ──drained──> one transaction of the database ──fsync──> answers
//! ```
//! Nothing is made, opened or started before the first write; after it, nothing is done while nothing is asked.
//!
//! **Recovery.** redb refuses to go on after any error of the disk, so the database is opened again, which returns to the last
//! group that is whole. After a failed fsync nothing is believed any more: everything is refused until the next start.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use redb::{Database, ReadableDatabase};
use skiff_disk::Disk;
use skiff_disk::database::{Layout, OpenError, Place, Trust};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::op::{Answer, KEYS_MAX, Op, Refusal, Value};
use crate::tables::{self, Tables};

/// The layout of the tables.
const FORMAT: u64 = 1;
/// A page cache for what is hot; the kernel has one of its own.
const CACHE_BYTES: usize = 8 << 20;
/// What one transaction of the database keeps in memory, about.
const GROUP_BYTES: usize = 8 << 20;
/// What may wait for the writer, in KiB. Who has more waits before it queues.
const QUEUE_KIB: u32 = 16 << 10;

/// Reads at once. Each takes microseconds where the pages are in memory.
const READS_MAX: usize = 32;

/// How much buckets may have, in bytes of keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub bucket_bytes_max: u64,
    /// All buckets together.
    pub bytes_max: u64,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("failed to open {path}: {why} (hint: is the disk full, or the file damaged or someone else's?)")]
    Open { path: PathBuf, why: String },
    #[error("failed to keep the values: {0}; nothing was changed (hint: is the disk full?)")]
    Write(String),
    #[error("the disk did not keep what was written; values are refused until the next start (hint: check the disk)")]
    Lost,
    #[error("failed to read the values: {0}")]
    Read(String),
    #[error("the values are closed")]
    Closed,
}

/// Buckets. Dropping the last clone finishes what is being written.
#[derive(Clone)]
pub struct Engine(Arc<Handle>);

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Engine").field(&self.0.inner.place.path()).finish()
    }
}

struct Handle {
    inner: Arc<Inner>,
    queue: Arc<Semaphore>,
    reads: Semaphore,
    writer: Mutex<Option<Writer>>,
}

struct Writer {
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
}

struct Inner {
    disk: Disk,
    place: Place,
    limits: Limits,
    opened: RwLock<Opened>,
}

enum Opened {
    /// Not yet, or not any more since the disk refused something.
    Not(Trust),
    Open(Database),
}

struct Job {
    bucket: String,
    op: Op,
    reply: oneshot::Sender<Result<Answer, Error>>,
    bytes: usize,
    /// Its place in the queue, held until it is answered.
    _permit: OwnedSemaphorePermit,
}

impl Engine {
    /// Buckets in the file `path`, which is made when it is needed; its folder must exist then.
    pub fn new(disk: Disk, path: impl Into<PathBuf>, limits: Limits) -> Self {
        let layout = Layout { format: FORMAT, cache_bytes: CACHE_BYTES, make: tables::make };
        let place = Place::new(disk.clone(), path, layout);
        let inner = Inner { disk, place, limits, opened: RwLock::new(Opened::Not(Trust::Verify)) };
        let queue = Arc::new(Semaphore::new(QUEUE_KIB as usize));
        let reads = Semaphore::new(READS_MAX);
        Self(Arc::new(Handle { inner: Arc::new(inner), queue, reads, writer: Mutex::default() }))
    }

    /// Does something with a bucket. What was answered is durable.
    pub async fn run(&self, bucket: &str, op: Op) -> Result<Answer, Error> {
        op.check()?;
        let bucket = bucket.to_owned();
        if op.is_read() {
            let inner = self.0.inner.clone();
            let read = move || match inner.read(|read| tables::read(read, &bucket, &op))? {
                Some(answer) => Ok(answer?),
                None => Ok(op.of_nothing()),
            };
            // Others need these threads as well.
            let _place = self.0.reads.acquire().await.map_err(|_| Error::Closed)?;
            return tokio::task::spawn_blocking(read).await.map_err(|error| Error::Read(error.to_string()))?;
        }
        let bytes = op.bytes();
        let kib = u32::try_from(bytes / 1024).unwrap_or(QUEUE_KIB).saturating_add(1).min(QUEUE_KIB);
        let permit = self.0.queue.clone().acquire_many_owned(kib).await.map_err(|_| Error::Closed)?;
        let (reply, answer) = oneshot::channel();
        self.0.send(Job { bucket, op, reply, bytes, _permit: permit })?;
        answer.await.map_err(|_| Error::Closed)?
    }

    /// Empties all buckets whose name begins so.
    pub async fn clear(&self, prefix: &str) -> Result<(), Error> {
        let mut after = Some((prefix.to_owned(), String::new()));
        loop {
            let page = self.page(after).await?;
            let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
            after = page.last().map(|(bucket, key, _)| (bucket.clone(), key.clone()));
            let is_done = page.is_empty() || page.iter().any(|(bucket, ..)| !bucket.starts_with(prefix));
            for (bucket, key, _) in page.into_iter().filter(|(bucket, ..)| bucket.starts_with(prefix)) {
                keys.entry(bucket).or_default().push(key);
            }
            for (bucket, keys) in &keys {
                for keys in keys.chunks(KEYS_MAX) {
                    self.run(bucket, Op::Delete { keys: keys.to_vec() }).await?;
                }
            }
            if is_done {
                return Ok(());
            }
        }
    }

    /// All values of all buckets in pages, each from the entry after `after` on; an empty one is the end. For backups.
    pub async fn page(&self, after: Option<(String, String)>) -> Result<Vec<(String, String, Value)>, Error> {
        const PAGE_BYTES: usize = 4 << 20;
        let inner = self.0.inner.clone();
        let read =
            move || inner.read(|read| tables::page(read, after.as_ref(), PAGE_BYTES)).map(Option::unwrap_or_default);
        tokio::task::spawn_blocking(read).await.map_err(|error| Error::Read(error.to_string()))?
    }
}

impl Handle {
    /// Begins with the thread at the first job.
    fn send(&self, job: Job) -> Result<(), Error> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.is_none() {
            let (jobs, received) = channel();
            let inner = self.inner.clone();
            let thread = std::thread::Builder::new().name("keyvalue".to_owned()).spawn(move || inner.write(&received));
            let thread = thread.map_err(|error| Error::Write(error.to_string()))?;
            *writer = Some(Writer { jobs, thread });
        }
        match &*writer {
            Some(writer) if writer.jobs.send(job).is_ok() => Ok(()),
            _ => Err(Error::Closed),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let writer = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Writer { jobs, thread }) = writer {
            drop(jobs);
            // A writer that panicked has answered nobody, and what it had not committed is not in the file.
            drop(thread.join());
        }
    }
}

impl Inner {
    /// Reads a snapshot; nothing where nothing was ever written.
    fn read<T>(&self, read: impl Fn(&redb::ReadTransaction) -> Result<T, redb::Error>) -> Result<Option<T>, Error> {
        if self.place.sync_failed() {
            return Err(Error::Lost);
        }
        loop {
            if let Opened::Open(db) = &*self.opened.read().unwrap_or_else(PoisonError::into_inner) {
                let reading = || read(&db.begin_read()?);
                return reading().map(Some).map_err(|error| Error::Read(error.to_string()));
            }
            if !self.disk.exists(self.place.path()) {
                return Ok(None);
            }
            self.open()?;
        }
    }

    /// Opens the database, unless it is.
    fn open(&self) -> Result<(), Error> {
        let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        let Opened::Not(trust) = *opened else { return Ok(()) };
        let db = self.place.open(trust).map_err(|error| {
            let why = match error {
                OpenError::Io(error) => error.to_string(),
                OpenError::Corrupt(error) => format!("it is damaged: {error}"),
                OpenError::Format { found } => format!("a newer skiff wrote it, in format {found}"),
            };
            Error::Open { path: self.place.path().to_owned(), why }
        })?;
        *opened = Opened::Open(db);
        Ok(())
    }

    /// The writer's thread, until nobody can ask it any more.
    fn write(&self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let (mut group, mut bytes) = (vec![first], 0);
            while bytes < GROUP_BYTES
                && let Ok(next) = jobs.try_recv()
            {
                bytes += next.bytes;
                group.push(next);
            }
            let written = self.write_group(&group);
            if let Err(error) = &written {
                tracing::warn!(%error, "failed to keep values");
            }
            // Whoever stopped waiting for an answer does not need it.
            match written {
                Ok(answers) => group.into_iter().zip(answers).for_each(|(job, answer)| {
                    let _ = job.reply.send(answer.map_err(Error::Refused));
                }),
                Err(error) => group.into_iter().for_each(|job| {
                    let _ = job.reply.send(Err(error.clone()));
                }),
            }
        }
    }

    fn write_group(&self, group: &[Job]) -> Result<Vec<Result<Answer, Refusal>>, Error> {
        if self.place.sync_failed() {
            return Err(Error::Lost);
        }
        self.open()?;
        let written = match &*self.opened.read().unwrap_or_else(PoisonError::into_inner) {
            Opened::Open(db) => commit(db, group, self.limits),
            Opened::Not(_) => return Err(Error::Closed),
        };
        written.map_err(|error| {
            // Waits for those who read, so that no file is open twice.
            *self.opened.write().unwrap_or_else(PoisonError::into_inner) = Opened::Not(Trust::Known);
            match self.place.sync_failed() {
                true => Error::Lost,
                false => Error::Write(error.to_string()),
            }
        })
    }
}

fn commit(db: &Database, group: &[Job], limits: Limits) -> Result<Vec<Result<Answer, Refusal>>, redb::Error> {
    let mut write = db.begin_write()?;
    // Makes a start after a power cut independent of the size of the file.
    write.set_quick_repair(true);
    let mut tables = Tables::open(&write, limits)?;
    let answers = group.iter().map(|job| tables.apply(&job.bucket, &job.op)).collect::<Result<Vec<_>, _>>()?;
    drop(tables);
    write.commit()?;
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use skiff_disk::sim::SimDisk;

    use super::*;

    const LIMITS: Limits = Limits { bucket_bytes_max: 100, bytes_max: 150 };

    fn value(text: &str) -> Value {
        Value(text.as_bytes().to_vec())
    }

    fn set(key: &str, text: &str) -> Op {
        Op::Set { entries: vec![(key.to_owned(), value(text))] }
    }

    fn get(key: &str) -> Op {
        Op::Get { keys: vec![key.to_owned()] }
    }

    fn engine(sim: &SimDisk) -> Engine {
        let disk = sim.disk();
        disk.create_dir_all("/data").unwrap();
        Engine::new(disk, "/data/keyvalue.redb", LIMITS)
    }

    async fn refused(engine: &Engine, bucket: &str, op: Op) -> Refusal {
        match engine.run(bucket, op).await {
            Err(Error::Refused(refusal)) => refusal,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn values_are_kept_by_bucket_and_key() {
        let sim = SimDisk::new(0);
        let one = engine(&sim);
        assert_eq!(one.run("a", get("k")).await.unwrap(), Answer::Values(vec![None]));
        assert!(!sim.disk().exists("/data/keyvalue.redb"), "who only reads makes no file");
        assert_eq!(one.run("a", set("k", "1")).await.unwrap(), Answer::Done);
        assert_eq!(one.run("b", get("k")).await.unwrap(), Answer::Values(vec![None]));
        let both = Op::Set { entries: vec![("k".to_owned(), value("x")), ("k".to_owned(), value("y"))] };
        one.run("b", both).await.unwrap();
        assert_eq!(one.run("b", get("k")).await.unwrap(), Answer::Values(vec![Some(value("y"))]));
        one.run("a", Op::Delete { keys: vec!["k".to_owned(), "none".to_owned()] }).await.unwrap();
        assert_eq!(one.run("a", Op::Exists { key: "k".to_owned() }).await.unwrap(), Answer::Exists(false));
        drop(one);
        assert_eq!(engine(&sim).run("b", get("k")).await.unwrap(), Answer::Values(vec![Some(value("y"))]));
    }

    #[tokio::test]
    async fn keys_come_in_pages_of_their_own_bucket() {
        let sim = SimDisk::new(0);
        let disk = sim.disk();
        disk.create_dir_all("/data").unwrap();
        let one = Engine::new(disk, "/data/kv", Limits { bucket_bytes_max: 1 << 20, bytes_max: 1 << 20 });
        let keys: Vec<String> = (0..crate::PAGE_KEYS + 5).map(|n| format!("{n:05}")).collect();
        for half in keys.chunks(600) {
            let entries = half.iter().map(|key| (key.clone(), value(""))).collect();
            one.run("a", Op::Set { entries }).await.unwrap();
        }
        one.run("ab", set("00000", "")).await.unwrap();
        let Answer::Keys { keys: first, more } = one.run("a", Op::Keys { after: None }).await.unwrap() else {
            panic!()
        };
        assert_eq!((first.as_slice(), more), (&keys[..crate::PAGE_KEYS], true));
        let after = first.last().cloned();
        let rest = one.run("a", Op::Keys { after }).await.unwrap();
        assert_eq!(rest, Answer::Keys { keys: keys[crate::PAGE_KEYS..].to_vec(), more: false });
        assert_eq!(one.page(None).await.unwrap().len(), keys.len() + 1);
        let last = one.page(Some(("a".to_owned(), keys[keys.len() - 1].clone()))).await.unwrap();
        assert_eq!(last, [("ab".to_owned(), "00000".to_owned(), value(""))]);
    }

    #[tokio::test]
    async fn numbers_are_added_to_and_values_swapped() {
        let one = engine(&SimDisk::new(0));
        let add = |delta| Op::Increment { key: "n".to_owned(), delta };
        assert_eq!(one.run("a", add(5)).await.unwrap(), Answer::Number(5));
        assert_eq!(one.run("a", add(-7)).await.unwrap(), Answer::Number(-2));
        assert_eq!(one.run("a", get("n")).await.unwrap(), Answer::Values(vec![Some(value("-2"))]));
        assert_eq!(refused(&one, "a", add(i64::MIN)).await, Refusal::OutOfRange);
        one.run("a", set("n", "many")).await.unwrap();
        assert_eq!(refused(&one, "a", add(1)).await, Refusal::NotANumber);

        let swap = |seen: Option<&str>, new: &str| Op::Swap {
            key: "s".to_owned(),
            seen: seen.map(|seen| value(seen).print()),
            value: value(new),
        };
        assert_eq!(one.run("a", swap(None, "1")).await.unwrap(), Answer::Swapped { done: true, now: None });
        let lost = Answer::Swapped { done: false, now: Some(value("1")) };
        assert_eq!(one.run("a", swap(None, "2")).await.unwrap(), lost);
        assert_eq!(one.run("a", swap(Some("1"), "2")).await.unwrap(), Answer::Swapped { done: true, now: None });
    }

    #[tokio::test]
    async fn limits_hold_and_what_is_full_can_be_emptied() {
        let one = engine(&SimDisk::new(0));
        one.run("a", set("k", &"x".repeat(99))).await.unwrap();
        assert_eq!(refused(&one, "a", set("l", "")).await, Refusal::BucketFull { max: 100 });
        one.run("b", set("k", &"x".repeat(49))).await.unwrap();
        assert_eq!(refused(&one, "b", set("l", "y")).await, Refusal::AllFull { max: 150 });
        // As large as before is no growth.
        one.run("a", set("k", &"y".repeat(99))).await.unwrap();
        one.run("a", Op::Delete { keys: vec!["k".to_owned()] }).await.unwrap();
        one.run("b", set("l", "y")).await.unwrap();
        for op in [set("", "x"), set(&"k".repeat(1025), ""), set("k", &"x".repeat(crate::VALUE_BYTES_MAX + 1))] {
            refused(&one, "a", op).await;
        }
        let many = Op::Get { keys: vec!["k".to_owned(); KEYS_MAX + 1] };
        assert_eq!(refused(&one, "a", many).await, Refusal::TooManyKeys { count: KEYS_MAX + 1 });
    }

    #[tokio::test]
    async fn buckets_are_emptied_by_the_beginning_of_their_names() {
        let one = engine(&SimDisk::new(0));
        for bucket in ["shop", "shop/a", "shop/b", "shop2/a"] {
            one.run(bucket, set("k", "1")).await.unwrap();
        }
        one.clear("shop/").await.unwrap();
        let left: Vec<String> = one.page(None).await.unwrap().into_iter().map(|(bucket, ..)| bucket).collect();
        assert_eq!(left, ["shop", "shop2/a"]);
    }

    #[tokio::test]
    async fn an_answer_is_no_larger_than_a_question() {
        let disk = SimDisk::new(0).disk();
        disk.create_dir_all("/data").unwrap();
        let one = Engine::new(disk, "/data/kv", Limits { bucket_bytes_max: 1 << 30, bytes_max: 1 << 30 });
        let key = |n: usize| format!("k{n}");
        for n in 0..3 {
            let large = Value(vec![b'x'; crate::VALUE_BYTES_MAX]);
            one.run("a", Op::Set { entries: vec![(key(n), large)] }).await.unwrap();
        }
        one.run("a", Op::Get { keys: (0..2).map(key).collect() }).await.unwrap();
        assert_eq!(refused(&one, "a", Op::Get { keys: (0..3).map(key).collect() }).await, Refusal::LargeAnswer);
        assert_eq!(refused(&one, "a", Op::Get { keys: vec![key(0); 1000] }).await, Refusal::LargeAnswer);
    }

    #[tokio::test]
    async fn a_full_disk_changes_nothing_and_is_told() {
        let sim = SimDisk::new(0);
        let one = engine(&sim);
        one.run("a", set("k", "1")).await.unwrap();
        sim.fail_with_full_after(0);
        assert!(matches!(one.run("a", set("k", "2")).await, Err(Error::Write(_) | Error::Open { .. })));
        sim.make_room();
        assert_eq!(one.run("a", get("k")).await.unwrap(), Answer::Values(vec![Some(value("1"))]));
        one.run("a", set("k", "3")).await.unwrap();
        assert_eq!(one.run("a", get("k")).await.unwrap(), Answer::Values(vec![Some(value("3"))]));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// What was answered is there after a power cut at any moment, and what was not, as a whole or not at all.
        #[test]
        fn what_was_answered_survives_a_power_cut(seed in any::<u64>(), cut in 0_u64..60, count in 1_usize..12) {
            let sim = SimDisk::new(seed);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut sure = BTreeMap::new();
            let mut maybe = BTreeMap::new();
            runtime.block_on(async {
                let one = engine(&sim);
                sim.cut_after(cut);
                for n in 0..count {
                    let key = format!("k{}", n % 3);
                    let text = n.to_string();
                    match one.run("a", set(&key, &text)).await {
                        Ok(_) => { sure.insert(key.clone(), text.clone()); maybe.remove(&key); }
                        Err(_) => { maybe.insert(key, text); break }
                    }
                }
            });
            let after = sim.power_cut();
            let found = runtime.block_on(async {
                let again = Engine::new(after.disk(), "/data/keyvalue.redb", LIMITS);
                let mut found = BTreeMap::new();
                for key in ["k0", "k1", "k2"] {
                    if let Answer::Values(values) = again.run("a", get(key)).await.unwrap()
                        && let Some(Some(value)) = values.into_iter().next()
                    {
                        found.insert(key.to_owned(), String::from_utf8(value.0).unwrap());
                    }
                }
                found
            });
            for key in ["k0", "k1", "k2"] {
                let (now, sure, maybe) = (found.get(key), sure.get(key), maybe.get(key));
                prop_assert!(now == sure || (maybe.is_some() && now == maybe), "{key}: {now:?}, {sure:?} or {maybe:?}");
            }
        }
    }
}
