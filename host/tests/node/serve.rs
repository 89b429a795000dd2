//! From a desired replica to an answer.

use std::time::Duration;

use http::Request;
use skiff_api::resource::Phase;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_desired_replica_is_pulled_compiled_and_answers() {
    let world = World::new().await;
    let (node, mut control) = world.serving("hello", |_| {}).await;
    assert_eq!(control.hello.gateway, node.gateway_addr().to_string());
    for web in [Web::h1(node.gateway_addr()), Web::h2(node.gateway_addr())] {
        let answer = web.get("/").await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(!answer.body.is_empty() && answer.code().is_empty());
    }
    for reason in ["Pulled", "Compiled", "Started"] {
        assert!(!control.event(reason).await.message.is_empty());
    }
    control.until(|control| control.seen == control.desired).await;
    assert_eq!(metric(&node, "skiff_gateway_responses_total{class=\"2xx\"}"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_sees_the_request_and_nothing_of_the_connection() {
    let world = World::new().await;
    let (node, _control) = world.serving("probe", |_| {}).await;
    let request = Request::get(format!("http://{}/headers", node.gateway_addr()))
        .header("x-mine", "1")
        .header("connection", "x-hop")
        .header("x-hop", "2")
        .header("x-forwarded-for", "10.0.0.1");
    let answer = Web::h1(node.gateway_addr()).send(request).await.unwrap();
    let has = |line: &str| answer.body.lines().any(|have| have == line);
    assert!(has("x-mine: 1") && has("x-forwarded-for: 10.0.0.1, 127.0.0.1"), "{}", answer.body);
    assert!(has("x-forwarded-proto: http") && !answer.body.contains("x-hop"), "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_fails_is_an_error_answer_and_no_more() {
    let world = World::new().await;
    let (node, mut control) = world.serving("probe", |_| {}).await;
    let web = Web::h1(node.gateway_addr());
    for (path, status, code, event) in
        [("/panic", 500, "guest-trap", "GuestTrapped"), ("/no-response", 502, "guest-no-response", "GuestFailed")]
    {
        // A second one soon after is no news.
        for _ in 0..2 {
            let answer = web.get(path).await;
            assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{}", answer.body);
            assert!(answer.body.contains(&format!("\"code\":\"{code}\"")), "{}", answer.body);
        }
        assert_eq!(control.event(event).await.replica, replica("app-1-a"));
    }
    assert!(control.events.iter().all(|event| !event.reason.starts_with("Guest")), "{:?}", control.events);
    // Where nothing was sent yet it is an error answer, else the body breaks off: never a part that looks whole.
    let part = web.try_get("/trap-after-part").await;
    assert!(part.is_err() || part.is_ok_and(|answer| answer.code() == "guest-trap"));
    assert_eq!(web.get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_stops_its_guest() {
    let world = World::new().await;
    let (node, _control) = world.serving("probe", |template| template.timeout.first_byte = timeout("60s")).await;
    let mut stream = TcpStream::connect(node.gateway_addr()).await.unwrap();
    stream.write_all(b"GET /sleep?ms=60000 HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    until_metric(&node, "skiff_gateway_requests_in_flight", |value| value == 1).await;
    drop(stream);
    tokio::time::timeout(Duration::from_secs(10), async {
        until_metric(&node, "skiff_gateway_requests_in_flight", |value| value == 0).await;
    })
    .await
    .expect("the guest goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_smuggles_or_confuses_is_refused() {
    let world = World::new().await;
    let (node, _control) = world.serving("probe", |_| {}).await;
    for (request, status) in [
        ("GET /a/../b HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
        ("GET /a/%2e%2e/b HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
        ("CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n", "405"),
        ("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd", "400"),
        ("POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, x\r\n\r\n0\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET http://a/ HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: a b\r\n\r\n", "400"),
        ("GET / HTTP/1.0\r\n\r\n", "200"),
    ] {
        let mut stream = TcpStream::connect(node.gateway_addr()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head[9..], status.as_bytes(), "{request:?}");
    }
    // Of two framings the stricter one counts, and the connection ends: nothing can hide behind it.
    let mut stream = TcpStream::connect(node.gateway_addr()).await.unwrap();
    let both = "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n\
                0\r\n\r\nGET /headers HTTP/1.1\r\nhost: a\r\n\r\n";
    stream.write_all(both.as_bytes()).await.unwrap();
    let mut answers = String::new();
    let read = tokio::time::timeout(Duration::from_secs(2), stream.read_to_string(&mut answers)).await;
    assert!(read.is_err() || answers.matches("HTTP/1.1").count() <= 2, "{answers}");
    assert!(!answers.contains("content-length: 4"), "{answers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_says_why_and_the_rest_runs() {
    let world = World::new().await;
    let node = world.node().await;
    let mut control = Control::of(&node).await;
    control.route([routes("app", &[(None, "/")])]).await;
    let mut absent = world.template("hello");
    absent.image = format!("default/hello@sha256:{}", "0".repeat(64)).parse().unwrap();
    let mut unpinned = world.template("hello");
    unpinned.image = "hello:1".parse().unwrap();
    control
        .desire([
            assignment("app", "app-1-a", world.template("hello")),
            assignment("absent", "absent-1-a", absent),
            assignment("unpinned", "unpinned-1-a", unpinned),
        ])
        .await;
    control.until_ready("app-1-a").await;
    control.until(|control| control.phase("absent-1-a") == Some(Phase::Failed)).await;
    let status = &control.statuses[&replica("absent-1-a")];
    assert!(status.reason == "PullFailed" && status.message.contains("skiff push"), "{status:?}");
    let status = &control.statuses[&replica("unpinned-1-a")];
    assert!(status.phase == Phase::Failed && status.message.contains("digest"), "{status:?}");
    // It is tried again by itself.
    control.until(|control| control.statuses[&replica("absent-1-a")].retries >= 1).await;
    assert_eq!(Web::h1(node.gateway_addr()).get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_said_all_is_answered() {
    let world = World::new().await;
    let (node, _control) = world.serving("probe", |_| {}).await;
    let mut half = TcpStream::connect(node.gateway_addr()).await.unwrap();
    half.write_all(b"GET /sleep?ms=300 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    half.shutdown().await.unwrap();
    let mut answer = String::new();
    half.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
}
