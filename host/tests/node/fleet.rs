//! Several nodes with one authority, each with a control plane that is only messages.

use std::sync::Arc;

use skiff_api::id::Uid;
use skiff_api::resource::Template;
use skiff_api::wire::{Endpoint, ServiceRoutes};
use skiff_host::gateway::PeerOptions;
use skiff_host::uplink::Credentials;
use skiff_host::{Node, NodeHandle, NodeOptions};
use skiff_link::authority::Authority;
use skiff_link::clock::Clock;
use skiff_link::identity::{Identity, Key};

use crate::support::*;

pub(crate) struct Fleet {
    pub(crate) world: World,
    authority: Authority,
    pub(crate) clock: Arc<Clock>,
}

/// A node of it.
pub(crate) struct Member {
    pub(crate) node: NodeHandle,
    pub(crate) control: Control,
    pub(crate) uid: Uid,
}

impl Fleet {
    pub(crate) async fn new() -> Self {
        let now = jiff::Timestamp::now();
        Self { world: World::new().await, authority: Authority::generate(now).unwrap(), clock: Clock::new(now) }
    }

    /// A certificate of the cluster's.
    pub(crate) fn identity(&self, uid: &Uid) -> Identity {
        identity(&self.authority, uid)
    }

    pub(crate) async fn node(&self, name: &str) -> Member {
        self.node_with(name, |_| {}).await
    }

    pub(crate) async fn node_with(&self, name: &str, change: impl FnOnce(&mut NodeOptions)) -> Member {
        let options = self.options(name, change);
        let uid = options.uid.clone().unwrap();
        let node = Node::start(options).await.unwrap();
        let control = Control::of(&node).await;
        assert_eq!(control.hello.peer, node.peer_addr().map(|addr| addr.to_string()));
        Member { node, control, uid }
    }

    pub(crate) fn options(&self, name: &str, change: impl FnOnce(&mut NodeOptions)) -> NodeOptions {
        let mut options = self.world.options_of(name, &self.world.dir.path().join(name));
        let uid = Uid::new(format!("uid-{name}"));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let credentials = Credentials::new(self.identity(&uid), self.clock.clone()).unwrap();
        options.peer = Some(PeerOptions { listener, advertise: None, credentials });
        options.uid = Some(uid);
        change(&mut options);
        options
    }
}

/// A certificate of some authority's.
pub(crate) fn identity(authority: &Authority, uid: &Uid) -> Identity {
    let key = Key::generate().unwrap();
    let chain = authority.issue_node(&key.csr().unwrap(), uid, jiff::Timestamp::now()).unwrap();
    Identity::new(&key, &chain, &authority.ca_pem()).unwrap()
}

impl Member {
    /// How the others are told of it.
    pub(crate) fn endpoint(&self, replicas: u32) -> Endpoint {
        let address = self.node.peer_addr().unwrap().to_string();
        Endpoint { node: self.uid.clone(), address, replicas, suspect: false }
    }

    /// Runs one replica, `SERVICE-1-NAME` of `app`, of an image.
    pub(crate) async fn run(&mut self, replica: &str, template: Template) {
        self.control.desire([assignment("app", replica, template)]).await;
        self.control.until_ready(replica).await;
    }

    /// Tells it where `app` is, on every host and path, and waits until it knows.
    pub(crate) async fn told(&mut self, endpoints: Vec<Endpoint>) {
        self.tell([ServiceRoutes { endpoints, ..routes("app", &[(None, "/")]) }]).await;
    }

    /// Tells it the whole routes, and waits until it knows.
    pub(crate) async fn tell(&mut self, routes: impl IntoIterator<Item = ServiceRoutes>) {
        self.control.route(routes).await;
        self.settle().await;
    }

    /// Waits until everything that was sent is in the gateway's table: nothing is reported before.
    pub(crate) async fn settle(&mut self) {
        let image = format!("default/nothing@sha256:{}", "0".repeat(64));
        let template = skiff_api::resource::ServiceSpec::new(image.parse().unwrap()).template();
        self.control.change(vec![assignment("nothing", "nothing-1-a", template)], Vec::new()).await;
        self.control.until(|control| control.phase("nothing-1-a").is_some()).await;
        self.control.change(Vec::new(), vec![replica("nothing-1-a")]).await;
        self.control.until(|control| control.phase("nothing-1-a").is_none()).await;
    }

    pub(crate) fn metric(&self, name: &str) -> i64 {
        metric(&self.node, name)
    }
}
