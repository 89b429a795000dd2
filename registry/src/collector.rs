//! When garbage is collected: some time after something changed, and again when what was spared is no longer fresh.
//!
//! ```text
//! a change ──> settle ──> run ──┬─ nothing waits: until the next change
//!    ^                         └─ something is too fresh: until it is not, or the next change
//!    └──────────────────────────────────────────────────┘
//! ```
//! Without changes nothing runs. A run reads small files in small steps with pauses in between, on a blocking thread, and
//! makes nobody wait for longer than one removal.

use std::future::Future;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use skiff_api::Digest;
use tokio::time::{sleep, timeout};

use crate::store::{Collected, Error, Registry};

/// Manifests that stay although no tag names them, by their repositories.
pub type Retained = Vec<(String, Digest)>;

/// When to run.
#[derive(Debug, Clone)]
pub struct Times {
    /// How long after a change: what follows it soon is the same run's.
    pub settle: Duration,
    /// How long at least between two runs.
    pub between: Duration,
    /// How long between two small steps of a run.
    pub pause: Duration,
    /// After a failure, as of the disk.
    pub retry: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            // A delete is mostly one of several.
            settle: Duration::from_secs(5),
            between: Duration::from_secs(60),
            // A run shall take a small share of the disk and of one core.
            pause: Duration::from_millis(2),
            retry: Duration::from_secs(600),
        }
    }
}

/// Collects until it is dropped. `retained` is asked before each run; when it cannot say, nothing is removed.
pub async fn run<F>(registry: Registry, times: Times, retained: impl Fn() -> F)
where
    F: Future<Output = Result<Retained, String>>,
{
    // What was left behind by an earlier process.
    let mut again = Some(Duration::ZERO);
    loop {
        match again {
            // Either is a reason.
            Some(after) => drop(timeout(after, registry.changed()).await),
            None => registry.changed().await,
        }
        sleep(times.settle).await;
        again = match retained().await {
            Ok(retained) => match once(registry.clone(), times.pause, retained).await {
                Some(Ok(done)) => {
                    report(&done);
                    let fresh = registry.limits().grace.min(registry.limits().untagged).max(times.between);
                    done.waits.then_some(fresh)
                }
                Some(Err(error)) => {
                    tracing::error!(%error, cause = ?std::error::Error::source(&error), "nothing can be collected");
                    Some(times.retry)
                }
                None => return,
            },
            Err(error) => {
                tracing::warn!(error, "nothing is collected: what must stay is not known");
                Some(times.retry)
            }
        };
        sleep(times.between).await;
    }
}

/// One run, ended when this is dropped. `None`: the runtime stops.
async fn once(registry: Registry, pause: Duration, retained: Retained) -> Option<Result<Collected, Error>> {
    let stop = Stop(Arc::default());
    let stopped = Arc::clone(&stop.0);
    let run = tokio::task::spawn_blocking(move || {
        registry.collect(&retained, &mut || {
            std::thread::sleep(pause);
            match stopped.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        })
    });
    run.await.ok()
}

struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn report(done: &Collected) {
    let Collected { manifests, links, contents, bytes, waits: _ } = *done;
    if manifests + links + contents > 0 {
        tracing::info!(manifests, links, contents, bytes, "removed from the registry what nothing refers to");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use skiff_disk::sim::SimDisk;

    use super::*;
    use crate::hash::sha256;
    use crate::store::Limits;

    fn registry(sim: &SimDisk) -> Registry {
        let limits = Limits { grace: Duration::ZERO, untagged: Duration::ZERO, ..Limits::default() };
        Registry::open_with(sim.disk(), "r", limits).unwrap()
    }

    fn push(registry: &Registry, bytes: &[u8]) {
        let id = registry.start_upload("a").unwrap();
        registry.append_upload("a", &id, 0, bytes).unwrap();
        registry.finish_upload("a", &id, &sha256(bytes)).unwrap();
    }

    fn times() -> Times {
        let ms = Duration::from_millis;
        Times { settle: ms(1), between: ms(1), pause: Duration::ZERO, retry: ms(1) }
    }

    async fn until(what: impl Fn() -> bool) {
        while !what() {
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn contents(sim: &SimDisk) -> usize {
        let shards = sim.disk().read_dir("r/blobs/sha256").unwrap_or_default();
        shards.iter().map(|shard| sim.disk().read_dir(format!("r/blobs/sha256/{}", shard.name)).unwrap().len()).sum()
    }

    #[tokio::test]
    async fn runs_after_changes_and_rests_without() {
        let sim = SimDisk::new(1);
        let registry = registry(&sim);
        push(&registry, b"left behind");
        let asked = Arc::new(Mutex::new(0));
        let counter = Arc::clone(&asked);
        let task = tokio::spawn(run(registry.clone(), times(), move || {
            *counter.lock().unwrap() += 1;
            std::future::ready(Ok(Vec::new()))
        }));
        until(|| contents(&sim) == 0).await;
        // One more run, which finds nothing; then it rests.
        let mut before = 0;
        loop {
            sleep(Duration::from_millis(100)).await;
            let now = *asked.lock().unwrap();
            if now == before {
                break;
            }
            before = now;
        }
        push(&registry, b"again");
        until(|| contents(&sim) == 0).await;
        task.abort();
    }

    #[tokio::test]
    async fn removes_nothing_while_nobody_knows_what_must_stay() {
        let sim = SimDisk::new(1);
        let registry = registry(&sim);
        push(&registry, b"x");
        let asked = Arc::new(Mutex::new(0));
        let counter = Arc::clone(&asked);
        let task = tokio::spawn(run(registry.clone(), times(), move || {
            *counter.lock().unwrap() += 1;
            std::future::ready(Err("the store is not there".to_owned()))
        }));
        until(|| *asked.lock().unwrap() > 3).await;
        assert_eq!(contents(&sim), 1);
        task.abort();
    }
}
