//! Many push at once, and the process is killed amid it, or the power goes.
//!
//! The server of a kill storm is a process of its own: this test's program, started again with [`CHILD`] set. What its
//! clients were told is what must be there: a push that was acknowledged, whole; an upload at least as far as was said.
//! Nothing that is served may be anything but what its digest says. In the end the rest is collected, to the last file.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use skiff_api::Digest;
use skiff_disk::Disk;
use skiff_disk::sim::SimDisk;
use skiff_registry::hash::sha256;
use skiff_registry::manifest::{Manifest, media};
use skiff_registry::store::{Limits, PutManifest};
use skiff_registry::{Registry, router};
use tokio::net::TcpListener;

use crate::support::{Open, http, manifest_of};

const CHILD: &str = "SKIFF_TEST_STORM_CHILD";
const PUSHES: usize = 64;
const CHUNK: usize = 64 << 10;

/// What the client of a push was told: its repository, its tag, its manifest, and whether it was acknowledged.
type Told = (String, String, Vec<u8>, bool);

/// A server in a process of its own, on whatever is in the folder.
struct Process {
    child: Child,
    endpoint: String,
}

impl Process {
    fn start(dir: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "storm::serves_until_it_is_killed", "--nocapture"]).env(CHILD, dir);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while output.read_line(&mut line).unwrap() > 0 {
            if let Some((_, endpoint)) = line.split_once("listening ") {
                let endpoint = endpoint.trim().to_owned();
                std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
                return Self { child, endpoint };
            }
            line.clear();
        }
        panic!("the server ended with {:?}", child.wait());
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The other side of [`Process`]; nothing where it is run as a test.
#[test]
fn serves_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.spawn(async move {
        let registry = Registry::open(Disk::real(), dir).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("\nlistening {}", listener.local_addr().unwrap());
        std::io::stdout().flush().unwrap();
        axum::serve(listener, router(registry, Arc::new(Open))).await.unwrap();
    });
    // It ends with whoever started it, however that ends.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// One image on its way, and what its client was told of it.
#[derive(Debug, Clone, Default)]
struct Push {
    name: String,
    config: Vec<u8>,
    layer: Vec<u8>,
    /// Where the layer's upload is, and how much of it was acknowledged.
    upload: Option<(String, usize)>,
    layer_is_there: bool,
    is_there: bool,
    /// Whether its client tries again.
    again: bool,
}

impl Push {
    fn new(round: usize, n: usize) -> Self {
        let seed = format!("round {round} push {} ", n % (PUSHES - 8));
        // Some push the same layer at once.
        let layer: Vec<u8> = seed.bytes().cycle().take(CHUNK * (2 + n % 9) + n).collect();
        Self {
            name: format!("storm/r{}", n % 5),
            config: format!("{{\"n\":{n},\"round\":{round}}}").into_bytes(),
            layer,
            again: n.is_multiple_of(2),
            ..Self::default()
        }
    }

    fn manifest(&self) -> Vec<u8> {
        manifest_of(&sha256(&self.config), &[&sha256(&self.layer)], "")
    }

    fn tag(&self) -> String {
        format!("t{}", sha256(&self.config).short())
    }

    /// Goes on from wherever it is. An error: the server is gone.
    async fn go_on(&mut self, http: &reqwest::Client, endpoint: &str) -> Result<(), reqwest::Error> {
        let call = async |method: Method, path: &str, headers: &[(&str, String)], body: &[u8]| {
            let mut request = http.request(method, format!("http://{endpoint}{path}"));
            for (name, value) in headers {
                request = request.header(*name, value);
            }
            request.body(body.to_vec()).send().await
        };
        while !self.layer_is_there {
            let (location, from) = match self.upload.clone() {
                Some(upload) => upload,
                None => {
                    let path = format!("/v2/{}/blobs/uploads/", self.name);
                    let answer = call(Method::POST, &path, &[], b"").await?;
                    assert_eq!(answer.status(), StatusCode::ACCEPTED);
                    let location = answer.headers()["location"].to_str().unwrap().to_owned();
                    self.upload.insert((location, 0)).clone()
                }
            };
            if from < self.layer.len() {
                let end = (from + CHUNK).min(self.layer.len());
                let range = [("content-range", format!("{from}-{}", end - 1))];
                let answer = call(Method::PATCH, &location, &range, &self.layer[from..end]).await?;
                assert_eq!(answer.status(), StatusCode::ACCEPTED, "{}", answer.text().await?);
                self.upload = Some((location, end));
            } else {
                let path = format!("{location}?digest={}", sha256(&self.layer));
                let answer = call(Method::PUT, &path, &[], b"").await?;
                assert_eq!(answer.status(), StatusCode::CREATED, "{}", answer.text().await?);
                self.layer_is_there = true;
            }
        }
        let path = format!("/v2/{}/blobs/uploads/?digest={}", self.name, sha256(&self.config));
        let answer = call(Method::POST, &path, &[], &self.config).await?;
        assert_eq!(answer.status(), StatusCode::CREATED);
        let path = format!("/v2/{}/manifests/{}", self.name, self.tag());
        let kind = [("content-type", media::OCI_MANIFEST.to_owned())];
        let answer = call(Method::PUT, &path, &kind, &self.manifest()).await?;
        assert_eq!(answer.status(), StatusCode::CREATED, "{}", answer.text().await?);
        self.is_there = true;
        Ok(())
    }

    /// After a restart: what was acknowledged is there, and the upload goes on where it was said to be, or behind that.
    async fn look(&mut self, http: &reqwest::Client, endpoint: &str) {
        let get = async |path: String| {
            let answer = http.get(format!("http://{endpoint}{path}")).send().await.unwrap();
            let (status, headers) = (answer.status(), answer.headers().clone());
            (status, headers, answer.bytes().await.unwrap())
        };
        for (is_there, bytes) in [(self.layer_is_there, &self.layer), (self.is_there, &self.config)] {
            let (status, _, body) = get(format!("/v2/{}/blobs/{}", self.name, sha256(bytes))).await;
            assert!(status == StatusCode::OK || !is_there, "an acknowledged blob is gone: {status}");
            assert!(status != StatusCode::OK || body == bytes, "a damaged blob is served");
        }
        let (status, _, body) = get(format!("/v2/{}/manifests/{}", self.name, self.tag())).await;
        assert!(status == StatusCode::OK || !self.is_there, "an acknowledged push is gone: {status}");
        assert!(status != StatusCode::OK || body == self.manifest(), "a damaged manifest is served");
        if self.layer_is_there {
            return;
        }
        if let Some((location, acknowledged)) = self.upload.take() {
            let (status, headers, _) = get(location.clone()).await;
            if status == StatusCode::NOT_FOUND {
                // The last request was carried out, and its answer lost.
                assert_eq!(acknowledged, self.layer.len(), "an upload is gone");
                return;
            }
            let range = headers["range"].to_str().unwrap();
            let last: usize = range.strip_prefix("0-").unwrap().parse().unwrap();
            let at = if last == 0 { 0 } else { last + 1 };
            assert!(at >= acknowledged, "an upload of {acknowledged} bytes goes on at {at}");
            self.upload = Some((location, at));
        }
    }
}

/// One storm after the other on one folder.
fn storms(rounds: usize) {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (mut interrupted, mut resumed) = (0, 0);
    let mut all: Vec<Told> = Vec::new();
    for round in 0..rounds {
        let process = Process::start(dir.path());
        let endpoint = process.endpoint.clone();
        let pushes: Vec<_> = (0..PUSHES).map(|n| Arc::new(tokio::sync::Mutex::new(Push::new(round, n)))).collect();
        let done = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = pushes
            .iter()
            .map(|push| {
                let (push, endpoint, done) = (Arc::clone(push), endpoint.clone(), Arc::clone(&done));
                runtime.spawn(async move {
                    let ended = push.lock().await.go_on(&http(), &endpoint).await;
                    done.fetch_add(1, SeqCst);
                    ended.is_ok()
                })
            })
            .collect();
        // Killed by progress, not by the clock: after a part of the pushes, another each time.
        let after = 1 + (round * 17) % (PUSHES - 8);
        while done.load(SeqCst) < after {
            std::thread::sleep(Duration::from_millis(1));
        }
        process.kill();
        for task in tasks {
            interrupted += usize::from(!runtime.block_on(task).unwrap());
        }
        let process = Process::start(dir.path());
        let endpoint = process.endpoint.clone();
        runtime.block_on(async {
            let http = http();
            for push in &pushes {
                let mut push = push.lock().await;
                push.look(&http, &endpoint).await;
                // Half of them are tried again, the others were given up.
                if !push.is_there && push.again {
                    resumed += usize::from(push.upload.as_ref().is_some_and(|(_, at)| *at > 0));
                    push.go_on(&http, &endpoint).await.unwrap();
                }
                all.push((push.name.clone(), push.tag(), push.manifest(), push.is_there));
            }
        });
        process.kill();
    }
    assert!(interrupted > 0 && resumed > 0, "{interrupted} pushes were interrupted, {resumed} uploads went on");
    nothing_else_is_left(&Disk::real(), dir.path(), &all);
}

/// Collects all that nothing refers to, and compares the disk with what the tags lead to.
fn nothing_else_is_left(disk: &Disk, dir: &Path, pushes: &[Told]) {
    let now = Duration::ZERO;
    let limits = Limits { grace: now, untagged: now, upload_idle: now, ..Limits::default() };
    let registry = Registry::open_with(disk.clone(), dir, limits).unwrap();
    for _ in 0..3 {
        registry.collect(&[], &mut || ControlFlow::Continue(())).unwrap();
    }
    let mut needed = BTreeSet::new();
    for (repository, tag, bytes, acknowledged) in pushes {
        let found = registry.resolve(repository, tag).unwrap();
        assert!(found.is_some() || !acknowledged, "tag {tag} is gone");
        if let Some(digest) = found {
            assert_eq!(registry.manifest(repository, &digest).unwrap().unwrap().bytes, *bytes);
            for blob in Manifest::parse(bytes).unwrap().blobs() {
                let open = registry.blob(repository, &blob.digest).unwrap().unwrap();
                assert_eq!(sha256(&open.file.read_all(1 << 30).unwrap()), blob.digest);
                needed.insert(blob.digest.clone());
            }
            needed.insert(digest);
        }
    }
    let blobs = dir.join("blobs/sha256");
    let mut left: BTreeSet<Digest> = BTreeSet::new();
    for shard in disk.read_dir(&blobs).unwrap() {
        let entries = disk.read_dir(blobs.join(shard.name)).unwrap();
        left.extend(entries.iter().map(|entry| format!("sha256:{}", entry.name).parse::<Digest>().unwrap()));
    }
    assert_eq!(left, needed);
    assert_eq!(disk.read_dir(dir.join("uploads")).unwrap(), []);
}

#[test]
fn many_pushes_survive_kills() {
    storms(3);
}

#[test]
#[ignore = "long: fifty storms"]
fn many_pushes_survive_fifty_kills() {
    storms(50);
}

/// Many pushes by threads on a simulated disk, whose power goes after some operations.
fn blackout(seed: u64) -> usize {
    let sim = SimDisk::new(seed);
    sim.disk().create_dir_all("data").unwrap();
    let registry = Registry::open(sim.disk(), "data/registry").unwrap();
    let pushes: Mutex<Vec<Told>> = Mutex::default();
    // A push is some dozens of operations.
    sim.cut_after(50 + seed.wrapping_mul(7919) % 1800);
    std::thread::scope(|scope| {
        for n in 0..PUSHES {
            let (registry, pushes) = (&registry, &pushes);
            scope.spawn(move || {
                let mut push = Push::new(seed as usize, n);
                push.layer.truncate(3000 + n);
                let acknowledged = push_at_once(registry, &push).is_ok();
                pushes.lock().unwrap().push((push.name.clone(), push.tag(), push.manifest(), acknowledged));
            });
        }
    });
    let pushes = pushes.into_inner().unwrap();
    nothing_else_is_left(&sim.power_cut().disk(), Path::new("data/registry"), &pushes);
    pushes.iter().filter(|(.., acknowledged)| *acknowledged).count()
}

fn push_at_once(registry: &Registry, push: &Push) -> Result<(), skiff_registry::store::Error> {
    for bytes in [&push.layer, &push.config] {
        let id = registry.start_upload(&push.name)?;
        for (n, piece) in bytes.chunks(1000).enumerate() {
            registry.append_upload(&push.name, &id, n as u64 * 1000, piece)?;
            registry.keep_upload(&push.name, &id)?;
        }
        registry.finish_upload(&push.name, &id, &sha256(bytes))?;
    }
    let (tag, bytes) = (push.tag(), push.manifest());
    let media_type = Some(media::OCI_MANIFEST);
    registry.put_manifest(&PutManifest {
        repository: &push.name,
        media_type,
        digest: None,
        tag: Some(&tag),
        bytes: &bytes,
    })?;
    Ok(())
}

fn blackouts(seeds: u64) {
    let acknowledged: Vec<usize> = (0..seeds).map(blackout).collect();
    let some = acknowledged.iter().filter(|n| (1..PUSHES).contains(*n)).count();
    assert!(some > 0, "no cut came amid the pushes: {acknowledged:?}");
}

#[test]
fn many_pushes_survive_power_cuts() {
    blackouts(20);
}

#[test]
#[ignore = "long: two thousand power cuts"]
fn many_pushes_survive_many_power_cuts() {
    blackouts(2000);
}
