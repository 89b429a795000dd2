//! The logs of a node: which exist, which are kept, and the task that writes them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use skiff_api::id::{Name, ReplicaKey, ReplicaName};
use skiff_api::wire::LogQuery;
use skiff_disk::Disk;
use tokio::sync::mpsc;

use super::files::Files;
use super::journal::Journal;
use super::read::{ReadError, Reading};

/// How long lines may wait in memory, so that many go to the disk at once.
const FLUSH_AFTER: Duration = Duration::from_millis(500);
/// Stopped replicas of one service whose logs stay: why the last update failed is asked after the replica is gone. As many
/// tasks of a job stay objects after their end.
const STOPPED_PER_SERVICE: usize = 10;
/// Stopped replicas of the whole node whose logs stay: services that are deleted must not fill the disk.
const STOPPED_ON_NODE: usize = 64;

/// The logs of a node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Logs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    disk: Disk,
    dir: PathBuf,
    state: Mutex<State>,
    flusher: mpsc::UnboundedSender<Arc<Journal>>,
}

#[derive(Debug, Default)]
struct State {
    journals: BTreeMap<ReplicaKey, Entry>,
    stops: u64,
}

#[derive(Debug)]
struct Entry {
    service: Name,
    journal: Arc<Journal>,
    /// In which order it stopped; absent while it runs.
    stopped: Option<u64>,
}

impl Logs {
    /// Finds what is stored in `dir`, all of it as logs of stopped replicas, and starts the flusher on the current tokio
    /// runtime. Blocks.
    pub fn start(disk: Disk, dir: PathBuf) -> Self {
        let (flusher, dirty) = mpsc::unbounded_channel();
        tokio::spawn(flush_when_dirty(dirty));
        let logs = Self(Arc::new(Inner { disk, dir, state: Mutex::default(), flusher }));
        logs.find();
        logs
    }

    /// The log of a replica that runs. The names must be safe as names of folders.
    pub fn open(&self, replica: &ReplicaKey, service: &Name) -> Arc<Journal> {
        let mut state = self.state();
        let entry = state.journals.entry(replica.clone()).or_insert_with(|| self.entry(replica, service));
        entry.stopped = None;
        entry.journal.reopen();
        entry.journal.clone()
    }

    /// Keeps a replica's log for a while, and removes what is no longer kept. Once is enough. Blocks.
    pub fn stop(&self, replica: &ReplicaKey) {
        {
            let mut state = self.state();
            let stops = state.stops + 1;
            match state.journals.get_mut(replica) {
                Some(entry) if entry.stopped.is_none() => {
                    entry.stopped = Some(stops);
                    entry.journal.close();
                }
                _ => return,
            }
            state.stops = stops;
        }
        self.prune();
    }

    fn prune(&self) {
        let removed = self.state().prune();
        for journal in removed {
            journal.remove();
        }
    }

    pub async fn read(&self, query: &LogQuery) -> Result<Reading, ReadError> {
        let (journal, running) = {
            let state = self.state();
            let entry = state.journals.get(&query.replica).ok_or_else(|| ReadError::NotFound(query.replica.clone()))?;
            (entry.journal.clone(), entry.stopped.is_none())
        };
        let follow = query.follow && running;
        let snapshot = tokio::task::spawn_blocking(move || journal.snapshot(follow))
            .await
            .map_err(|_| ReadError::Stopped(query.replica.clone()))?;
        Ok(Reading::new(query, snapshot))
    }

    /// Writes what is pending: for the end of the process. Blocks.
    pub fn flush(&self) {
        let journals: Vec<_> = self.state().journals.values().map(|entry| entry.journal.clone()).collect();
        for journal in journals {
            journal.flush();
        }
    }

    fn find(&self) {
        let inner = &self.0;
        let dirs = |path: &PathBuf| {
            let entries = inner.disk.read_dir(path).unwrap_or_default();
            entries.into_iter().filter(|entry| entry.is_dir).map(|entry| entry.name).collect::<Vec<_>>()
        };
        for namespace_name in dirs(&inner.dir) {
            let Ok(namespace) = namespace_name.parse::<Name>() else { continue };
            let namespace_dir = inner.dir.join(&namespace_name);
            for service_name in dirs(&namespace_dir) {
                let Ok(service) = service_name.parse::<Name>() else { continue };
                for replica in dirs(&namespace_dir.join(&service_name)) {
                    let key = ReplicaKey { namespace: namespace.clone(), name: ReplicaName::new(replica) };
                    let entry = self.entry(&key, &service);
                    let mut state = self.state();
                    state.stops += 1;
                    let stopped = Some(state.stops);
                    state.journals.insert(key, Entry { stopped, ..entry });
                }
            }
        }
    }

    fn entry(&self, replica: &ReplicaKey, service: &Name) -> Entry {
        let inner = &self.0;
        let namespace = inner.dir.join(replica.namespace.as_str());
        let of_service = namespace.join(service.as_str());
        let of_replica = of_service.join(replica.name.as_str());
        let files = Files::new(inner.disk.clone(), [inner.dir.clone(), namespace, of_service, of_replica]);
        let journal = Journal::new(Some(files), Some(inner.flusher.clone()));
        Entry { service: service.clone(), journal, stopped: None }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn prune(&mut self) -> Vec<Arc<Journal>> {
        let mut stopped: Vec<(u64, ReplicaKey)> =
            self.journals.iter().filter_map(|(key, entry)| entry.stopped.map(|order| (order, key.clone()))).collect();
        stopped.sort_unstable_by(|a, b| b.cmp(a));
        let mut per_service: BTreeMap<(Name, Name), usize> = BTreeMap::new();
        let mut kept = 0;
        let mut removed = Vec::new();
        for (_, key) in stopped {
            let Some(entry) = self.journals.get(&key) else { continue };
            let of_service = per_service.entry((key.namespace.clone(), entry.service.clone())).or_default();
            if *of_service < STOPPED_PER_SERVICE && kept < STOPPED_ON_NODE {
                *of_service += 1;
                kept += 1;
            } else if let Some(entry) = self.journals.remove(&key) {
                removed.push(entry.journal);
            }
        }
        removed
    }
}

/// Sleeps until somebody writes; then waits a moment, so that a burst is one write for each replica.
async fn flush_when_dirty(mut dirty: mpsc::UnboundedReceiver<Arc<Journal>>) {
    let mut again: Vec<Arc<Journal>> = Vec::new();
    loop {
        let mut journals = std::mem::take(&mut again);
        if journals.is_empty() {
            match dirty.recv().await {
                Some(journal) => journals.push(journal),
                None => return,
            }
        }
        tokio::time::sleep(FLUSH_AFTER).await;
        while let Ok(journal) = dirty.try_recv() {
            journals.push(journal);
        }
        let flushed = tokio::task::spawn_blocking(move || {
            journals.retain(|journal| journal.flush());
            journals
        });
        again = flushed.await.unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use skiff_api::wire::Stream;

    use super::*;
    use crate::logs::Sink;

    fn key(name: &str) -> ReplicaKey {
        ReplicaKey { namespace: "default".parse().unwrap(), name: ReplicaName::new(name) }
    }

    fn query(name: &str) -> LogQuery {
        LogQuery { replica: key(name), tail: None, since: None, follow: false }
    }

    async fn texts(logs: &Logs, query: &LogQuery) -> Vec<String> {
        let mut reading = logs.read(query).await.unwrap();
        let mut texts = Vec::new();
        while let Some(lines) = reading.next().await {
            texts.extend(lines.into_iter().map(|line| line.text));
        }
        texts
    }

    fn write(logs: &Logs, name: &str, text: &str) {
        let sink = Sink::new(logs.open(&key(name), &"cart".parse().unwrap()));
        sink.write(Stream::Stdout, format!("{text}\n").as_bytes());
    }

    #[tokio::test]
    async fn lines_outlive_the_process_and_can_be_cut() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs::start(Disk::real(), dir.path().join("logs"));
        for number in 0..300 {
            write(&logs, "cart-1-a", &number.to_string());
        }
        assert_eq!(texts(&logs, &query("cart-1-a")).await.len(), 300, "before a flush");
        logs.flush();
        let logs = Logs::start(Disk::real(), dir.path().join("logs"));
        assert_eq!(texts(&logs, &query("cart-1-a")).await.len(), 300, "after a restart");
        assert_eq!(texts(&logs, &LogQuery { tail: Some(2), ..query("cart-1-a") }).await, ["298", "299"]);
        let later = jiff::Timestamp::now() + Duration::from_secs(60);
        assert!(texts(&logs, &LogQuery { since: Some(later), ..query("cart-1-a") }).await.is_empty());
        assert!(matches!(logs.read(&query("cart-1-b")).await, Err(ReadError::NotFound(_))));
    }

    #[tokio::test]
    async fn a_followed_log_goes_on_and_ends_with_its_replica() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs::start(Disk::real(), dir.path().join("logs"));
        write(&logs, "cart-1-a", "one");
        let mut reading = logs.read(&LogQuery { follow: true, ..query("cart-1-a") }).await.unwrap();
        assert_eq!(reading.next().await.unwrap()[0].text, "one");
        write(&logs, "cart-1-a", "two");
        assert_eq!(reading.next().await.unwrap()[0].text, "two");
        logs.stop(&key("cart-1-a"));
        assert!(reading.next().await.is_none());
    }

    #[tokio::test]
    async fn the_last_stopped_replicas_keep_their_logs() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs::start(Disk::real(), dir.path().join("logs"));
        let names: Vec<String> = (0..=STOPPED_PER_SERVICE).map(|number| format!("cart-1-{number}")).collect();
        for name in &names {
            write(&logs, name, name);
        }
        logs.flush();
        for name in names.iter().rev() {
            logs.stop(&key(name));
        }
        assert!(matches!(logs.read(&query(names.last().unwrap())).await, Err(ReadError::NotFound(_))));
        assert_eq!(texts(&logs, &query("cart-1-0")).await, ["cart-1-0"]);
        assert!(!dir.path().join("logs/default/cart/cart-1-10").exists());
    }
}
