//! A registry with the guests, nodes that pull from it, and a control plane that is only messages.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use skiff_api::Digest;
use skiff_api::id::{NodeName, ReplicaKey, ReplicaName, RevisionName, ServiceKey, Uid};
use skiff_api::resource::{Callers, Phase, ReplicaStatus, Route, ServiceSpec, Template};
use skiff_api::wire::{
    Assignment, Base, Desired, Fence, FromNode, Hello, LogLine, LogQuery, NodeEvent, Observed, Routes, ServiceRoutes,
    Stream, ToNode,
};
use skiff_disk::Disk;
use skiff_host::capabilities::SystemNames;
use skiff_host::compile::{Compiler, Limits};
use skiff_host::link::Peer;
use skiff_host::sandbox::SandboxOptions;
use skiff_host::{Node, NodeHandle, NodeOptions};
use skiff_registry::{Action, Artifact, Authorizer, Client, ClientOptions, Decision, Registry, router};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// A slow machine that also builds something needs this; nothing waits for it on one that works.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

struct Open;

impl Authorizer for Open {
    fn authorize(&self, _: Option<&str>, _: Action, _: Option<&str>) -> Decision {
        Decision::Allowed
    }
}

/// A registry on a free port, with `hello` and `probe` in it.
pub(crate) struct World {
    pub(crate) dir: TempDir,
    pub(crate) endpoint: String,
    pub(crate) images: BTreeMap<&'static str, Digest>,
    registry: JoinHandle<()>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(Disk::real(), dir.path().join("registry")).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let routes = router(registry, Arc::new(Open));
        let registry = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        let client = Client::new(ClientOptions::new(&endpoint)).unwrap();
        let mut images = BTreeMap::new();
        for name in ["hello", "probe"] {
            let artifact = Artifact::from_wasm(name, std::fs::read(guest(name)).unwrap()).unwrap();
            let digest = client.push(&format!("default/{name}"), "1", &artifact, |_, _| {}).await.unwrap();
            images.insert(name, digest);
        }
        Self { dir, endpoint, images, registry }
    }

    /// Puts another guest into the registry.
    pub(crate) async fn push(&mut self, name: &'static str) {
        let client = Client::new(ClientOptions::new(&self.endpoint)).unwrap();
        let artifact = Artifact::from_wasm(name, std::fs::read(guest(name)).unwrap()).unwrap();
        let digest = client.push(&format!("default/{name}"), "1", &artifact, |_, _| {}).await.unwrap();
        self.images.insert(name, digest);
    }

    /// Nobody pulls from now on.
    pub(crate) fn stop_registry(&self) {
        self.registry.abort();
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("node")
    }

    pub(crate) fn options(&self) -> NodeOptions {
        self.options_of("n1", &self.data())
    }

    /// Those of one of several nodes.
    pub(crate) fn options_of(&self, name: &str, data: &Path) -> NodeOptions {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_skiff-compile-component"));
        NodeOptions {
            data: data.to_owned(),
            disk: Disk::real(),
            name: NodeName::new(name),
            gateway: TcpListener::bind("127.0.0.1:0").unwrap().into(),
            advertise: None,
            uid: None,
            site: String::new(),
            labels: BTreeMap::new(),
            peer: None,
            registry: ClientOptions { attempts: 1, ..ClientOptions::new(&self.endpoint) },
            compiler: Compiler::new(program, Disk::real(), Limits::default()).with_args(Vec::new()),
            sandbox: SandboxOptions { instances_max: 256, ..SandboxOptions::default() },
            docker: None,
            buckets: None,
            tunnels: None,
            names: Arc::new(SystemNames::default()),
            version: "test".to_owned(),
            drain: Duration::from_secs(20),
        }
    }

    pub(crate) async fn node(&self) -> NodeHandle {
        Node::start(self.options()).await.unwrap()
    }

    pub(crate) fn template(&self, image: &str) -> Template {
        let image = format!("default/{image}@{}", self.images[image]);
        ServiceSpec::new(image.parse().unwrap()).template()
    }

    /// A node that runs one replica of an image as service `app`, on every host and path.
    pub(crate) async fn serving(&self, image: &str, change: impl FnOnce(&mut Template)) -> (NodeHandle, Control) {
        let node = self.node().await;
        let mut control = Control::of(&node).await;
        let mut template = self.template(image);
        change(&mut template);
        control.route([routes("app", &[(None, "/")])]).await;
        control.desire([assignment("app", "app-1-a", template)]).await;
        control.until_ready("app-1-a").await;
        (node, control)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.registry.abort();
    }
}

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

pub(crate) fn replica(name: &str) -> ReplicaKey {
    ReplicaKey { namespace: "default".parse().unwrap(), name: ReplicaName::new(name) }
}

pub(crate) fn service(name: &str) -> ServiceKey {
    ServiceKey { namespace: "default".parse().unwrap(), name: name.parse().unwrap() }
}

pub(crate) fn assignment(service: &str, name: &str, template: Template) -> Assignment {
    Assignment {
        replica: replica(name),
        uid: Uid::new(name),
        service: service.parse().unwrap(),
        revision: RevisionName::new(format!("{service}-1")),
        template: Arc::new(template),
        trust: None,
        settings: None,
        task: None,
        stop: false,
        owner: None,
    }
}

pub(crate) fn routes(name: &str, routes: &[(Option<&str>, &str)]) -> ServiceRoutes {
    let route = |(host, path): &(Option<&str>, &str)| Route { host: host.map(str::to_owned), path: (*path).to_owned() };
    let (service, routes) = (service(name), routes.iter().map(route).collect());
    ServiceRoutes { service, routes, callers: Callers::default(), endpoints: Vec::new() }
}

/// The other end of a node's link.
pub(crate) struct Control {
    pub(crate) peer: Peer,
    pub(crate) hello: Hello,
    pub(crate) fence: Fence,
    pub(crate) desired: Fence,
    /// What the node says it runs.
    pub(crate) statuses: BTreeMap<ReplicaKey, ReplicaStatus>,
    pub(crate) events: Vec<NodeEvent>,
    pub(crate) resyncs: u32,
    /// The fence of the last report.
    pub(crate) seen: Fence,
    /// Whether it answers nodes that ask for their lease.
    pub(crate) leases: bool,
}

impl Control {
    pub(crate) async fn of(node: &NodeHandle) -> Self {
        Self::at(node.link()).await
    }

    /// At the end of a link of any kind.
    pub(crate) async fn at(mut peer: Peer) -> Self {
        let Some(FromNode::Hello(hello)) = peer.from_node.recv().await else { panic!("the node says no hello") };
        let Some(FromNode::Observed(observed)) = peer.from_node.recv().await else { panic!("no report follows") };
        assert!(observed.whole);
        let fence = Fence { epoch: 1, term: hello.fence.term + 1, counter: 0 };
        let (seen, statuses) = (observed.fence, observed.replicas.into_iter().collect());
        Self { peer, hello, fence, desired: seen, statuses, events: Vec::new(), resyncs: 0, seen, leases: true }
    }

    pub(crate) fn next_fence(&mut self) -> Fence {
        self.fence.counter += 1;
        self.fence
    }

    pub(crate) async fn send(&self, message: ToNode) {
        self.peer.to_node.send(message).await.unwrap();
    }

    /// Sends the whole desired set.
    pub(crate) async fn desire(&mut self, assignments: impl IntoIterator<Item = Assignment>) {
        let fence = self.next_fence();
        self.desired = fence;
        let upsert = assignments.into_iter().collect();
        self.send(ToNode::Desired(Desired { fence, base: Base::Whole, upsert, remove: Vec::new(), volumes: None }))
            .await;
    }

    /// Sends a change of the desired set.
    pub(crate) async fn change(&mut self, upsert: Vec<Assignment>, remove: Vec<ReplicaKey>) {
        let base = Base::After(self.desired);
        let fence = self.next_fence();
        self.desired = fence;
        self.send(ToNode::Desired(Desired { fence, base, upsert, remove, volumes: None })).await;
    }

    pub(crate) async fn route(&mut self, services: impl IntoIterator<Item = ServiceRoutes>) {
        let fence = self.next_fence();
        let upsert = services.into_iter().collect();
        self.send(ToNode::Routes(Routes { fence, base: Base::Whole, upsert, remove: Vec::new(), removed_nodes: None }))
            .await;
    }

    /// Takes the node's next message.
    pub(crate) async fn next(&mut self) -> FromNode {
        let message = tokio::time::timeout(PATIENCE, self.peer.recv()).await;
        let message = message.unwrap_or_else(|_| panic!("the node says nothing; it said {:#?}", self.statuses));
        let message = message.expect("the node has left");
        match &message {
            FromNode::Observed(Observed { whole, fence, replicas, gone }) => {
                if *whole {
                    self.statuses.clear();
                }
                self.statuses.extend(replicas.iter().cloned());
                gone.iter().for_each(|key| drop(self.statuses.remove(key)));
                self.seen = *fence;
            }
            FromNode::Event(event) => self.events.push(event.clone()),
            FromNode::Resync => self.resyncs += 1,
            FromNode::Lease { asked_ms } if self.leases => self.send(ToNode::Lease { asked_ms: *asked_ms }).await,
            FromNode::Lease { .. } => {}
            FromNode::Hello(_) | FromNode::Logs { .. } | FromNode::LogsEnd { .. } | FromNode::NoTunnel { .. } => {}
        }
        message
    }

    pub(crate) async fn until(&mut self, mut reached: impl FnMut(&Self) -> bool) {
        while !reached(self) {
            self.next().await;
        }
    }

    pub(crate) fn phase(&self, name: &str) -> Option<Phase> {
        self.statuses.get(&replica(name)).map(|status| status.phase)
    }

    pub(crate) async fn until_ready(&mut self, name: &str) {
        self.until(|control| control.phase(name) == Some(Phase::Ready)).await;
    }

    /// Takes messages until an event with that reason.
    pub(crate) async fn event(&mut self, reason: &str) -> NodeEvent {
        loop {
            if let Some(at) = self.events.iter().position(|event| event.reason == reason) {
                return self.events.remove(at);
            }
            self.next().await;
        }
    }

    /// The next batch of a query's lines; `None` and the error at its end.
    pub(crate) async fn lines(&mut self, wanted: u64) -> Result<Vec<LogLine>, Option<String>> {
        loop {
            match self.next().await {
                FromNode::Logs { id, lines } if id == wanted => return Ok(lines),
                FromNode::LogsEnd { id, error } if id == wanted => return Err(error),
                _ => {}
            }
        }
    }
}

/// What the node itself wrote into the log of `app-1-a`.
pub(crate) async fn system_lines(control: &mut Control) -> Vec<String> {
    let id = 1000;
    let query = LogQuery { replica: replica("app-1-a"), tail: None, since: None, follow: false };
    control.send(ToNode::Logs { id, query }).await;
    let mut texts = Vec::new();
    while let Ok(lines) = control.lines(id).await {
        texts.extend(lines.into_iter().filter(|line| line.stream == Stream::System).map(|line| line.text));
    }
    texts
}

/// A client with a pool of connections.
pub(crate) struct Web {
    http: HttpClient<HttpConnector, Full<Bytes>>,
    addr: SocketAddr,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    /// The code of an answer that is the gateway's own.
    pub(crate) fn code(&self) -> &str {
        self.headers.get("x-skiff-error").map_or("", |value| value.to_str().unwrap())
    }
}

impl Web {
    pub(crate) fn h1(addr: SocketAddr) -> Self {
        Self { http: HttpClient::builder(TokioExecutor::new()).build_http(), addr }
    }

    pub(crate) fn h2(addr: SocketAddr) -> Self {
        Self { http: HttpClient::builder(TokioExecutor::new()).http2_only(true).build_http(), addr }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.try_get(path).await.unwrap()
    }

    pub(crate) async fn try_get(&self, path: &str) -> Result<Answer, String> {
        self.send(Request::get(format!("http://{}{path}", self.addr))).await
    }

    pub(crate) async fn get_from(&self, host: &str, path: &str) -> Answer {
        self.send(Request::get(format!("http://{}{path}", self.addr)).header("host", host)).await.unwrap()
    }

    pub(crate) async fn send(&self, request: http::request::Builder) -> Result<Answer, String> {
        let request = request.body(Full::default()).unwrap();
        let response = self.http.request(request).await.map_err(|e| format!("{e:?}"))?;
        collect(response).await
    }
}

pub(crate) async fn collect(response: Response<hyper::body::Incoming>) -> Result<Answer, String> {
    let (head, body) = response.into_parts();
    let body = body.collect().await.map_err(|e| format!("{e:?}"))?.to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Answer { status: head.status, headers: head.headers, body })
}

/// A figure of the node.
pub(crate) fn metric(node: &NodeHandle, name: &str) -> i64 {
    let text = node.metrics();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in {text}")).parse().unwrap()
}

/// Waits until a figure has a value.
pub(crate) async fn until_metric(node: &NodeHandle, name: &str, reached: impl Fn(i64) -> bool) {
    let wait = async {
        while !reached(metric(node, name)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{name} is {}", metric(node, name)));
}

pub(crate) fn timeout(text: &str) -> skiff_api::quantity::Timeout {
    text.parse().unwrap()
}
