//! A server in this process, with doubles for the registry and the nodes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use futures_util::stream::{self, BoxStream, StreamExt};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use skiff_api::wire::{LogLine, LogQuery};
use skiff_api::{Digest, ImageRef, NodeName, Problem};
use skiff_disk::SealKey;
use skiff_disk::sim::SimDisk;
use skiff_keyvalue::{Engine, Limits};
use skiff_registry::sign::Attached;
use skiff_scheduler::Vault;
use skiff_scheduler::api::{ApiOptions, Artifact, Images, Token, router};
use skiff_scheduler::controllers::Oracle;
use skiff_scheduler::link::{LogRouter, Tunnels};
use skiff_scheduler::link_api::LogSource;
use skiff_scheduler::metrics::Metrics;
use skiff_scheduler::objects::{Events, Objects};
use skiff_scheduler::store::{EventLog, MemoryStore, RedbStore, Store};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

pub(crate) const TOKEN: &str = "s3cret";
/// What the double of the registry calls itself.
pub(crate) const OWN_REGISTRY: &str = "127.0.0.1:7070";

pub(crate) struct Server {
    pub(crate) router: Router,
    pub(crate) objects: Objects,
    pub(crate) events: Events,
    pub(crate) images: Arc<FakeImages>,
    pub(crate) logs: Arc<FakeLogs>,
    pub(crate) metrics: Metrics,
    pub(crate) stop: CancellationToken,
}

/// One server on each backend.
pub(crate) async fn servers() -> Vec<Server> {
    vec![memory().await, redb().await]
}

pub(crate) async fn memory() -> Server {
    let store = MemoryStore::new();
    let log = store.events();
    server(Arc::new(store), log).await
}

async fn redb() -> Server {
    let store = RedbStore::open(SimDisk::new(0).disk(), "/store").unwrap();
    let log = store.events();
    server(Arc::new(store), log).await
}

async fn server(store: Arc<dyn Store>, log: EventLog) -> Server {
    let (objects, events) = (Objects::new(store), Events::new(log));
    objects.bootstrap().await.unwrap();
    let (images, logs) = (Arc::new(FakeImages::default()), Arc::new(FakeLogs::default()));
    let (metrics, stop) = (Metrics::new(), CancellationToken::new());
    images.push("default/hello", "1", 1, &["wasi:http/incoming-handler@0.2.10"]);
    let options = ApiOptions {
        objects: objects.clone(),
        events: events.clone(),
        images: images.clone(),
        logs: logs.clone(),
        tunnels: Tunnels::new(LogRouter::default()),
        oracle: Oracle::silent(),
        token: Token::new(TOKEN),
        vault: Vault::new(SealKey::generate().unwrap()),
        buckets: Engine::new(
            SimDisk::new(0).disk(),
            "/keyvalue",
            Limits { bucket_bytes_max: 1 << 20, bytes_max: 1 << 20 },
        ),
        fleet: None,
        metrics: metrics.clone(),
        stop: stop.clone(),
    };
    Server { router: router(options), objects, events, images, logs, metrics, stop }
}

impl Server {
    pub(crate) async fn send(&self, method: &str, path: &str, body: impl Into<Body>) -> Response<Body> {
        let request = Request::builder().method(method).uri(path).header(AUTHORIZATION, format!("Bearer {TOKEN}"));
        self.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap()
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: impl Into<Body>) -> (u16, Value) {
        answer(self.send(method, path, body).await).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, value) = self.call("GET", path, Body::empty()).await;
        assert_eq!(status, 200, "{path}: {value}");
        value
    }

    pub(crate) async fn apply(&self, document: Value) -> (u16, Value) {
        self.call("POST", "/v1/apply", document.to_string()).await
    }

    /// Applies what must be fine, and says what was done.
    pub(crate) async fn applied(&self, document: Value) -> Value {
        let (status, value) = self.apply(document).await;
        assert_eq!(status, 200, "{value}");
        value
    }

    /// The detail of a refusal.
    pub(crate) async fn refused(&self, method: &str, path: &str, body: impl Into<Body>, status: u16) -> Problem {
        let response = self.send(method, path, body).await;
        let content = response.headers().get(CONTENT_TYPE).cloned();
        let (found, value) = answer(response).await;
        assert_eq!(found, status, "{method} {path}: {value}");
        assert_eq!(content.unwrap(), "application/problem+json");
        let problem: Problem = serde_json::from_value(value).unwrap();
        assert_eq!((problem.status, problem.code.status()), (status, status));
        problem
    }
}

pub(crate) async fn answer(response: Response<Body>) -> (u16, Value) {
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let value = serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&bytes)));
    assert!(status != StatusCode::INTERNAL_SERVER_ERROR, "{value}");
    (status.as_u16(), value)
}

/// A service as a file names it.
pub(crate) fn service(name: &str) -> Value {
    json!({"kind": "Service", "name": name, "image": "hello:1"})
}

pub(crate) fn digest(n: u8) -> Digest {
    format!("sha256:{}", format!("{n:02x}").repeat(32)).parse().unwrap()
}

/// A registry of what a test pushes.
#[derive(Default)]
pub(crate) struct FakeImages(
    Mutex<BTreeMap<(String, String), Artifact>>,
    /// What is attached in a repository to a digest.
    pub(crate) Mutex<BTreeMap<(String, Digest), Attached>>,
);

impl FakeImages {
    pub(crate) fn push(&self, repository: &str, tag: &str, n: u8, exports: &[&str]) {
        self.push_importing(repository, tag, n, (&[], exports));
    }

    /// The world is the component's imports and exports.
    pub(crate) fn push_importing(&self, repository: &str, tag: &str, n: u8, world: (&[&str], &[&str])) {
        let [imports, exports] = [world.0, world.1].map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        let artifact = Artifact { digest: digest(n), imports, exports, is_container: false };
        let mut pushed = self.0.lock().unwrap();
        pushed.insert((repository.to_owned(), tag.to_owned()), artifact.clone());
        pushed.insert((repository.to_owned(), digest(n).to_string()), artifact);
    }
}

#[async_trait]
impl Images for FakeImages {
    async fn find(&self, repository: &str, reference: &str) -> Result<Option<Artifact>, Problem> {
        Ok(self.0.lock().unwrap().get(&(repository.to_owned(), reference.to_owned())).cloned())
    }

    /// Other registries have what was pushed with them in its name.
    async fn copy(&self, image: &ImageRef, repository: &str) -> Result<Digest, Problem> {
        let mut pushed = self.0.lock().unwrap();
        let foreign = format!("{}/{}", image.registry().unwrap(), image.repository());
        let reference = image.digest().map_or_else(|| image.tag_or_latest().to_owned(), Digest::to_string);
        let Some(artifact) = pushed.get(&(foreign, reference)).cloned() else {
            return Err(Problem::new(skiff_api::Code::ImageNotFound, format!("{image} is not there")));
        };
        let digest = artifact.digest.clone();
        pushed.insert((repository.to_owned(), digest.to_string()), artifact);
        Ok(digest)
    }

    async fn signatures(&self, repository: &str, digest: &Digest) -> Result<Attached, Problem> {
        let signed = self.1.lock().unwrap();
        Ok(signed.get(&(repository.to_owned(), digest.clone())).cloned().unwrap_or_default())
    }

    async fn copy_signatures(&self, _: &ImageRef, _: &str, _: &Digest) -> Result<(), Problem> {
        Ok(())
    }

    fn is_own(&self, registry: &str) -> bool {
        registry == OWN_REGISTRY
    }
}

/// Nodes that say what a test lets them say, and remember what they were asked.
#[derive(Default)]
pub(crate) struct FakeLogs {
    pub(crate) lines: Mutex<BTreeMap<String, Vec<Result<LogLine, Problem>>>>,
    pub(crate) asked: Mutex<Vec<(NodeName, LogQuery)>>,
}

impl LogSource for FakeLogs {
    fn logs(&self, node: &NodeName, query: LogQuery) -> BoxStream<'static, Result<LogLine, Problem>> {
        let lines = self.lines.lock().unwrap().get(query.replica.name.as_str()).cloned().unwrap_or_default();
        let stored = stream::iter(lines);
        let follow = query.follow;
        self.asked.lock().unwrap().push((node.clone(), query));
        if follow { stored.chain(stream::pending()).boxed() } else { stored.boxed() }
    }
}

/// The lines of a streamed body, one by one.
pub(crate) struct Lines {
    body: Body,
    rest: Vec<u8>,
}

impl Lines {
    pub(crate) fn of(response: Response<Body>) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/x-ndjson");
        Self { body: response.into_body(), rest: Vec::new() }
    }

    /// `None` when the body is over.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = self.body.frame().await?.unwrap();
            self.rest.extend_from_slice(frame.data_ref().unwrap());
        }
    }

    /// `TYPE name@version`
    pub(crate) async fn event(&mut self) -> String {
        let event = self.next().await.unwrap();
        let metadata = &event["object"]["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        format!("{} {}@{}", text(&event["type"]), text(&metadata["name"]), text(&metadata["resourceVersion"]))
    }
}
