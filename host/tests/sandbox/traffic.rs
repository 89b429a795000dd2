//! What requests and answers look like to guest and caller.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use skiff_api::wire::Stream;
use skiff_host::sandbox::Failure;

use crate::support::{Setup, code, get, probe, probe_with, request, sandbox};

#[tokio::test]
async fn hello_answers_in_one_piece() {
    let sandbox = sandbox();
    let code = code(&sandbox, "hello").await;
    let hello = Setup::default().prepare(&sandbox, &code).await.unwrap();
    let response = hello.runner.call(get("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let length = response.body().size_hint().exact().expect("the guest was done with its head");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body.len() as u64, length);
    assert!(String::from_utf8_lossy(&body).to_lowercase().contains("hello"), "{body:?}");
}

#[tokio::test]
async fn every_request_has_a_fresh_instance() {
    let sandbox = sandbox();
    let probe = probe(&sandbox).await;
    for _ in 0..1000 {
        assert_eq!(probe.text("/count").await, "1\n");
    }
}

/// A task that never waits runs out of the runtime's budget, after which channels say that they are empty.
#[tokio::test]
async fn a_busy_task_loses_no_bodies() {
    let sandbox = sandbox();
    let probe = probe(&sandbox).await;
    let mut bodies = Vec::new();
    for _ in 0..90 {
        bodies.push(probe.runner.call(get("/")).await.unwrap().into_body());
    }
    for body in bodies {
        assert_eq!(body.collect().await.unwrap().to_bytes(), "probe\n");
    }
    for n in 1..300 {
        assert_eq!(probe.text(&format!("/bytes?n={n}")).await.len(), n);
    }
}

#[tokio::test]
async fn sixty_four_requests_at_once() {
    let sandbox = sandbox();
    let probe = probe(&sandbox).await;
    let start = std::time::Instant::now();
    let calls = futures_util::future::join_all((0..64).map(|_| probe.text("/sleep?ms=200"))).await;
    assert!(calls.iter().all(|text| text == "slept 200 ms\n"));
    assert!(start.elapsed().as_secs() < 6, "they waited for each other: {:?}", start.elapsed());
}

#[tokio::test]
async fn a_body_is_streamed_both_ways() {
    let sandbox = sandbox();
    let probe = probe(&sandbox).await;
    let chunks = (0..80_u8).map(|n| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![n; 64 << 10]))));
    let expected: Vec<u8> = (0..80_u8).flat_map(|n| vec![n; 64 << 10]).collect();
    let body = StreamBody::new(futures_util::stream::iter(chunks));
    let request = Request::post("/echo").header("host", "probe.test").body(body).unwrap();
    let response = probe.runner.call(request).await.unwrap();
    assert_eq!(response.body().size_hint().exact(), None, "it is too large to be here already");
    let echoed = response.into_body().collect().await.unwrap().to_bytes();
    assert!(echoed == expected, "{} bytes came back", echoed.len());
}

#[tokio::test]
async fn a_broken_request_body_reaches_the_guest_as_its_end() {
    let sandbox = sandbox();
    let probe = probe(&sandbox).await;
    let chunks = [Ok(Frame::data(Bytes::from_static(b"some"))), Err(std::io::Error::other("the client is gone"))];
    let request = Request::post("/echo")
        .header("host", "probe.test")
        .body(StreamBody::new(futures_util::stream::iter(chunks)))
        .unwrap();
    let response = probe.runner.call(request).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "some");
}

#[tokio::test]
async fn a_large_answer_arrives_whole() {
    let sandbox = sandbox();
    let probe = probe(&sandbox).await;
    assert_eq!(probe.text("/bytes?n=20000000").await.len(), 20_000_000);
    assert_eq!(probe.text("/bytes?n=0").await.len(), 0);
}

#[tokio::test]
async fn headers_pass_as_bytes_and_those_of_the_connection_do_not() {
    let sandbox = sandbox();
    let probe = probe(&sandbox).await;
    let mut request = get("/headers");
    let headers = request.headers_mut();
    headers.insert("x-latin", HeaderValue::from_bytes(b"caf\xe9").unwrap());
    headers.append("x-twice", HeaderValue::from_static("one"));
    headers.append("x-twice", HeaderValue::from_static("two"));
    headers.insert("connection", HeaderValue::from_static("keep-alive"));
    headers.insert("transfer-encoding", HeaderValue::from_static("chunked"));
    let body = probe.runner.call(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
    let mut lines: Vec<_> = std::str::from_utf8(&body).unwrap().lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["x-latin: caf\u{fffd}", "x-twice: one", "x-twice: two"]);
}

#[tokio::test]
async fn head_no_content_and_unusual_statuses() {
    let sandbox = sandbox();
    let probe = probe(&sandbox).await;
    let head = probe.runner.call(request(Method::HEAD, "/")).await.unwrap();
    assert_eq!(head.status(), StatusCode::OK);
    assert_eq!(head.body().size_hint().exact(), None, "the length of an answer to GET is not known");
    for code in [204, 304, 418, 599] {
        assert_eq!(probe.get(&format!("/status?code={code}")).await.unwrap().0.as_u16(), code);
    }
}

#[tokio::test]
async fn an_announcement_is_no_answer() {
    let sandbox = sandbox();
    let probe = probe(&sandbox).await;
    let failure = probe.failure("/status?code=103").await;
    assert!(matches!(&failure, Failure::InvalidResponse { why } if why.contains("103")), "{failure}");
    assert_eq!(failure.status(), StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn a_request_needs_no_authority_but_not_a_broken_one() {
    let sandbox = sandbox();
    let probe = probe(&sandbox).await;
    let without = Request::get("/").body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(probe.runner.call(without).await.unwrap().status(), StatusCode::OK);
    let mut broken = get("/");
    broken.headers_mut().insert("host", HeaderValue::from_bytes(b"\xff").unwrap());
    let failure = probe.runner.call(broken).await.err().unwrap();
    assert!(matches!(failure, Failure::BadRequest { .. }), "{failure}");
    assert!(!failure.is_guests_fault());
}

#[tokio::test]
async fn a_whole_body_need_not_be_read_by_the_guest() {
    let sandbox = sandbox();
    let probe = probe(&sandbox).await;
    let body = Full::new(Bytes::from(vec![0; 1 << 20]));
    let request = Request::post("/").header("host", "probe.test").body(body).unwrap();
    assert_eq!(probe.runner.call(request).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_guest_sees_its_environment_and_nothing_else() {
    let sandbox = sandbox();
    let env = vec![("LOG", "info"), ("GREETING", "good day")];
    let probe = probe_with(&sandbox, Setup { env, ..Setup::default() }).await;
    assert_eq!(probe.text("/env").await, "GREETING=good day\nLOG=info\n");
    assert_eq!(probe.text("/args").await, "");
    assert_eq!(probe.text("/files").await, "");
}

#[tokio::test]
async fn nothing_is_reachable() {
    let sandbox = sandbox();
    let probe = probe(&sandbox).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    for path in [
        format!("/sockets?to={address}"),
        format!("/sockets?to=localhost:{}", address.port()),
        format!("/outbound?url=http://{address}/"),
        "/files?read=/etc/passwd".to_owned(),
        "/files?read=../../etc/passwd".to_owned(),
    ] {
        let (status, text) = probe.get(&path).await.unwrap();
        assert_eq!(status, StatusCode::BAD_GATEWAY, "{path}: {text}");
        assert!(text.starts_with("refused: "), "{path}: {text}");
    }
    let outbound = probe.get(&format!("/outbound?url=http://{address}/")).await.unwrap().1;
    assert!(outbound.contains("HttpRequestDenied"), "{outbound}");
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "something connected");
}

#[tokio::test]
async fn what_a_guest_writes_is_logged() {
    let sandbox = sandbox();
    let probe = probe(&sandbox).await;
    probe.text("/log?lines=3").await;
    assert_eq!(probe.lines(Stream::Stdout), ["probe out 1", "probe out 2", "probe out 3"]);
    assert_eq!(probe.lines(Stream::Stderr), ["probe err 1", "probe err 2", "probe err 3"]);
    assert!(probe.lines(Stream::System).is_empty());
}
