//! Upload sessions: they outlive the process, hold what a client may hold, and take exactly what was announced.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use skiff_disk::Disk;
use skiff_registry::hash::sha256;
use skiff_registry::store::Limits;
use skiff_registry::{Registry, router_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Open, Server};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn goes_on_after_a_restart() {
    let server = Server::start().await;
    let (empty, begun) = (server.upload("a/b").await, server.upload("a/b").await);
    // More than one record, and a part that no record covers exactly.
    let first: Vec<u8> = (0..19 * MIB + 7).map(|n| (n % 253) as u8).collect();
    let patched = server.call(Method::PATCH, &begun, &[], &first).await;
    assert_eq!(patched.header("range"), format!("0-{}", first.len() - 1));
    let server = server.restart().await;
    assert_eq!(server.get(&empty).await.header("range"), "0-0");
    let status = server.get(&begun).await;
    assert_eq!((status.status, status.header("range")), (StatusCode::NO_CONTENT, patched.header("range")));
    assert_eq!(server.get(&begun.replace("a/b", "b")).await.code(), "BLOB_UPLOAD_UNKNOWN");
    let early = server.call(Method::PATCH, &begun, &[("content-range", "0-4")], b"hello").await;
    assert_eq!(early.status, StatusCode::RANGE_NOT_SATISFIABLE);
    let whole = [&first[..], b"hello"].concat();
    let server = server.restart().await;
    let path = format!("{begun}?digest={}", sha256(&whole));
    let range = format!("{}-{}", first.len(), first.len() + 4);
    let put = server.call(Method::PUT, &path, &[("content-range", &range)], b"hello").await;
    assert_eq!(put.status, StatusCode::CREATED, "{put:?}");
    assert!(server.get(&format!("/v2/a/b/blobs/{}", sha256(&whole))).await.body == whole);
    let path = format!("{empty}?digest={}", sha256(b"once"));
    assert_eq!(server.call(Method::PUT, &path, &[], b"once").await.status, StatusCode::CREATED);
    assert_eq!(server.left(), 0);
    let server = server.restart().await;
    assert_eq!(server.get(&begun).await.code(), "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn takes_a_chunk_that_is_as_long_as_its_range_also_without_a_length() {
    let server = Server::start().await;
    let upload = server.upload("a").await;
    let chunk = async |method: Method, path: &str, range: &str, pieces: &[&[u8]]| {
        server.stream(method, path, &[("content-range", range)], pieces).await
    };
    assert_eq!(chunk(Method::PATCH, &upload, "0-4", &[b"he", b"llo"]).await.header("range"), "0-4");
    let long = vec![1; MIB];
    for pieces in [&[&b"wor"[..]][..], &[b"wor", b"ld!"], &[], &[&long, &long]] {
        let refused = chunk(Method::PATCH, &upload, "5-9", pieces).await;
        assert_eq!((refused.status, refused.code().as_str()), (StatusCode::BAD_REQUEST, "SIZE_INVALID"));
        assert_eq!(server.get(&upload).await.header("range"), "0-4", "nothing of a refused chunk stays");
    }
    // Fewer than announced, many pieces of them written before that shows.
    let refused = chunk(Method::PATCH, &upload, "5-9999999", &[&long, &long, &long]).await;
    assert_eq!(refused.code(), "SIZE_INVALID");
    let path = format!("{upload}?digest={}", sha256(b"hello world"));
    assert_eq!(chunk(Method::PUT, &path, "5-10", &[b" worl"]).await.code(), "SIZE_INVALID");
    assert_eq!(chunk(Method::PUT, &path, "5-10", &[b" wor", b"ld"]).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn two_chunks_at_one_place_never_mix() {
    let server = Server::start().await;
    let upload = server.upload("a").await;
    let bodies: Vec<Vec<u8>> = (0..8).map(|n| vec![n; 3 * MIB]).collect();
    let range = format!("0-{}", 3 * MIB - 1);
    let patches = bodies.iter().map(|body| {
        let (server, upload, range) = (&server, &upload, &range);
        async move { server.call(Method::PATCH, upload, &[("content-range", range)], body).await.status }
    });
    let answers = futures_util::future::join_all(patches).await;
    let taken: Vec<usize> = (0..8).filter(|n| answers[*n] == StatusCode::ACCEPTED).collect();
    assert_eq!(taken.len(), 1, "{answers:?}");
    assert!(answers.iter().all(|status| matches!(status.as_u16(), 202 | 416)), "{answers:?}");
    let path = format!("{upload}?digest={}", sha256(&bodies[taken[0]]));
    assert_eq!(server.call(Method::PUT, &path, &[], b"").await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn one_client_has_its_share_of_uploads_only() {
    let server = Server::with(Limits { uploads_max: 5, uploads_per_client_max: 2, ..Limits::default() }).await;
    let start = async |token: &str| {
        let header = format!("Bearer {token}");
        server.call(Method::POST, "/v2/a/blobs/uploads/", &[("authorization", &header)], b"").await
    };
    let first = start("one").await;
    assert_eq!((first.status, start("one").await.status), (StatusCode::ACCEPTED, StatusCode::ACCEPTED));
    let third = start("one").await;
    assert_eq!((third.status, third.code().as_str()), (StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS"));
    assert_eq!(third.header("retry-after"), "1");
    assert_eq!(start("two").await.status, StatusCode::ACCEPTED);
    assert_eq!(server.delete(first.header("location")).await.status, StatusCode::NO_CONTENT);
    assert_eq!(start("one").await.status, StatusCode::ACCEPTED);
    assert_eq!((start("two").await.status, start("three").await.status), (StatusCode::ACCEPTED, StatusCode::ACCEPTED));
    assert_eq!(start("four").await.status, StatusCode::TOO_MANY_REQUESTS, "all together have a bound too");
    // The share is counted across a restart.
    let server = server.restart().await;
    let header = [("authorization", "Bearer one")];
    let answer = server.call(Method::POST, "/v2/a/blobs/uploads/", &header, b"").await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn an_upload_that_nobody_goes_on_with_is_given_up() {
    let server = Server::with(Limits { upload_idle: Duration::ZERO, ..Limits::default() }).await;
    let upload = server.upload("a").await;
    server.upload("a").await;
    assert_eq!(server.get(&upload).await.code(), "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(server.left(), 1);
}

#[tokio::test]
async fn a_blob_has_a_largest_size() {
    let server = Server::with(Limits { blob_bytes_max: MIB as u64, ..Limits::default() }).await;
    let largest = vec![1; MIB];
    server.blob("a", &largest).await;
    let large = vec![1; MIB + 1];
    let path = format!("/v2/a/blobs/uploads/?digest={}", sha256(&large));
    let upload = server.upload("a").await;
    let endless: Vec<&[u8]> = vec![&largest; 64];
    for answer in [
        server.call(Method::POST, &path, &[], &large).await,
        server.stream(Method::POST, &path, &[], &endless).await,
        server.call(Method::PATCH, &upload, &[], &large).await,
        server.stream(Method::PATCH, &upload, &[], &endless).await,
    ] {
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"));
    }
    assert_eq!(server.get(&upload).await.code(), "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(server.left(), 0);
}

/// A server that waits for the next piece of a body so long.
async fn impatient(idle: Duration) -> (Server, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(Disk::real(), dir.path().join("registry")).unwrap();
    let routes = router_with(registry.clone(), Arc::new(Open), idle);
    (Server::routes(registry, routes).await, dir)
}

#[tokio::test]
async fn a_body_that_stops_coming_is_given_up_and_what_came_stays() {
    let (server, _dir) = impatient(Duration::from_millis(300)).await;
    let upload = server.upload("a").await;
    for (request, status) in [
        (format!("PATCH {upload} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello"), "HTTP/1.1 408 "),
        ("PUT /v2/a/manifests/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{".to_owned(), "HTTP/1.1 408 "),
    ] {
        let mut stream = TcpStream::connect(&server.endpoint).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 1024];
        let read = stream.read(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
        assert!(answer.starts_with(status), "{answer}");
    }
    assert_eq!(server.get(&upload).await.header("range"), "0-4");
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_only_what_it_can_come_back_to() {
    let server = Server::start().await;
    let path = format!("/v2/a/blobs/uploads/?digest={}", sha256(b"x"));
    let upload = server.upload("a").await;
    for head in [format!("POST {path}"), format!("PATCH {upload}")] {
        let mut stream = TcpStream::connect(&server.endpoint).await.unwrap();
        let head = format!("{head} HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![1; MIB]).await.unwrap();
        stream.shutdown().await.unwrap();
    }
    // Its content and its session are left.
    let mut turns = 0;
    while server.left() != 2 || server.get(&upload).await.header("range") == "0-0" {
        turns += 1;
        assert!(turns < 3000, "{} files are left", server.left());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
