//! From the registry to a file that survives.

use std::time::Duration;

use skiff_api::Digest;
use skiff_registry::Client;
use skiff_registry::client::COMPONENT_BYTES_MAX;

use super::cache::Artifacts;
use super::error::PullError;

/// What a finished pull tells.
#[derive(Debug, Clone, Copy)]
pub struct Pulled {
    pub bytes: u64,
    pub took: Duration,
}

impl Artifacts {
    /// Pulls the component of an image. When this returns, it is durable under its name. Whoever wants the same image
    /// meanwhile waits, and gets what came.
    pub async fn pull(&self, client: &Client, repository: &str, digest: &Digest) -> Result<Pulled, PullError> {
        let started = tokio::time::Instant::now();
        let image = format!("{repository}@{digest}");
        let (path, flight) = (self.wasm(digest), self.flight(digest));
        let waited = flight.try_lock().is_err();
        let _turn = flight.lock().await;
        if waited && let Ok(stat) = self.disk().stat(&path) {
            return Ok(Pulled { bytes: stat.bytes, took: started.elapsed() });
        }
        self.forget(digest);
        let temporary = path.with_extension("wasm.tmp");
        let pulled = client
            .pull_component(repository, digest, (self.disk(), &temporary), COMPONENT_BYTES_MAX, |_, _| {})
            .await
            .map_err(|source| PullError::Registry { image: image.clone(), source })?;
        let (artifacts, of) = (self.clone(), digest.clone());
        let to = path.clone();
        let renamed = tokio::task::spawn_blocking(move || {
            artifacts.write_sum(&of, &pulled.digest)?;
            artifacts.disk().rename(&temporary, &to)?;
            to.parent().map_or(Ok(()), |dir| artifacts.disk().sync_dir(dir))
        });
        let renamed = renamed.await.unwrap_or_else(|e| Err(std::io::Error::other(e)));
        renamed.map_err(|source| PullError::Store { image, path, source })?;
        Ok(Pulled { bytes: pulled.bytes, took: started.elapsed() })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use skiff_disk::Disk;
    use skiff_disk::sim::SimDisk;
    use skiff_registry::{Action, Artifact, Authorizer, ClientOptions, Decision, Registry, router};

    use super::*;
    use crate::plan::CodeStage;

    struct Open;

    impl Authorizer for Open {
        fn authorize(&self, _: Option<&str>, _: Action, _: Option<&str>) -> Decision {
            Decision::Allowed
        }
    }

    struct Pushed {
        client: Client,
        digest: Digest,
        wasm: Vec<u8>,
        _dir: tempfile::TempDir,
    }

    async fn pushed() -> Pushed {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(Disk::real(), dir.path()).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::new(ClientOptions::new(listener.local_addr().unwrap().to_string())).unwrap();
        tokio::spawn(async move { axum::serve(listener, router(registry, Arc::new(Open))).await });
        let wasm = wat::parse_str("(component)").unwrap();
        let artifact = Artifact::from_wasm("empty.wasm", wasm.clone()).unwrap();
        let digest = client.push("default/empty", "1", &artifact, |_, _| {}).await.unwrap();
        Pushed { client, digest, wasm, _dir: dir }
    }

    #[tokio::test]
    async fn who_wants_the_same_waits_for_it() {
        let pushed = pushed().await;
        let dir = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(Disk::real(), dir.path(), "key").unwrap();
        let pull = || artifacts.pull(&pushed.client, "default/empty", &pushed.digest);
        let first = pull();
        let gone = async {
            // While the first is under way nobody asks the registry again: it would not find this repository.
            artifacts.pull(&pushed.client, "default/none", &pushed.digest).await
        };
        let (first, second) = tokio::join!(first, gone);
        assert_eq!((first.unwrap().bytes, second.unwrap().bytes), (8, 8));
        assert!(artifacts.is_whole(&pushed.digest, |_| {}));
        assert!(artifacts.pull(&pushed.client, "default/none", &pushed.digest).await.is_err(), "alone it asks");
    }

    async fn pull(sim: &SimDisk, pushed: &Pushed) -> bool {
        let Ok(artifacts) = Artifacts::open(sim.disk(), Path::new("/data"), "key") else { return false };
        artifacts.pull(&pushed.client, "default/empty", &pushed.digest).await.is_ok()
    }

    /// Whether a node finds the component after a power cut; it must never believe in another one.
    fn survives(sim: &SimDisk, pushed: &Pushed) -> bool {
        let disk = sim.power_cut().disk();
        let artifacts = Artifacts::open(disk.clone(), Path::new("/data"), "key").unwrap();
        let found = artifacts.found().unwrap();
        let is_found = found.get(&pushed.digest) == Some(&CodeStage::Pulled);
        is_found && disk.read(artifacts.wasm(&pushed.digest), 1 << 20).unwrap() == pushed.wasm
    }

    #[tokio::test]
    async fn a_pull_that_is_done_survives_and_half_of_one_is_not_believed() {
        let pushed = pushed().await;
        for cut in 0.. {
            let sim = SimDisk::new(cut);
            sim.cut_after(cut);
            let done = pull(&sim, &pushed).await;
            let survives = survives(&sim, &pushed);
            assert!(survives || !done, "cut after {cut} operations");
            if !survives {
                let again = sim.power_cut();
                let artifacts = Artifacts::open(again.disk(), Path::new("/data"), "key").unwrap();
                assert!(artifacts.found().unwrap().is_empty(), "cut after {cut} operations");
                assert!(pull(&again, &pushed).await);
            }
            if done {
                return;
            }
        }
    }

    /// A process is killed somewhere in a pull; the next one believes what it finds, or pulls again. `false`: what it had
    /// is gone after a power cut.
    async fn killed_and_started_again(sim: SimDisk, kill: u64, pushed: &Pushed) -> bool {
        sim.cut_after(kill);
        pull(&sim, pushed).await;
        let sim = sim.kill();
        let artifacts = Artifacts::open(sim.disk(), Path::new("/data"), "key").unwrap();
        let is_found = artifacts.found().unwrap().contains_key(&pushed.digest);
        assert!(is_found || pull(&sim, pushed).await);
        survives(&sim, pushed)
    }

    #[tokio::test]
    async fn what_a_killed_process_left_is_durable_before_it_is_believed() {
        let pushed = pushed().await;
        let all = SimDisk::new(0);
        assert!(pull(&all, &pushed).await);
        for kill in 0..=all.operations() {
            for seed in 0..10 {
                let survived = killed_and_started_again(SimDisk::new(seed), kill, &pushed).await;
                assert!(survived, "killed after {kill} operations, seed {seed}");
            }
        }
    }

    #[tokio::test]
    async fn each_sync_is_needed() {
        let pushed = pushed().await;
        let all = SimDisk::new(0);
        assert!(pull(&all, &pushed).await);
        assert!(!all.sites().is_empty());
        for site in all.sites() {
            let mut lost = false;
            for seed in 0..100 {
                let sim = || {
                    let sim = SimDisk::new(seed);
                    sim.skip_site(site);
                    sim
                };
                let once = sim();
                assert!(pull(&once, &pushed).await);
                let kill = seed % (all.operations() + 1);
                lost |= !survives(&once, &pushed) || !killed_and_started_again(sim(), kill, &pushed).await;
            }
            assert!(lost, "nothing is lost without the sync at {site}");
        }
    }
}
