//! Bodies both ways: trailers, gRPC, events, back-pressure, and what HTTP says between the lines.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::support::*;

async fn send_h1(node: &skiff_host::NodeHandle, request: &str) -> String {
    let mut stream = TcpStream::connect(node.gateway_addr()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

async fn h2<B>(node: &skiff_host::NodeHandle) -> http2::SendRequest<B>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::error::Error + Send + Sync,
{
    let stream = TcpStream::connect(node.gateway_addr()).await.unwrap();
    let (sender, connection) = http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_calls_a_component() {
    let world = World::new().await;
    let (node, _control) = world.serving("probe", |_| {}).await;
    let mut sender = h2(&node).await;
    let message = Bytes::from_static(b"\0\0\0\0\x05hello");
    for (te, status) in [(true, "0"), (false, "9")] {
        let mut call =
            Request::post(format!("http://{}/grpc", node.gateway_addr())).header("content-type", "application/grpc");
        if te {
            call = call.header("te", "trailers");
        }
        let answer = sender.send_request(call.body(Full::new(message.clone())).unwrap()).await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (200, &"application/grpc".parse().unwrap())
        );
        let body = answer.into_body().collect().await.unwrap();
        let trailers: HeaderMap = body.trailers().cloned().unwrap_or_default();
        assert_eq!(trailers.get("grpc-status").unwrap(), status, "{trailers:?}");
        assert_eq!(body.to_bytes(), if te { message.clone() } else { Bytes::new() });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_follow_a_chunked_body() {
    let world = World::new().await;
    let (node, _control) = world.serving("probe", |_| {}).await;
    let answer = send_h1(&node, "GET /trailers HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: close\r\n\r\n").await;
    assert!(answer.contains("transfer-encoding: chunked") && answer.contains("body\n"), "{answer}");
    assert!(answer.ends_with("0\r\nx-after: the body\r\n\r\n"), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_of_a_request_reach_the_guest() {
    let world = World::new().await;
    let (node, _control) = world.serving("probe", |_| {}).await;
    let head = "POST /request-trailers HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\nconnection: close";
    let answer = send_h1(&node, &format!("{head}\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("abc\nx-sum: 7\n"), "{answer}");

    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "8".parse().unwrap())]);
    let frames = [http_body::Frame::data(Bytes::from_static(b"abc")), http_body::Frame::trailers(trailers)];
    let body = StreamBody::new(tokio_stream::iter(frames.map(Ok::<_, std::io::Error>)));
    let request = Request::post(format!("http://{}/request-trailers", node.gateway_addr())).body(body).unwrap();
    let answer = h2(&node).await.send_request(request).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "abc\nx-sum: 8\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_waits_as_long_as_its_service_lets_it() {
    let world = World::new().await;
    let change = |template: &mut skiff_api::resource::Template| {
        template.timeout.first_byte = timeout("none");
        // Until there is an answer there is no silence in it.
        template.timeout.idle = timeout("100ms");
    };
    let (node, _control) = world.serving("probe", change).await;
    for web in [Web::h1(node.gateway_addr()), Web::h2(node.gateway_addr())] {
        assert_eq!(web.get("/sleep?ms=1500").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_given_up_stops_its_guest_and_no_other() {
    let world = World::new().await;
    let (node, _control) = world.serving("probe", |template| template.timeout.first_byte = timeout("none")).await;
    let mut sender = h2(&node).await;
    let request = |path: &str| Request::get(format!("http://{}{path}", node.gateway_addr()));
    let given_up = sender.send_request(request("/sleep?ms=3600000").body(Empty::<Bytes>::new()).unwrap());
    let other = sender.send_request(request("/sleep?ms=500").body(Empty::<Bytes>::new()).unwrap());
    until_metric(&node, "skiff_gateway_requests_in_flight", |value| value == 2).await;
    drop(given_up);
    assert_eq!(other.await.unwrap().status(), 200);
    until_metric(&node, "skiff_gateway_requests_in_flight", |value| value == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_as_they_happen() {
    let world = World::new().await;
    let (node, _control) = world.serving("probe", |template| template.timeout.idle = timeout("10s")).await;
    let mut stream = TcpStream::connect(node.gateway_addr()).await.unwrap();
    // More than any test waits for: if they were collected first, none would come.
    stream.write_all(b"GET /events?n=100000 HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    let mut seen = 0;
    while seen < 3 {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
        seen += u32::from(line.starts_with("data: "));
    }
    drop(lines);
    // Who leaves amid them stops the guest.
    until_metric(&node, "skiff_gateway_requests_in_flight", |value| value == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_streams_both_ways_and_waits_for_its_reader() {
    let world = World::new().await;
    let (node, _control) = world.serving("probe", |_| {}).await;
    let mut sender = h2(&node).await;
    let (pieces, body) = mpsc::channel::<Result<http_body::Frame<Bytes>, std::io::Error>>(1);
    let request = Request::post(format!("http://{}/echo", node.gateway_addr()));
    let request = request.body(StreamBody::new(ReceiverStream::new(body))).unwrap();
    let answer = tokio::spawn(async move { sender.send_request(request).await.unwrap() });
    let piece = |text: &'static str| Ok(http_body::Frame::data(Bytes::from_static(text.as_bytes())));
    pieces.send(piece("one")).await.unwrap();
    let mut body = answer.await.unwrap().into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "one");
    pieces.send(piece("two")).await.unwrap();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "two");

    // Nobody reads the echo now: what is taken of the body is bounded by the buffers on the way.
    let megabyte = Bytes::from(vec![b'x'; 1 << 20]);
    let mut taken = 0;
    let send = |piece: Bytes| pieces.send(Ok(http_body::Frame::data(piece)));
    while taken < 64 && tokio::time::timeout(Duration::from_secs(1), send(megabyte.clone())).await.is_ok() {
        taken += 1;
    }
    assert!(taken < 32, "{taken} MiB were taken of a body that nobody reads");
    drop(pieces);
    let mut echoed = 0;
    while let Some(frame) = body.frame().await {
        echoed += frame.unwrap().into_data().map_or(0, |data| data.len());
    }
    assert!(echoed >= taken << 20, "{echoed} bytes of {taken} MiB came back");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_body_has_none_in_either_protocol() {
    let world = World::new().await;
    let (node, _control) = world.serving("probe", |_| {}).await;
    let answer = send_h1(&node, "HEAD /bytes?n=100 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n") && !answer.contains('x'), "{answer}");
    let mut sender = h2(&node).await;
    for (method, path, status) in [("HEAD", "/bytes?n=100", 200), ("GET", "/status?code=204", 204)] {
        let request = Request::builder().method(method).uri(format!("http://{}{path}", node.gateway_addr()));
        let answer = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status);
        assert!(answer.into_body().collect().await.unwrap().to_bytes().is_empty(), "{method} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_to_be_asked_for_its_body_is_asked() {
    let world = World::new().await;
    let (node, _control) = world.serving("probe", |_| {}).await;
    let mut stream = BufReader::new(TcpStream::connect(node.gateway_addr()).await.unwrap());
    // It reads the whole body before it answers: who answers first need not ask.
    let head = "POST /grpc HTTP/1.1\r\nhost: a\r\nte: trailers\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\
                connection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut line = String::new();
    tokio::time::timeout(PATIENCE, stream.read_line(&mut line)).await.expect("it is not asked").unwrap();
    assert!(line.starts_with("HTTP/1.1 100"), "{line}");
    stream.write_all(b"\0\0\0\0\x04body").await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains("HTTP/1.1 200") && rest.contains("body"), "{rest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn trace_context_passes_through_and_is_not_made_up() {
    let world = World::new().await;
    let (node, _control) = world.serving("probe", |_| {}).await;
    let web = Web::h1(node.gateway_addr());
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = Request::get(format!("http://{}/headers", node.gateway_addr()));
    let request = request.header("traceparent", parent).header("tracestate", "a=1,b=2");
    let seen = web.send(request).await.unwrap().body;
    assert!(seen.contains(&format!("traceparent: {parent}\n")) && seen.contains("tracestate: a=1,b=2\n"), "{seen}");
    assert!(!web.get("/headers").await.body.contains("trace"));
}
