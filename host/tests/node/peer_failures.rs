//! Nodes that are gone, that do not answer, that are not who they say they are, and that believe of each other what is not so.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::{TokioExecutor, TokioIo};
use skiff_api::id::Uid;
use skiff_api::wire::{Base, Endpoint, Routes, ToNode};
use skiff_host::uplink::Credentials;
use skiff_link::authority::Authority;
use skiff_link::identity::Identity;
use skiff_link::names::node_server_name;
use skiff_link::tls::{self, ALPN_PEER, Expect, Trust};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::fleet::{Fleet, Member, identity};
use crate::peers::pair;
use crate::support::*;

/// A node that nobody is at.
fn nobody(address: SocketAddr) -> Endpoint {
    Endpoint { node: Uid::new("nobody"), address: address.to_string(), replicas: 1, suspect: false }
}

async fn house(fleet: &Fleet, name: &str) -> Member {
    let mut house = fleet.node(name).await;
    house.control.route([routes("app", &[(None, "/")])]).await;
    let mut template = fleet.world.template("probe");
    template.timeout.first_byte = timeout("30s");
    house.run(&format!("app-1-{name}"), template).await;
    house
}

async fn post(addr: SocketAddr, path: &str) -> Answer {
    let client = HttpClient::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let request = Request::post(format!("http://{addr}{path}")).body(Full::new(Bytes::from_static(b"abc"))).unwrap();
    collect(client.request(request).await.unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_cannot_be_reached_are_passed_over() {
    let fleet = Fleet::new().await;
    let (mut door, house) = pair(&fleet, |_| {}).await;
    // One whose port is closed, and one that takes connections and says nothing.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = Endpoint { node: Uid::new("mute"), ..nobody(silent.local_addr().unwrap()) };
    door.told(vec![nobody(closed), house.endpoint(1), mute]).await;
    let addr = door.node.gateway_addr();
    for number in 0..60 {
        let answer = if number % 2 == 0 { Web::h1(addr).get("/").await } else { post(addr, "/echo").await };
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    assert!((2..=8).contains(&door.metric("skiff_peer_ejections_total")), "{}", door.node.metrics());
    let unreachable = door.metric("skiff_peer_requests_total{outcome=\"unreachable\"}");
    assert!((2..=10).contains(&unreachable), "{unreachable}");
    // Where nobody is left, it is said so.
    door.told(vec![nobody(closed)]).await;
    let answer = Web::h1(addr).get("/").await;
    assert_eq!((answer.status.as_u16(), answer.code()), (503, "no-replica"));
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_suspect_is_asked_when_nobody_else_is_left() {
    let fleet = Fleet::new().await;
    let (mut door, house) = pair(&fleet, |_| {}).await;
    let other = self::house(&fleet, "other").await;
    let suspect = Endpoint { suspect: true, ..house.endpoint(1) };
    door.told(vec![suspect.clone(), other.endpoint(1)]).await;
    let addr = door.node.gateway_addr();
    for _ in 0..20 {
        assert_eq!(Web::h1(addr).get("/").await.status, 200);
    }
    assert_eq!(house.metric("skiff_peer_served_total"), 0);
    door.told(vec![suspect]).await;
    assert_eq!(Web::h1(addr).get("/").await.status, 200);
    assert_eq!(house.metric("skiff_peer_served_total"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_node_had_not_answered_is_asked_again_where_that_is_safe() {
    let fleet = Fleet::new().await;
    let mut door = fleet.node("door").await;
    let (one, two) = (house(&fleet, "one").await, house(&fleet, "two").await);
    door.told(vec![one.endpoint(1), two.endpoint(1)]).await;
    let addr = door.node.gateway_addr();
    let gets: Vec<_> =
        (0..40).map(|_| tokio::spawn(async move { Web::h1(addr).get("/sleep?ms=2000").await })).collect();
    let posts: Vec<_> = (0..10).map(|_| tokio::spawn(async move { post(addr, "/sleep?ms=2000").await })).collect();
    let in_flight = "skiff_gateway_requests_in_flight";
    until_metric(&one.node, in_flight, |one| one + two.metric(in_flight) == 50).await;
    let at_one = one.metric(in_flight);
    assert!((15..=35).contains(&at_one), "the load is uneven: {at_one} of 50");
    drop(one.node);
    for get in gets {
        let answer = get.await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    let mut lost = 0;
    for post in posts {
        let answer = post.await.unwrap();
        match answer.status.as_u16() {
            200 => {}
            502 => {
                assert_eq!(answer.code(), "peer-lost");
                lost += 1;
            }
            status => panic!("{status}: {}", answer.body),
        }
    }
    assert_eq!(door.metric("skiff_gateway_errors_total{code=\"peer-lost\"}"), lost);
    assert_eq!(door.metric("skiff_peer_retries_total{why=\"lost\"}") + lost, at_one);
    // It was one failure, and nobody is sent there in vain.
    for _ in 0..20 {
        assert_eq!(post(addr, "/echo").await.status, 200);
    }
}

/// A connection to a node's port for others.
async fn connect(fleet: &Fleet, to: &Member, ca: String, shown: Option<&Identity>, alpn: &[u8]) -> bool {
    let config = tls::client(&Trust::Ca(ca), Expect::Node, shown, &[alpn], &fleet.clock).unwrap();
    let stream = TcpStream::connect(to.node.peer_addr().unwrap()).await.unwrap();
    let name = node_server_name(&to.uid).unwrap();
    let Ok(stream) = TlsConnector::from(Arc::new(config)).connect(name, stream).await else { return false };
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let Ok((mut sender, connection)) = handshake else { return false };
    tokio::spawn(connection);
    let request = Request::get("http://a/").header("x-skiff-hop", "to=default/app; ms=0");
    sender
        .send_request(request.body(Full::<Bytes>::default()).unwrap())
        .await
        .is_ok_and(|answer| answer.status() == 200)
}

#[tokio::test(flavor = "multi_thread")]
async fn only_nodes_of_the_cluster_come_in() {
    let fleet = Fleet::new().await;
    let (_door, house) = pair(&fleet, |_| {}).await;
    let ours = fleet.identity(&Uid::new("friend"));
    let foreign = identity(&Authority::generate(jiff::Timestamp::now()).unwrap(), &Uid::new("friend"));
    assert!(connect(&fleet, &house, ours.ca_pem(), Some(&ours), ALPN_PEER).await);
    assert_eq!(house.metric("skiff_peer_strangers_total"), 0);
    assert!(!connect(&fleet, &house, ours.ca_pem(), None, ALPN_PEER).await);
    assert!(!connect(&fleet, &house, ours.ca_pem(), Some(&foreign), ALPN_PEER).await);
    assert!(!connect(&fleet, &house, ours.ca_pem(), Some(&ours), b"h2").await);
    until_metric(&house.node, "skiff_peer_strangers_total", |value| value == 3).await;
    assert!(connect(&fleet, &house, ours.ca_pem(), Some(&ours), ALPN_PEER).await, "the rest is left alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_another_than_was_meant_gets_nothing() {
    let fleet = Fleet::new().await;
    let (mut door, house) = pair(&fleet, |_| {}).await;
    // A node of the cluster that answers at another one's address.
    door.told(vec![Endpoint { node: Uid::new("another"), ..house.endpoint(1) }]).await;
    let addr = door.node.gateway_addr();
    let answer = Web::h1(addr).get("/").await;
    assert_eq!((answer.status.as_u16(), answer.code()), (503, "no-replica"));
    assert_eq!(house.metric("skiff_peer_served_total"), 0);
    // A node of another cluster.
    let authority = Authority::generate(jiff::Timestamp::now()).unwrap();
    let foreign = fleet.node_with("foreign", |options| {
        let shown = identity(&authority, options.uid.as_ref().unwrap());
        options.peer.as_mut().unwrap().credentials = Credentials::new(shown, fleet.clock.clone()).unwrap();
    });
    let foreign = foreign.await;
    door.told(vec![foreign.endpoint(1)]).await;
    assert_eq!(Web::h1(addr).get("/").await.code(), "no-replica");
    door.told(vec![foreign.endpoint(1), house.endpoint(1)]).await;
    assert_eq!(Web::h1(addr).get("/").await.body, "probe\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_send_each_other_in_circles_say_so_soon() {
    let fleet = Fleet::new().await;
    let (mut one, mut two) = (fleet.node("one").await, fleet.node("two").await);
    one.told(vec![two.endpoint(1)]).await;
    two.told(vec![one.endpoint(1)]).await;
    let started = Instant::now();
    let answer = Web::h1(one.node.gateway_addr()).get("/").await;
    assert_eq!((answer.status.as_u16(), answer.code()), (503, "no-replica"));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    // It was asked for twice, as its tables might have changed, and passed it on to nobody.
    assert!((1..=2).contains(&two.metric("skiff_peer_served_total")));
    assert_eq!(one.metric("skiff_peer_served_total"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_means_nothing_at_the_gateway_and_everything_at_the_port() {
    let fleet = Fleet::new().await;
    let (_door, house) = pair(&fleet, |_| {}).await;
    let ours = fleet.identity(&Uid::new("friend"));
    let config = tls::client(&Trust::Ca(ours.ca_pem()), Expect::Node, Some(&ours), &[ALPN_PEER], &fleet.clock);
    let stream = TcpStream::connect(house.node.peer_addr().unwrap()).await.unwrap();
    let name = node_server_name(&house.uid).unwrap();
    let stream = TlsConnector::from(Arc::new(config.unwrap())).connect(name, stream).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.unwrap();
    tokio::spawn(connection);
    for (hop, status, said) in [
        (None, 400, None),
        (Some("to=default"), 400, None),
        (Some("to=default/app; chain=a/b>a/b>a/b>a/b>a/b>a/b>a/b>a/b>a/b"), 400, None),
        (Some("to=default/other"), 503, Some("gone")),
        (Some("to=default/app; chain=elsewhere/x"), 403, Some("not-a-caller")),
        (Some("to=default/app; chain=default/x"), 200, None),
        (Some("to=default/app; ms=4000"), 200, None),
        (Some("to=default/app; ms=6000"), 504, None),
    ] {
        let mut request = Request::get("http://a/sleep?ms=100");
        if let Some(hop) = hop {
            request = request.header("x-skiff-hop", hop);
        }
        let answer = sender.send_request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        let verdict = answer.headers().get("x-skiff-hop").map(|value| value.to_str().unwrap());
        assert_eq!((answer.status().as_u16(), verdict), (status, said), "{hop:?}");
    }
    // The gateway takes it for nothing.
    let forged =
        Request::get(format!("http://{}/", house.node.gateway_addr())).header("x-skiff-hop", "to=default/other");
    assert_eq!(Web::h1(house.node.gateway_addr()).send(forged).await.unwrap().body, "probe\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_removed_comes_in_no_more() {
    let fleet = Fleet::new().await;
    let (door, mut house) = pair(&fleet, |_| {}).await;
    let ours = fleet.identity(&Uid::new("thief"));
    assert!(connect(&fleet, &house, ours.ca_pem(), Some(&ours), ALPN_PEER).await);
    assert_eq!(Web::h1(door.node.gateway_addr()).get("/").await.status, 200);
    let fence = house.control.next_fence();
    let removed_nodes = Some(vec![Uid::new("thief"), door.uid.clone()]);
    let upsert = vec![routes("app", &[(None, "/")])];
    let news = Routes { fence, base: Base::Whole, upsert, remove: Vec::new(), removed_nodes };
    house.control.send(ToNode::Routes(news)).await;
    house.settle().await;
    assert!(!connect(&fleet, &house, ours.ca_pem(), Some(&ours), ALPN_PEER).await);
    // Also where a connection was there before.
    let refused = Web::h1(door.node.gateway_addr()).get("/").await;
    assert_eq!((refused.status.as_u16(), refused.code()), (403, "node-removed"));
    // What was told last counts also without a control plane.
    house.node.shutdown().await;
    let house = fleet.node("house").await;
    let friend = fleet.identity(&Uid::new("friend"));
    assert!(!connect(&fleet, &house, ours.ca_pem(), Some(&ours), ALPN_PEER).await);
    assert!(connect(&fleet, &house, friend.ca_pem(), Some(&friend), ALPN_PEER).await);
}
