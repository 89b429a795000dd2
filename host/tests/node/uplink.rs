//! A node and a control plane on two ends of TLS connections: the control plane is certificates, a port and messages.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use rustls::ServerConfig;
use skiff_api::id::{NodeName, Uid};
use skiff_api::resource::Phase;
use skiff_api::wire::join::{RenewAnswer, RenewRequest};
use skiff_api::wire::{FromNode, LogQuery, ToNode};
use skiff_api::{Code, Problem};
use skiff_disk::Disk;
use skiff_host::link::Peer;
use skiff_host::uplink::{Credentials, Member, Membership, Removed, Uplink};
use skiff_host::{Node, NodeHandle, NodeOptions};
use skiff_link::pump::{self, Options};
use skiff_link::tls::{self, Clients};
use skiff_link::{Authority, Clock, Identity, Key};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::support::*;

const UID: &str = "0123456789abcdef0123456789abcdef";

struct ControlPlane {
    listener: TcpListener,
    authority: Authority,
    config: Arc<ServerConfig>,
}

impl ControlPlane {
    async fn new() -> Self {
        let now = Timestamp::now();
        // Older than any certificate that it issues here.
        let authority = Authority::generate(now - SignedDuration::from_hours(24 * 200)).unwrap();
        let identity = authority.issue_server(&Key::generate().unwrap(), &["localhost".to_owned()], now).unwrap();
        let alpn = [tls::ALPN_CONTROL, tls::ALPN_BULK, tls::ALPN_H1];
        let config = tls::server(&identity, Clients::Optional, &alpn, &Clock::new(now)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener, authority, config: Arc::new(config) }
    }

    fn member(&self) -> Member {
        self.member_since(0)
    }

    /// One whose certificate was issued so many days ago.
    fn member_since(&self, days: i64) -> Member {
        let key = Key::generate().unwrap();
        let issued = Timestamp::now() - SignedDuration::from_hours(24 * days);
        let chain = self.authority.issue_node(&key.csr().unwrap(), &Uid::new(UID), issued).unwrap();
        let addr: SocketAddr = self.listener.local_addr().unwrap();
        Member {
            server: format!("https://{addr}").parse().unwrap(),
            name: NodeName::new("n1"),
            labels: BTreeMap::new(),
            identity: Identity::new(&key, &chain, &self.authority.ca_pem()).unwrap(),
            removed: false,
        }
    }

    /// The next connection, which must be of this kind.
    async fn accept(&self, alpn: &[u8]) -> TlsStream<TcpStream> {
        let accepted = tokio::time::timeout(PATIENCE, async {
            loop {
                let stream = self.listener.accept().await.unwrap().0;
                if let Ok(stream) = TlsAcceptor::from(Arc::clone(&self.config)).accept(stream).await {
                    return stream;
                }
            }
        });
        let stream = accepted.await.unwrap_or_else(|_| panic!("the node does not dial"));
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn));
        assert_eq!(skiff_link::Peer::of(stream.get_ref().1).unwrap().uid.as_str(), UID);
        stream
    }

    /// The other end of a control and a bulk connection, as one link; it ends with what is returned beside it.
    async fn link(&self) -> (Control, JoinHandle<()>) {
        let control = self.accept(tls::ALPN_CONTROL).await;
        let bulk = self.accept(tls::ALPN_BULK).await;
        let ((to_node, outbox), (inbox, from_node)) = (mpsc::channel(16), mpsc::channel(16));
        let (into_bulk, from_bulk) = mpsc::channel(16);
        let (quiet, nothing) = mpsc::channel::<ToNode>(1);
        let pumps = tokio::spawn(async move {
            let _quiet = quiet;
            tokio::select! {
                end = pump::run(control, outbox, inbox, Options::of_control_plane()) => drop(end),
                end = pump::run(bulk, nothing, into_bulk, Options::of_control_plane()) => drop(end),
            }
        });
        (Control::at(Peer { to_node, from_node, bulk: from_bulk }).await, pumps)
    }
}

/// Answers whatever a node asks, until it is aborted: links of good certificates are kept, and told of; renewals are given,
/// or refused for good.
async fn answer(
    control_plane: Arc<ControlPlane>,
    is_removed: bool,
    links: mpsc::UnboundedSender<(skiff_link::Peer, JoinHandle<()>)>,
) {
    loop {
        let stream = control_plane.listener.accept().await.unwrap().0;
        let Ok(stream) = TlsAcceptor::from(Arc::clone(&control_plane.config)).accept(stream).await else { continue };
        let connection = stream.get_ref().1;
        let (peer, alpn) = (skiff_link::Peer::of(connection).unwrap(), connection.alpn_protocol().unwrap().to_vec());
        if alpn == tls::ALPN_H1 {
            let control_plane = Arc::clone(&control_plane);
            let service = service_fn(move |request| renewed(Arc::clone(&control_plane), is_removed, request));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        } else if !is_removed && !peer.is_expired(Timestamp::now()) {
            let pump = tokio::spawn(async move {
                let ((_quiet, nothing), (inbox, mut came)) = (mpsc::channel::<ToNode>(1), mpsc::channel::<FromNode>(1));
                tokio::select! {
                    end = pump::run(stream, nothing, inbox, Options::of_control_plane()) => drop(end),
                    () = async { while came.recv().await.is_some() {} } => {}
                }
            });
            if alpn == tls::ALPN_CONTROL {
                links.send((peer, pump)).unwrap();
            }
        }
    }
}

async fn renewed(
    control_plane: Arc<ControlPlane>,
    is_removed: bool,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    assert_eq!(request.uri().path(), "/v1/renew");
    let body = request.into_body().collect().await?.to_bytes();
    let (status, text) = if is_removed {
        (401, serde_json::to_vec(&Problem::new(Code::NodeRevoked, "it was removed")).unwrap())
    } else {
        let RenewRequest { csr } = serde_json::from_slice(&body).unwrap();
        let time = Timestamp::now();
        let chain = control_plane.authority.issue_node(&csr, &Uid::new(UID), time).unwrap();
        (200, serde_json::to_vec(&RenewAnswer { chain, ca: control_plane.authority.ca_pem(), time }).unwrap())
    };
    Ok(Response::builder().status(status).body(Full::from(text)).unwrap())
}

/// Uplink of that member, for a node that does nothing else.
async fn uplink(world: &World, member: Member) -> (Membership, JoinHandle<Removed>) {
    let node = Arc::new(world.node().await);
    let membership = Membership::open(Disk::real(), world.data()).unwrap();
    membership.write(&member).unwrap();
    let credentials = Credentials::new(member.identity.clone(), Clock::new(Timestamp::UNIX_EPOCH)).unwrap();
    let uplink = Uplink::new(member, membership.clone(), credentials).unwrap();
    (membership, tokio::spawn(uplink.run(node)))
}

/// A node with an uplink to that control plane, which ends with the handle.
async fn node(world: &World, control_plane: &ControlPlane) -> (Arc<NodeHandle>, JoinHandle<()>) {
    let member = control_plane.member();
    let options = NodeOptions { uid: member.identity.uid().cloned(), ..world.options() };
    let node = Arc::new(Node::start(options).await.unwrap());
    let membership = Membership::open(Disk::real(), world.data()).unwrap();
    let credentials = Credentials::new(member.identity.clone(), Clock::new(Timestamp::UNIX_EPOCH)).unwrap();
    let uplink = Uplink::new(member, membership, credentials).unwrap();
    let of_link = Arc::clone(&node);
    let task = tokio::spawn(async move { _ = uplink.run(of_link).await });
    (node, task)
}

fn query(follow: bool) -> LogQuery {
    LogQuery { replica: replica("app-1-a"), tail: None, since: None, follow }
}

async fn serve(world: &World, control: &mut Control, image: &str) {
    control.route([routes("app", &[(None, "/")])]).await;
    control.desire([assignment("app", "app-1-a", world.template(image))]).await;
    control.until_ready("app-1-a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_dials_twice_and_says_lines_on_the_second_connection() {
    let (world, control_plane) = (World::new().await, ControlPlane::new().await);
    let (node, uplink) = node(&world, &control_plane).await;
    let (mut control, _pumps) = control_plane.link().await;
    assert_eq!(control.hello.uid.as_str(), UID, "the id is the cluster's");
    serve(&world, &mut control, "probe").await;
    Web::h1(node.gateway_addr()).get("/log?lines=300").await;
    control.send(ToNode::Logs { id: 1, query: query(false) }).await;
    let mut lines = 0;
    loop {
        let message = tokio::time::timeout(PATIENCE, control.peer.bulk.recv()).await.unwrap().unwrap();
        match message {
            FromNode::Logs { id: 1, lines: some } => lines += some.len(),
            FromNode::LogsEnd { id: 1, error: None } => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(lines, 600);
    uplink.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_lines_and_control_goes_on() {
    let (world, control_plane) = (World::new().await, ControlPlane::new().await);
    let (node, uplink) = node(&world, &control_plane).await;
    let control = control_plane.accept(tls::ALPN_CONTROL).await;
    let _unread = control_plane.accept(tls::ALPN_BULK).await;
    let ((to_node, outbox), (inbox, from_node)) = (mpsc::channel(16), mpsc::channel(16));
    let (_into_bulk, bulk) = mpsc::channel(1);
    tokio::spawn(pump::run(control, outbox, inbox, Options::of_control_plane()));
    let mut control = Control::at(Peer { to_node, from_node, bulk }).await;
    serve(&world, &mut control, "probe").await;
    let web = Web::h1(node.gateway_addr());
    for id in 0..20 {
        assert_eq!(web.get("/log?lines=20000").await.status, 200);
        control.send(ToNode::Logs { id, query: query(true) }).await;
    }
    let began = tokio::time::Instant::now();
    control.change(vec![assignment("app", "app-1-b", world.template("probe"))], Vec::new()).await;
    control.until_ready("app-1-b").await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    uplink.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_is_lost_is_made_again_and_nothing_is_restarted() {
    let (world, control_plane) = (World::new().await, ControlPlane::new().await);
    let (node, uplink) = node(&world, &control_plane).await;
    let (mut control, pumps) = control_plane.link().await;
    serve(&world, &mut control, "hello").await;
    control.event("Started").await;
    let incarnation = control.hello.incarnation.clone();
    pumps.abort();
    drop(control);
    let (mut control, _pumps) = control_plane.link().await;
    assert_eq!(control.hello.incarnation, incarnation);
    assert_eq!(control.phase("app-1-a"), Some(Phase::Ready), "the first report is whole");
    assert_eq!(Web::h1(node.gateway_addr()).get("/").await.body, "Hello from Skiff!\n");
    // Whatever is ready later comes after all that was to be said of the other.
    control.change(vec![assignment("app", "app-1-b", world.template("hello"))], Vec::new()).await;
    let started = control.event("Started").await;
    assert_eq!(started.replica, replica("app-1-b"));
    uplink.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_in_time_and_also_when_it_is_too_late() {
    let world = World::new().await;
    // Of its hundred days, most are over; all are over.
    for days in [80, 101] {
        let control_plane = Arc::new(ControlPlane::new().await);
        let (links, mut linked) = mpsc::unbounded_channel();
        let answers = tokio::spawn(answer(Arc::clone(&control_plane), false, links));
        let member = control_plane.member_since(days);
        let until = member.identity.not_after();
        let (membership, uplink) = uplink(&world, member).await;
        let shown = async {
            loop {
                let (peer, pump) = linked.recv().await.unwrap();
                if peer.not_after > until {
                    return;
                }
                // It must dial again to show another.
                pump.abort();
            }
        };
        tokio::time::timeout(PATIENCE, shown).await.unwrap_or_else(|_| panic!("{days}: the old one is shown"));
        assert!(membership.read().unwrap().unwrap().identity.not_after() > until, "{days}: it is on the disk");
        uplink.abort();
        let _ = uplink.await;
        answers.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_removed_learns_of_it_and_notes_it() {
    let (world, control_plane) = (World::new().await, Arc::new(ControlPlane::new().await));
    let (links, _linked) = mpsc::unbounded_channel();
    let answers = tokio::spawn(answer(Arc::clone(&control_plane), true, links));
    let (membership, uplink) = uplink(&world, control_plane.member()).await;
    let ended = tokio::time::timeout(PATIENCE, uplink).await;
    assert_eq!(ended.unwrap_or_else(|_| panic!("it dials on")).unwrap(), Removed);
    assert!(membership.read().unwrap().unwrap().removed);
    answers.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_control_plane_is_told_nothing() {
    let (world, control_plane, foreign) = (World::new().await, ControlPlane::new().await, ControlPlane::new().await);
    let member = Member { server: foreign.member().server, ..control_plane.member() };
    let (_membership, task) = uplink(&world, member).await;
    for _ in 0..2 {
        let stream = tokio::time::timeout(PATIENCE, foreign.listener.accept()).await.unwrap().unwrap().0;
        let agreed = TlsAcceptor::from(Arc::clone(&foreign.config)).accept(stream).await;
        assert!(agreed.is_err(), "it has another CA");
    }
    task.abort();
}
