//! Queues and time limits.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_replica_queues_as_many_and_refuses_the_rest() {
    let world = World::new().await;
    let (node, mut control) = world.serving("probe", |template| template.in_flight = 2).await;
    let addr = node.gateway_addr();
    let requests: Vec<_> =
        (0..4).map(|_| tokio::spawn(async move { Web::h1(addr).get("/sleep?ms=1500").await.status })).collect();
    until_metric(&node, "skiff_gateway_requests_queued", |value| value == 2).await;
    let refused = Web::h1(addr).get("/").await;
    assert_eq!((refused.status.as_u16(), refused.code()), (503, "queue-full"), "{}", refused.body);
    assert_eq!(refused.headers["retry-after"], "1");
    assert!(control.event("Overloaded").await.message.contains("http.inFlight"));
    for request in requests {
        assert_eq!(request.await.unwrap(), 200);
    }
    assert_eq!(metric(&node, "skiff_gateway_requests_in_flight"), 0);
    assert_eq!(metric(&node, "skiff_gateway_errors_total{code=\"queue-full\"}"), 1);
    assert_eq!(Web::h1(addr).get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_in_the_queue_has_an_end() {
    let world = World::new().await;
    let (node, _control) = world
        .serving("probe", |template| {
            template.in_flight = 1;
            template.timeout.first_byte = timeout("500ms");
        })
        .await;
    let addr = node.gateway_addr();
    // It answers at once, and then takes its time.
    let first = tokio::spawn(async move { Web::h1(addr).try_get("/bytes?n=4000000000").await.is_ok() });
    until_metric(&node, "skiff_gateway_requests_in_flight", |value| value == 1).await;
    let waited = Web::h1(addr).get("/").await;
    assert_eq!((waited.status.as_u16(), waited.code()), (503, "queue-timeout"), "{}", waited.body);
    first.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_time_limit_has_its_own_end() {
    let world = World::new().await;
    let (node, mut control) = world.serving("probe", |template| template.timeout.first_byte = timeout("300ms")).await;
    let addr = node.gateway_addr();
    let web = Web::h1(addr);
    for path in ["/sleep?ms=20000", "/spin"] {
        let started = Instant::now();
        let late = web.get(path).await;
        assert_eq!((late.status.as_u16(), late.code()), (504, "first-byte-timeout"), "{path}: {}", late.body);
        assert!(started.elapsed() < Duration::from_secs(5), "{path}: {:?}", started.elapsed());
    }
    assert!(control.event("TimedOut").await.message.contains("http.timeout.firstByte"));
    assert_eq!(web.get("/sleep?ms=10").await.status, 200);
    assert_eq!(metric(&node, "skiff_gateway_requests_in_flight"), 0);

    let mut template = world.template("probe");
    template.timeout.total = timeout("300ms");
    control.change(vec![assignment("app", "app-2-a", template)], vec![replica("app-1-a")]).await;
    control.until_ready("app-2-a").await;
    control.until(|control| control.phase("app-1-a").is_none()).await;
    let late = web.get("/sleep?ms=20000").await;
    assert_eq!((late.status.as_u16(), late.code()), (504, "total-timeout"), "{}", late.body);
    // Its head was in time, its body is not: that is no whole answer.
    assert!(web.try_get("/bytes?n=40000000000").await.is_err());
    assert_eq!(metric(&node, "skiff_gateway_bodies_cut_off_total"), 1);
    assert_eq!(web.get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_goes_silent_is_cut_off() {
    let world = World::new().await;
    let (node, _control) = world.serving("probe", |template| template.timeout.idle = timeout("300ms")).await;
    let mut stream = TcpStream::connect(node.gateway_addr()).await.unwrap();
    // The guest sends back what comes, and nothing more comes.
    stream.write_all(b"POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc").await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection stays open");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("abc"), "{answer}");
    assert!(!answer.ends_with("0\r\n\r\n"), "a part of an answer passes as a whole one: {answer}");
    assert_eq!(metric(&node, "skiff_gateway_bodies_cut_off_total"), 1);
    assert_eq!(Web::h1(node.gateway_addr()).get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_replica_refuses_nobody_while_another_has_room() {
    let world = World::new().await;
    let node = world.node().await;
    let mut control = Control::of(&node).await;
    let mut template = world.template("probe");
    template.in_flight = 1;
    template.timeout.first_byte = timeout("60s");
    control.route([routes("app", &[(None, "/")])]).await;
    let names = ["app-1-a", "app-1-b", "app-1-c", "app-1-d"];
    control.desire(names.map(|name| assignment("app", name, template.clone()))).await;
    for name in names {
        control.until_ready(name).await;
    }
    let addr = node.gateway_addr();
    let mut requests = Vec::new();
    for number in 1..=8 {
        requests.push(tokio::spawn(async move { Web::h1(addr).get("/sleep?ms=3000").await }));
        until_metric(&node, "skiff_gateway_requests_in_flight", |value| value == number).await;
    }
    let refused = Web::h1(addr).get("/").await;
    assert_eq!((refused.status.as_u16(), refused.code()), (503, "queue-full"), "{}", refused.body);
    for request in requests {
        let answer = request.await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_cut_off_at_the_total_time() {
    let world = World::new().await;
    let (node, mut control) = world.serving("probe", |template| template.timeout.total = timeout("500ms")).await;
    let addr = node.gateway_addr();
    // More than any buffer on the way takes; what is left is the guest's.
    let path = "/bytes?n=100000000";
    let mut h1 = TcpStream::connect(addr).await.unwrap();
    h1.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new())
        .handshake(hyper_util::rt::TokioIo::new(TcpStream::connect(addr).await.unwrap()))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let request =
        || http::Request::get(format!("http://{addr}{path}")).body(http_body_util::Empty::<bytes::Bytes>::new());
    let unread = sender.send_request(request().unwrap()).await.unwrap();
    assert_eq!(unread.status(), 200);
    until_metric(&node, "skiff_gateway_requests_in_flight", |value| value == 0).await;
    until_metric(&node, "skiff_gateway_bodies_cut_off_total", |value| value == 2).await;
    // The h2 connection lives: only the stream is reset.
    let next = http::Request::get(format!("http://{addr}/")).body(http_body_util::Empty::new()).unwrap();
    assert_eq!(sender.send_request(next).await.unwrap().status(), 200);
    let lines = system_lines(&mut control).await;
    assert!(lines.iter().filter(|line| line.contains("http.timeout.total")).count() >= 2, "{lines:?}");
    drop((unread, h1));
    connection.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_late_is_in_the_replicas_log() {
    let world = World::new().await;
    let (node, mut control) = world.serving("probe", |template| template.timeout.first_byte = timeout("300ms")).await;
    assert_eq!(Web::h1(node.gateway_addr()).get("/sleep?ms=20000").await.code(), "first-byte-timeout");
    let lines = system_lines(&mut control).await;
    assert!(lines.iter().any(|line| line.contains("504") && line.contains("http.timeout.firstByte")), "{lines:?}");
}
