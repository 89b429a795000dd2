//! Kill -9 at random moments, while several writers push and apply as fast as they can.
//!
//! ```text
//! writers: push, move tags, apply ──kill -9──> [killed again while it starts] ──start──> all checked ──> writers …
//! ```
//! Each writer notes what is acknowledged, and the one thing that it waits for when the process dies: that may be there
//! or not, but whole. After every start a service that was deployed once must answer, from what is on disk.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use serde_json::json;
use skiff_tests::wait::within;
use skiff_tests::{Cluster, eventually, guest};

use crate::door::Door;
use crate::image::{Component, Image, MANIFEST_TYPE, digest};
use crate::is_long;
use crate::process::{files, orphaned_compilers};
use crate::rng::Rng;
use crate::witness::{Content, Spec, Witness};

const WRITERS: u64 = 4;
const KILLS: usize = 25;
const KILLS_LONG: usize = 200;

/// From the start of the process to the first answer of a service that was there before. The promise is one second; on a
/// machine that builds and tests other things meanwhile, only much more than that is a failure.
const START_MAX: Duration = Duration::from_secs(5);
/// The collector begins some seconds after a start, and does not run twice a minute.
const GARBAGE_WITHIN: Duration = Duration::from_secs(180);

#[test]
fn what_is_acknowledged_survives_kills() {
    let mut rng = Rng::new(Rng::seed());
    let mut cluster = Cluster::start();
    let hello = deploy_hello(&cluster);
    let mut writers: Vec<Writer> = (0..WRITERS).map(|id| Writer::new(id, rng.next(), &hello)).collect();
    let mut starts = Vec::new();
    let kills = if is_long() { KILLS_LONG } else { KILLS };
    for kill in 1..=kills {
        let door = Door::new(&cluster);
        let killed = AtomicBool::new(false);
        scope(|scope| {
            for writer in &mut writers {
                let (door, killed) = (door.clone(), &killed);
                scope.spawn(move || writer.work(door, killed));
            }
            // The moment is the test.
            sleep(Duration::from_millis(10 + rng.below(400)));
            killed.store(true, Ordering::SeqCst);
            cluster.kill9();
        });
        if rng.below(5) == 0 {
            cluster.spawn();
            sleep(Duration::from_millis(rng.below(400)));
            cluster.kill9();
        }
        let log = cluster.log().len();
        let start = Instant::now();
        cluster.restart();
        let first = cluster.get("/");
        starts.push(start.elapsed());
        assert_eq!(first.status, 200, "the first answer after kill {kill}: {}", first.text());

        check_log(&cluster.log()[log..]);
        assert_eq!(left_behind(&cluster, "registry"), Vec::<PathBuf>::new());
        let mut door = Door::new(&cluster);
        writers.iter_mut().for_each(|writer| writer.witness.check(&mut door, &mut rng, kill == kills));
    }
    // Half-written files of the registry are garbage, and uploads may go on.
    within(GARBAGE_WITHIN, "nothing half written is left", || {
        left_behind(&cluster, "registry/uploads").is_empty().then_some(())
    });
    eventually("compilers of killed processes end", || orphaned_compilers().is_empty().then_some(()));
    let counts = writers.iter().map(|writer| writer.witness.count());
    let [content, tags, services] = counts.fold([0; 3], |sum, of| std::array::from_fn(|at| sum[at] + of[at]));
    report(kills, [content, tags, services], &mut starts);
    assert!(content > kills && tags > 0 && services > 0, "the writers hardly wrote");
    assert!(starts.iter().all(|took| *took < START_MAX), "slow starts: {starts:?}");
    writers.iter().for_each(|writer| writer.check_traffic(&cluster));
    assert_eq!(cluster.terminate(), Some(0));
}

fn report(kills: usize, [content, tags, services]: [usize; 3], starts: &mut [Duration]) {
    starts.sort_unstable();
    let at = |percent: usize| starts[(starts.len() * percent / 100).min(starts.len() - 1)];
    eprintln!(
        "{kills} kills: nothing lost of {content} blobs and manifests, {tags} tags, {services} services; \
         start to first answer: p50 {:?}, p99 {:?}, most {:?}",
        at(50),
        at(99),
        at(100)
    );
}

/// Returns the component, with the config that its push made.
fn deploy_hello(cluster: &Cluster) -> Component {
    let file = guest("hello");
    cluster.skiff(&["push", "hello", file.to_str().unwrap()]).ok();
    cluster.skiff(&["run", "hello", "--path", "/"]).ok();
    cluster.eventually_answers("/", 200);
    let mut door = Door::new(cluster);
    let manifest = door.get("/v2/default/hello/manifests/latest").json();
    let config = door.get(&format!("/v2/default/hello/blobs/{}", manifest["config"]["digest"].as_str().unwrap()));
    Component::new(std::fs::read(file).unwrap(), config.json())
}

/// # Panics
/// When a start found something wrong.
fn check_log(log: &str) {
    let wrong: Vec<_> = log.lines().filter(|line| line.contains(" ERROR ") || line.contains("error:")).collect();
    assert!(wrong.is_empty(), "a start logged {wrong:#?}");
}

/// What is half written and lies outside of `apart`: it would add up. What is being compiled is written right now.
fn left_behind(cluster: &Cluster, apart: &str) -> Vec<PathBuf> {
    let data = cluster.data();
    let apart = [data.join("node"), data.join(apart)];
    let is_left = |path: &PathBuf| {
        let name = path.to_string_lossy();
        (name.ends_with(".tmp") || name.ends_with(".new")) && !apart.iter().any(|apart| path.starts_with(apart))
    };
    files(&data).into_keys().filter(is_left).collect()
}

struct Writer {
    id: u64,
    rng: Rng,
    sequence: u64,
    hello: Component,
    witness: Witness,
}

/// The process is gone.
struct Gone(io::Error);

impl Writer {
    fn new(id: u64, seed: u64, hello: &Component) -> Self {
        Self { id, rng: Rng::new(seed), sequence: 0, hello: hello.clone(), witness: Witness::default() }
    }

    /// Writes until the process is gone.
    fn work(&mut self, mut door: Door, killed: &AtomicBool) {
        loop {
            if let Err(Gone(error)) = self.write(&mut door) {
                assert!(killed.load(Ordering::SeqCst), "it broke without a kill: {error}");
                return;
            }
        }
    }

    fn write(&mut self, door: &mut Door) -> Result<(), Gone> {
        match self.rng.below(16) {
            // One that can run is compiled by the node, which takes its time.
            0 => {
                let image = self.hello.varied(&mut self.rng);
                self.push(door, &image, "live")?;
                self.apply(door, "live", 1)
            }
            1..=5 => match self.rng.below(3) {
                _ if self.witness.tag(&self.repository(), "live").is_none() => Ok(()),
                n => self.apply(door, &format!("idle-{n}"), 0),
            },
            n => {
                let image = Component::empty().varied(&mut self.rng);
                self.push(door, &image, &format!("v{}", n % 4))
            }
        }
    }

    fn repository(&self) -> String {
        format!("default/w{}", self.id)
    }

    fn push(&mut self, door: &mut Door, image: &Image, tag: &str) -> Result<(), Gone> {
        let repository = self.repository();
        for blob in &image.blobs {
            let content = Content { kind: "blobs", repository: repository.clone(), digest: digest(blob) };
            self.witness.will_store(&content);
            let path = format!("/v2/{repository}/blobs/uploads/?digest={}", content.digest);
            expect(door, ("POST", &path, "application/octet-stream", blob), 201)?;
            self.witness.stored(content);
        }
        let content = Content { kind: "manifests", repository: repository.clone(), digest: digest(&image.manifest) };
        self.witness.will_store(&content);
        self.witness.will_tag(&repository, tag, &content.digest);
        let path = format!("/v2/{repository}/manifests/{tag}");
        expect(door, ("PUT", &path, MANIFEST_TYPE, &image.manifest), 201)?;
        self.witness.stored(content);
        self.witness.tagged(&repository, tag);
        Ok(())
    }

    /// Applies a service that runs this writer's image.
    fn apply(&mut self, door: &mut Door, role: &str, replicas: u64) -> Result<(), Gone> {
        self.sequence += 1;
        let repository = self.repository();
        let image = self.witness.tag(&repository, "live").expect("it was pushed").clone();
        let name = self.service(role);
        let manifest = json!({
            "kind": "Service",
            "name": name,
            "image": format!("w{}:live", self.id),
            "replicas": replicas,
            "env": {"SEQUENCE": self.sequence.to_string()},
        });
        self.witness.will_apply(&name, Spec { sequence: self.sequence, image });
        let body = serde_json::to_vec(&manifest).unwrap();
        expect(door, ("POST", "/v1/apply", "application/json", &body), 200)?;
        self.witness.applied(&name);
        Ok(())
    }

    fn service(&self, role: &str) -> String {
        format!("w{}-{role}", self.id)
    }

    /// What was applied last also runs, once the kills are over.
    fn check_traffic(&self, cluster: &Cluster) {
        if self.witness.tag(&self.repository(), "live").is_some() && self.witness.has_service(&self.service("live")) {
            let host = format!("{}.default.localhost", self.service("live"));
            eventually(&format!("{host} answers"), || (cluster.get_host(&host, "/").status == 200).then_some(()));
        }
    }
}

/// # Panics
/// When there is another answer than the one that a write gets.
fn expect(door: &mut Door, (method, path, kind, body): (&str, &str, &str, &[u8]), status: u16) -> Result<(), Gone> {
    let answer = door.send(method, path, kind, body).map_err(Gone)?;
    assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
    Ok(())
}
