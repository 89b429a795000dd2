//! Stopping a node that is busy.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_ends_and_then_nobody_listens() {
    let world = World::new().await;
    let (node, _control) = world.serving("probe", |_| {}).await;
    let addr = node.gateway_addr();
    let done = Arc::new(AtomicUsize::new(0));
    let requests: Vec<_> = (0..10)
        .map(|number| {
            let web = if number % 2 == 0 { Web::h1(addr) } else { Web::h2(addr) };
            let done = done.clone();
            tokio::spawn(async move {
                let answer = web.get("/sleep?ms=1000").await;
                done.fetch_add(1, Ordering::SeqCst);
                answer.status
            })
        })
        .collect();
    until_metric(&node, "skiff_gateway_requests_in_flight", |value| value == 10).await;
    // An idle connection must not hold up the end.
    let idle = TcpStream::connect(addr).await.unwrap();
    tokio::time::timeout(Duration::from_secs(15), node.shutdown()).await.expect("it does not stop");
    for request in requests {
        assert_eq!(request.await.unwrap(), 200);
    }
    assert_eq!(done.load(Ordering::SeqCst), 10);
    assert!(TcpStream::connect(addr).await.is_err());
    drop(idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_in_the_queue_is_still_served() {
    let world = World::new().await;
    let (node, _control) = world.serving("hello", |_| {}).await;
    let addr = node.gateway_addr();
    // Connections and requests that nobody has accepted when the stop begins: the threads cannot be faster than all.
    let mut streams = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        streams.push(stream);
    }
    node.shutdown().await;
    for mut stream in streams {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_never_ends_is_cut_off_at_the_deadline() {
    let world = World::new().await;
    let options = skiff_host::NodeOptions { drain: Duration::from_secs(1), ..world.options() };
    let node = skiff_host::Node::start(options).await.unwrap();
    let mut control = Control::of(&node).await;
    control.route([routes("app", &[(None, "/")])]).await;
    let mut template = world.template("probe");
    template.timeout.first_byte = timeout("none");
    control.desire([assignment("app", "app-1-a", template)]).await;
    control.until_ready("app-1-a").await;
    let web = Web::h1(node.gateway_addr());
    let request = tokio::spawn(async move { web.try_get("/sleep?ms=600000").await.is_err() });
    until_metric(&node, "skiff_gateway_requests_in_flight", |value| value == 1).await;
    tokio::time::timeout(Duration::from_secs(15), node.shutdown()).await.expect("it does not stop");
    assert!(request.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_removed_waits_for_no_answer_for_ever() {
    let world = World::new().await;
    let options = skiff_host::NodeOptions { drain: Duration::from_secs(1), ..world.options() };
    let node = skiff_host::Node::start(options).await.unwrap();
    let mut control = Control::of(&node).await;
    control.route([routes("app", &[(None, "/")])]).await;
    let mut template = world.template("probe");
    template.timeout.first_byte = timeout("none");
    template.timeout.idle = timeout("none");
    control.desire([assignment("app", "app-1-a", template)]).await;
    control.until_ready("app-1-a").await;
    let addr = node.gateway_addr();
    // One that waits for its head, one whose body goes on, one whose client does not read.
    let waits = tokio::spawn(async move { Web::h1(addr).get("/sleep?ms=600000").await });
    let mut streams = Vec::new();
    for request in [
        "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc",
        "GET /bytes?n=100000000 HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        streams.push(stream);
    }
    until_metric(&node, "skiff_gateway_requests_in_flight", |value| value == 3).await;
    control.change(Vec::new(), vec![replica("app-1-a")]).await;
    let gone = control.until(|control| control.phase("app-1-a").is_none());
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("it waits for its last answer");
    let answer = waits.await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.code()), (503, "replica-stopped"), "{}", answer.body);
    assert_eq!(metric(&node, "skiff_gateway_requests_in_flight"), 0);
    for mut stream in streams {
        let mut rest = Vec::new();
        // It ends, with a reset or without.
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the connection stays open");
        assert!(rest.starts_with(b"HTTP/1.1 200") && !rest.ends_with(b"0\r\n\r\n"));
    }
}
