//! Requests that another node answers.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use skiff_api::resource::Template;
use skiff_host::gateway::AccessLogTo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fleet::{Fleet, Member};
use crate::support::*;

/// A gateway without replicas, and a node with one.
pub(crate) async fn pair(fleet: &Fleet, change: impl FnOnce(&mut Template)) -> (Member, Member) {
    let (mut door, mut house) = (fleet.node("door").await, fleet.node("house").await);
    let mut template = fleet.world.template("probe");
    change(&mut template);
    house.control.route([routes("app", &[(None, "/")])]).await;
    house.run("app-1-a", template).await;
    door.told(vec![house.endpoint(1)]).await;
    (door, house)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_answered_where_the_replica_is() {
    let fleet = Fleet::new().await;
    let (door, house) = pair(&fleet, |_| {}).await;
    let addr = door.node.gateway_addr();
    for web in [Web::h1(addr), Web::h2(addr)] {
        assert_eq!(web.get("/").await.body, "probe\n");
        let answer = web.get("/status?code=418").await;
        assert_eq!((answer.status.as_u16(), answer.code()), (418, ""));
        // What the guest sees is what the client asked for, and whom the gateway saw.
        assert_eq!(web.get("/target?a=b%20c").await.body, format!("http {addr} /target?a=b%20c\n"));
        let forged = Request::get(format!("http://{addr}/headers"))
            .header("x-skiff-hop", "to=default/other; chain=default/admin")
            .header("x-forwarded-for", "192.0.2.9");
        let seen = web.send(forged).await.unwrap().body;
        assert!(seen.contains("x-forwarded-for: 192.0.2.9, 127.0.0.1\n"), "{seen}");
        assert!(!seen.contains("x-skiff-hop"), "{seen}");
        // Trailers, as gRPC has them; streams as long as anybody's memory.
        assert_eq!(web.get("/bytes?n=5000000").await.body.len(), 5_000_000);
        assert_eq!(web.get("/events?n=3").await.body, "data: 1\n\ndata: 2\n\ndata: 3\n\n");
    }
    assert_eq!(Web::h1(addr).get_from("shop.example", "/target").await.body, "http shop.example /target\n");
    assert!(door.metric("skiff_peer_requests_total{outcome=\"answered\"}") >= 12);
    assert_eq!(door.metric("skiff_peer_requests_total{outcome=\"lost\"}"), 0);
    assert_eq!(house.metric("skiff_peer_served_total"), door.metric("skiff_peer_requests_total{outcome=\"answered\"}"));
    until_metric(&house.node, "skiff_gateway_requests_in_flight", |value| value == 0).await;
    until_metric(&door.node, "skiff_gateway_requests_in_flight", |value| value == 0).await;
    // Connections are kept and shared.
    let connections = door.metric("skiff_peer_connections");
    assert!((1..=8).contains(&connections), "{connections}");
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_and_errors_are_what_they_are_at_home() {
    let fleet = Fleet::new().await;
    let (door, house) = pair(&fleet, |template| template.timeout.first_byte = timeout("500ms")).await;
    let (far, near) = (Web::h1(door.node.gateway_addr()), Web::h1(house.node.gateway_addr()));
    for (path, status, code) in [
        ("/panic", 500, "guest-trap"),
        ("/no-response", 502, "guest-no-response"),
        ("/trap-after-part", 500, "guest-trap"),
        ("/sleep?ms=60000", 504, "first-byte-timeout"),
        ("/a/../b", 400, "bad-path"),
    ] {
        let answers = [far.get(path).await, near.get(path).await];
        for answer in &answers {
            assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{path}: {}", answer.body);
        }
        assert_eq!(answers[0].headers.get("content-type"), answers[1].headers.get("content-type"));
    }
    let head = |web: &Web, addr| {
        let request = Request::builder().method(Method::HEAD).uri(format!("http://{addr}/bytes?n=10"));
        let _ = web;
        request
    };
    for (web, addr) in [(&far, door.node.gateway_addr()), (&near, house.node.gateway_addr())] {
        let answer = web.send(head(web, addr)).await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, ""));
    }
    // Who has no route is told so here.
    assert_eq!(door.metric("skiff_gateway_errors_total{code=\"bad-path\"}"), 1);
    let dropped = far.get("/").await;
    assert_eq!(dropped.body, "probe\n");
    drop(house);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_and_trailers_go_both_ways() {
    let fleet = Fleet::new().await;
    let (door, house) = pair(&fleet, |_| {}).await;
    let addr = door.node.gateway_addr();
    let uri = |path: &str| format!("http://{addr}{path}");
    let long = Bytes::from(vec![b'y'; 3_000_000]);
    for is_h2 in [false, true] {
        let client = HttpClient::builder(TokioExecutor::new()).http2_only(is_h2).build_http::<Full<Bytes>>();
        let request = Request::post(uri("/echo")).body(Full::new(long.clone())).unwrap();
        let echoed = client.request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
        assert!(echoed == long, "{} bytes came back", echoed.len());
    }
    let pieces: Vec<Result<http_body::Frame<Bytes>, std::convert::Infallible>> = vec![
        Ok(http_body::Frame::data(Bytes::from_static(b"hello"))),
        Ok(http_body::Frame::trailers([("x-sum".parse().unwrap(), "5".parse().unwrap())].into_iter().collect())),
    ];
    let body = StreamBody::new(tokio_stream::iter(pieces));
    let client = HttpClient::builder(TokioExecutor::new()).http2_only(true).build_http();
    let request = Request::post(uri("/request-trailers")).header("te", "trailers").body(body).unwrap();
    let answer = client.request(request).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(answer.to_bytes(), "hello\nx-sum: 5\n");
    let client = HttpClient::builder(TokioExecutor::new()).http2_only(true).build_http::<Full<Bytes>>();
    let request = Request::get(uri("/trailers")).header("te", "trailers").body(Full::default()).unwrap();
    let answer = client.request(request).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(answer.trailers().unwrap()["x-after"], "the body");

    // A client that waits to be told to go on is.
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head =
        "POST /echo HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\nconnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut said = vec![0; 1024];
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut said)).await.unwrap().unwrap();
    said.truncate(read);
    assert!(said.starts_with(b"HTTP/1.1 100 "), "{:?}", String::from_utf8_lossy(&said));
    stream.write_all(b"abc").await.unwrap();
    stream.read_to_end(&mut said).await.unwrap();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("HTTP/1.1 200") && said.contains("abc"), "{said}");
    drop(house);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_here_is_answered_here_until_it_is_full() {
    let fleet = Fleet::new().await;
    let (mut door, house) = pair(&fleet, |_| {}).await;
    let mut narrow = fleet.world.template("probe");
    narrow.in_flight = 1;
    door.run("app-1-b", narrow).await;
    door.settle().await;
    let addr = door.node.gateway_addr();
    for _ in 0..10 {
        assert_eq!(Web::h1(addr).get("/").await.body, "probe\n");
    }
    assert_eq!(house.metric("skiff_peer_served_total"), 0);
    // One at work and one that waits: there is no room for a third.
    let slow: Vec<_> =
        (0..2).map(|_| tokio::spawn(async move { Web::h1(addr).get("/sleep?ms=1500").await.status })).collect();
    until_metric(&door.node, "skiff_gateway_requests_queued", |value| value == 1).await;
    assert_eq!(Web::h1(addr).get("/").await.body, "probe\n");
    assert_eq!(house.metric("skiff_peer_served_total"), 1);
    for slow in slow {
        assert_eq!(slow.await.unwrap(), StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_stops_the_guest_there() {
    let fleet = Fleet::new().await;
    let (door, house) = pair(&fleet, |template| template.timeout.first_byte = timeout("none")).await;
    let addr = door.node.gateway_addr();
    let in_flight = "skiff_gateway_requests_in_flight";
    // Before the head, amid the body of the answer, and amid that of the request.
    for request in [
        "GET /sleep?ms=600000 HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /bytes?n=1000000000 HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nabc",
    ] {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        until_metric(&house.node, in_flight, |value| value == 1).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(stream);
        until_metric(&house.node, in_flight, |value| value == 0).await;
    }
    assert_eq!(Web::h1(addr).get("/").await.body, "probe\n");
    // It was no failure of the node's.
    assert_eq!(door.metric("skiff_peer_ejections_total"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_keep_nobody_waiting() {
    let fleet = Fleet::new().await;
    let (door, house) = pair(&fleet, |template| template.in_flight = 200).await;
    let addr = door.node.gateway_addr();
    let mut stalled = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(b"GET /bytes?n=100000000 HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        stalled.push(stream);
    }
    until_metric(&house.node, "skiff_gateway_requests_in_flight", |value| value == 100).await;
    // Whatever fits into buffers has come by then.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..20 {
        let answer = tokio::time::timeout(Duration::from_secs(20), Web::h1(addr).get("/bytes?n=300000")).await;
        assert_eq!(answer.expect("it waits for those that do not read").body.len(), 300_000);
    }
    drop(stalled);
    until_metric(&house.node, "skiff_gateway_requests_in_flight", |value| value == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_access_log_says_where_a_request_went_and_where_it_came_from() {
    let fleet = Fleet::new().await;
    let path = |name: &str| fleet.world.dir.path().join(format!("{name}.log"));
    let logging = |name: &'static str| {
        let to = AccessLogTo::File(path(name));
        fleet.node_with(name, |options| options.gateway.access_log = Some(to))
    };
    let (mut door, mut house) = (logging("door").await, logging("house").await);
    house.control.route([routes("app", &[(None, "/")])]).await;
    house.run("app-1-a", fleet.world.template("probe")).await;
    door.told(vec![house.endpoint(1)]).await;
    let web = Web::h1(door.node.gateway_addr());
    assert_eq!(web.get("/").await.status, 200);
    assert_eq!(web.get("/panic").await.status, 500);
    let uids = [door.uid.to_string(), house.uid.to_string()];
    door.node.shutdown().await;
    house.node.shutdown().await;
    let lines = |name: &str| -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    for (line, (status, error)) in lines("door").iter().zip([(200, None), (500, Some("guest-trap"))]) {
        assert_eq!((line["status"].as_u64(), line["error"].as_str()), (Some(status), error), "{line}");
        assert_eq!((line["node"].as_str(), line["service"].as_str()), (Some(uids[1].as_str()), Some("app")), "{line}");
        assert!(line.get("replica").is_none() && line.get("from").is_none(), "{line}");
    }
    let far = lines("house");
    assert_eq!(far.len(), 2);
    for line in far {
        assert_eq!(
            (line["from"].as_str(), line["replica"].as_str()),
            (Some(uids[0].as_str()), Some("app-1-a")),
            "{line}"
        );
        assert!(line.get("node").is_none(), "{line}");
    }
}
