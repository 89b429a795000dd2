//! The other end of a link, good or bad.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use skiff_api::resource::{EngineReport, Resources};
use skiff_api::wire::{Fence, FromNode, Hello, PROTOCOL, ToNode};
use skiff_api::{NodeName, Uid};
use skiff_link::pump::{self, End, Options};
use skiff_link::tls::{self, Expect};
use skiff_link::{Clock, Identity, names};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::server::Server;

/// What waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn dial(
    server: &Server,
    identity: Option<&Identity>,
    alpn: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let clock = Clock::new(Timestamp::UNIX_EPOCH);
    let config = tls::client(&server.trust(), Expect::ControlPlane, identity, &[alpn], &clock).unwrap();
    let stream = TcpStream::connect(server.addr).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect(names::control_plane_server_name().unwrap(), stream).await
}

pub(crate) fn hello(name: &str, uid: &Uid, incarnation: &str) -> Hello {
    Hello {
        protocol: PROTOCOL,
        node: NodeName::new(name),
        uid: uid.clone(),
        incarnation: Uid::new(incarnation),
        version: "test".to_owned(),
        platform: "linux/x86_64".to_owned(),
        gateway: "127.0.0.1:1".to_owned(),
        peer: None,
        site: String::new(),
        labels: Default::default(),
        capacity: Resources::ZERO,
        engine: EngineReport::default(),
        docker: String::new(),
        fence: Fence::default(),
    }
}

/// A node that keeps to the rules and runs nothing.
pub(crate) struct Node {
    pub(crate) outbox: mpsc::Sender<FromNode>,
    pub(crate) inbox: mpsc::Receiver<ToNode>,
    pub(crate) end: JoinHandle<End>,
}

impl Node {
    pub(crate) async fn link(server: &Server, identity: &Identity, hello: Hello) -> Self {
        let stream = dial(server, Some(identity), tls::ALPN_CONTROL).await.unwrap();
        let ((outbox, sent), (came, inbox)) = (mpsc::channel(64), mpsc::channel(64));
        outbox.send(FromNode::Hello(hello)).await.unwrap();
        let end = tokio::spawn(pump::run(stream, sent, came, Options::of_node()));
        Self { outbox, inbox, end }
    }

    /// A good one, linked.
    pub(crate) async fn good(server: &Server, name: &str) -> (Self, Identity) {
        let identity = server.joined(name).await;
        let uid = identity.uid().unwrap().clone();
        let mut node = Self::link(server, &identity, hello(name, &uid, "1")).await;
        node.is_told().await;
        server.until_liveness(name, "Alive").await;
        (node, identity)
    }

    /// It gets what it should run and answer for.
    pub(crate) async fn is_told(&mut self) {
        for _ in 0..2 {
            let told = self.next().await;
            assert!(matches!(told, Some(ToNode::Routes(_) | ToNode::Desired(_))), "{told:?}");
        }
    }

    pub(crate) async fn next(&mut self) -> Option<ToNode> {
        tokio::time::timeout(PATIENCE, self.inbox.recv()).await.unwrap()
    }

    /// Why it was refused; its link has ended.
    pub(crate) async fn refused(mut self) -> String {
        let told = self.next().await;
        let Some(ToNode::Refused { why }) = told else { panic!("{told:?}") };
        assert_eq!(self.next().await, None);
        why
    }

    /// It is still linked: what it asks for is answered.
    pub(crate) async fn lives(&mut self) {
        self.outbox.send(FromNode::Resync).await.unwrap();
        self.is_told().await;
        assert!(!self.end.is_finished());
    }
}
