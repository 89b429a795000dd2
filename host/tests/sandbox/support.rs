//! Guests, compiled once, and a sandbox around them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use sha2::{Digest, Sha256};
use skiff_api::image::ImageRef;
use skiff_api::quantity::Span;
use skiff_api::resource::{ReplicaLimits, ServiceSpec, Template};
use skiff_api::wire::Stream;
use skiff_disk::Disk;
use skiff_host::compile::{Compiler, Limits, key};
use skiff_host::logs::{Journal, Sink};
use skiff_host::sandbox::{Code, Failure, PrepareError, Runner, RunnerOptions, Sandbox, SandboxOptions};

/// Enough for every test, and small enough that several pools fit beside each other.
const INSTANCES: u32 = 96;

pub(crate) fn sandbox() -> Sandbox {
    sandbox_of(INSTANCES)
}

pub(crate) fn sandbox_of(instances_max: u32) -> Sandbox {
    Sandbox::start(SandboxOptions { instances_max, ..SandboxOptions::default() }).unwrap()
}

/// The path of a guest's component.
pub(crate) fn guest(name: &str) -> PathBuf {
    let dir = std::env::var_os("SKIFF_GUESTS").map_or_else(
        || {
            let target = std::env::var_os("CARGO_TARGET_DIR");
            let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
            target.map_or(default, PathBuf::from).join("guests")
        },
        PathBuf::from,
    );
    let path = dir.join(format!("{name}.wasm"));
    assert!(path.exists(), "{} is missing: run `cargo xtask guests` first", path.display());
    path
}

pub(crate) fn compiler(limits: Limits) -> Compiler {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_skiff-compile-component"));
    Compiler::new(program, Disk::real(), limits).with_args(Vec::new())
}

/// A guest's code. Compiled files are kept between runs, as a node keeps them.
pub(crate) async fn code(sandbox: &Sandbox, name: &str) -> Code {
    component(sandbox, &guest(name)).await
}

pub(crate) async fn component(sandbox: &Sandbox, wasm: &Path) -> Code {
    let hash = Sha256::digest(std::fs::read(wasm).unwrap());
    let name: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(key().unwrap());
    std::fs::create_dir_all(&dir).unwrap();
    let cached = dir.join(format!("{name}.cwasm"));
    if let Ok(code) = sandbox.load(&cached) {
        return code;
    }
    // Tests in other processes may compile the same: each to a place of its own.
    let own = tempfile::Builder::new().tempdir_in(&dir).unwrap();
    let fresh = own.path().join("fresh.cwasm");
    compiler(Limits::default()).compile(wasm, &fresh).await.unwrap();
    std::fs::rename(&fresh, &cached).unwrap();
    sandbox.load(&cached).unwrap()
}

/// What a test may vary about a replica.
pub(crate) struct Setup {
    pub(crate) memory: skiff_api::quantity::Bytes,
    pub(crate) cpu: Duration,
    pub(crate) env: Vec<(&'static str, &'static str)>,
    pub(crate) requests: u32,
    pub(crate) idle: Duration,
    pub(crate) limits: ReplicaLimits,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            memory: skiff_api::quantity::Bytes::mebi(64),
            cpu: Duration::from_secs(10),
            env: Vec::new(),
            requests: 1,
            idle: Duration::from_secs(1),
            limits: ReplicaLimits::default(),
        }
    }
}

/// A replica, and what it wrote.
pub(crate) struct Replica {
    pub(crate) runner: Runner,
    pub(crate) journal: Arc<Journal>,
}

impl Setup {
    pub(crate) async fn prepare(self, sandbox: &Sandbox, code: &Code) -> Result<Replica, PrepareError> {
        let (options, journal) = self.options();
        Ok(Replica { runner: sandbox.prepare(code, options).await?, journal })
    }

    /// A replica that nobody has started before.
    pub(crate) fn unproven(self, sandbox: &Sandbox, code: &Code) -> Replica {
        let (options, journal) = self.options();
        Replica { runner: sandbox.runner(code, options), journal }
    }

    fn options(&self) -> (RunnerOptions, Arc<Journal>) {
        let journal = Journal::in_memory();
        let mut options = RunnerOptions::new(Arc::new(self.template()), Sink::new(journal.clone()));
        options.cpu = self.cpu;
        (options, journal)
    }

    fn template(&self) -> Template {
        let image: ImageRef = "probe:1".parse().unwrap();
        let mut spec = ServiceSpec::new(image);
        spec.instance.memory = self.memory;
        spec.instance.requests = self.requests;
        spec.instance.idle = Span::from_ms(u64::try_from(self.idle.as_millis()).unwrap());
        spec.limits = self.limits;
        spec.env = self.env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        spec.template()
    }
}

/// A replica of the probe with every default.
pub(crate) async fn probe(sandbox: &Sandbox) -> Replica {
    probe_with(sandbox, Setup::default()).await
}

pub(crate) async fn probe_with(sandbox: &Sandbox, setup: Setup) -> Replica {
    let code = code(sandbox, "probe").await;
    setup.prepare(sandbox, &code).await.unwrap()
}

pub(crate) fn get(path: &str) -> Request<Empty<Bytes>> {
    request(Method::GET, path)
}

pub(crate) fn request(method: Method, path: &str) -> Request<Empty<Bytes>> {
    Request::builder().method(method).uri(path).header("host", "probe.test").body(Empty::new()).unwrap()
}

impl Replica {
    /// A whole answer, as text.
    pub(crate) async fn get(&self, path: &str) -> Result<(StatusCode, String), Failure> {
        let response = self.runner.call(get(path)).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// An answer that must be a 200.
    pub(crate) async fn text(&self, path: &str) -> String {
        let (status, text) = self.get(path).await.unwrap();
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        text
    }

    pub(crate) async fn failure(&self, path: &str) -> Failure {
        match self.get(path).await {
            Ok((status, text)) => panic!("{path} answered {status}: {text}"),
            Err(failure) => failure,
        }
    }

    /// The lines of one stream.
    pub(crate) fn lines(&self, stream: Stream) -> Vec<String> {
        self.journal.pending().into_iter().filter(|line| line.stream == stream).map(|line| line.text).collect()
    }
}
