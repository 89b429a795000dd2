//! Instances that wait for their next request.
//!
//! Each thread has a list of its own, so that taking and putting back is no fight; a thread whose list is empty looks at
//! the others'. The one put back last is taken first: it is warm, and the others may expire. One task removes those that
//! have waited for too long; it ends when nothing waits any more, and belongs to nobody: instances go with their replica.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::sandbox::guest::Instance;
use crate::sandbox::runner::Inner;
use crate::sandbox::shard::{Padded, mine, shards};

/// A replica's idle instances.
pub(super) struct Idle {
    lists: Box<[Padded<Mutex<Vec<Waiting>>>]>,
    /// The task that removes them is there.
    reaped: AtomicBool,
    max: Duration,
}

struct Waiting {
    instance: Instance,
    since: Instant,
}

impl Idle {
    pub(super) fn new(max: Duration) -> Self {
        Self { lists: shards(Mutex::default), reaped: AtomicBool::new(false), max }
    }

    pub(super) fn take(&self) -> Option<Instance> {
        let own = mine(&self.lists).lock().unwrap_or_else(PoisonError::into_inner).pop();
        let waiting = own.or_else(|| self.lists.iter().find_map(|list| list.0.try_lock().ok()?.pop()))?;
        Some(waiting.instance)
    }

    /// Whether one waits, as far as can be seen without waiting for a lock.
    pub(super) fn has_one(&self) -> bool {
        self.lists.iter().any(|list| list.0.try_lock().is_ok_and(|list| !list.is_empty()))
    }

    /// Keeps an instance of this runner.
    pub(super) fn put(runner: &Arc<Inner>, instance: Instance) {
        let idle = &runner.idle;
        // Where nobody would remove it, it is not kept.
        let Ok(runtime) = Handle::try_current() else { return };
        let waiting = Waiting { instance, since: Instant::now() };
        mine(&idle.lists).lock().unwrap_or_else(PoisonError::into_inner).push(waiting);
        if !idle.reaped.swap(true, Ordering::SeqCst) {
            let mut reaper = Reaper { runner: Arc::downgrade(runner), ended: false };
            runtime.spawn(async move { reaper.run().await });
        }
    }

    /// Ends those that have waited for too long. Returns when to look again, if any is left.
    fn reap(&self, now: Instant) -> Option<Duration> {
        let mut oldest: Option<Instant> = None;
        for list in &self.lists {
            let mut list = list.0.lock().unwrap_or_else(PoisonError::into_inner);
            // In the order in which they were put back.
            let expired = list.partition_point(|waiting| now.saturating_duration_since(waiting.since) >= self.max);
            let expired: Vec<Waiting> = list.drain(..expired).collect();
            oldest = oldest.into_iter().chain(list.first().map(|waiting| waiting.since)).min();
            drop(list);
            drop(expired);
        }
        oldest.map(|oldest| self.max.saturating_sub(now.saturating_duration_since(oldest)))
    }
}

struct Reaper {
    runner: Weak<Inner>,
    /// It was not cut off.
    ended: bool,
}

impl Reaper {
    async fn run(&mut self) {
        while let Some(again) = self.reap() {
            tokio::time::sleep(again.max(COARSE)).await;
        }
        self.ended = true;
    }

    fn reap(&self) -> Option<Duration> {
        let runner = self.runner.upgrade()?;
        let idle = &runner.idle;
        idle.reap(Instant::now()).or_else(|| {
            idle.reaped.store(false, Ordering::SeqCst);
            // One that was put back just before has relied on this task.
            idle.reap(Instant::now()).filter(|_| !idle.reaped.swap(true, Ordering::SeqCst))
        })
    }
}

/// Instances that expire close to each other are removed in one go.
const COARSE: Duration = Duration::from_millis(50);

impl Drop for Reaper {
    /// Its runtime may end while the node goes on: then the next instance brings another.
    fn drop(&mut self) {
        if let (false, Some(runner)) = (self.ended, self.runner.upgrade()) {
            runner.idle.reaped.store(false, Ordering::SeqCst);
        }
    }
}
