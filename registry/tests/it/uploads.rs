//! Blobs: every way to push one, and to get it back.

use reqwest::{Method, StatusCode};
use skiff_api::digest::Algorithm;
use skiff_registry::hash::{digest, sha256};

use crate::support::Server;

async fn assert_there(server: &Server, repository: &str, bytes: &[u8]) {
    let answer = server.get(&format!("/v2/{repository}/blobs/{}", sha256(bytes))).await;
    assert_eq!((answer.status, answer.body.as_slice()), (StatusCode::OK, bytes));
}

#[tokio::test]
async fn takes_a_blob_in_one_request() {
    let server = Server::start().await;
    for bytes in [&b"hello"[..], b"", b"{}"] {
        server.blob("a/b/c", bytes).await;
        assert_there(&server, "a/b/c", bytes).await;
    }
}

#[tokio::test]
async fn takes_a_blob_with_post_and_put() {
    let server = Server::start().await;
    let upload = server.upload("a").await;
    let path = format!("{upload}?digest={}", sha256(b"hello"));
    let answer = server.call(Method::PUT, &path, &[], b"hello").await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(answer.header("location"), format!("/v2/a/blobs/{}", sha256(b"hello")));
    assert_there(&server, "a", b"hello").await;
    assert_eq!(server.get(&upload).await.code(), "BLOB_UPLOAD_UNKNOWN");
}

#[tokio::test]
async fn takes_a_blob_in_chunks_in_order_only() {
    let server = Server::start().await;
    let upload = server.upload("a").await;
    let chunk =
        async |range: &str, body: &[u8]| server.call(Method::PATCH, &upload, &[("content-range", range)], body).await;
    let first = chunk("0-4", b"hello").await;
    assert_eq!((first.status, first.header("range")), (StatusCode::ACCEPTED, "0-4"));
    let early = chunk("7-9", b"xyz").await;
    assert_eq!((early.status, early.header("range")), (StatusCode::RANGE_NOT_SATISFIABLE, "0-4"));
    assert_eq!(early.header("location"), upload);
    assert_eq!(chunk("0-4", b"hello").await.status, StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(chunk("5-9", b"xy").await.code(), "SIZE_INVALID");
    assert_eq!(chunk("nonsense", b"xy").await.code(), "SIZE_INVALID");
    let status = server.get(&upload).await;
    assert_eq!((status.status, status.header("range")), (StatusCode::NO_CONTENT, "0-4"));
    // As docker sends it: no range at all.
    assert_eq!(server.call(Method::PATCH, &upload, &[], b", wor").await.header("range"), "0-9");
    let path = format!("{upload}?digest={}", sha256(b"hello, world"));
    let last = server.call(Method::PUT, &path, &[("content-range", "10-11")], b"ld").await;
    assert_eq!(last.status, StatusCode::CREATED);
    assert_there(&server, "a", b"hello, world").await;
}

#[tokio::test]
async fn takes_a_blob_by_its_sha512() {
    let server = Server::start().await;
    let digest = digest(Algorithm::Sha512, b"hello");
    let upload = server.upload("a").await;
    let answer = server.call(Method::PUT, &format!("{upload}?digest={digest}"), &[], b"hello").await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).await.body, b"hello");
}

#[tokio::test]
async fn refuses_a_wrong_digest_and_keeps_nothing() {
    let server = Server::start().await;
    let upload = server.upload("a").await;
    for path in [
        format!("{upload}?digest={}", sha256(b"other")),
        format!("/v2/a/blobs/uploads/?digest={}", sha256(b"other")),
        "/v2/a/blobs/uploads/?digest=sha256:1".to_owned(),
        "/v2/a/blobs/uploads/?digest=md5:00".to_owned(),
    ] {
        let method = if path.starts_with(&upload) { Method::PUT } else { Method::POST };
        let answer = server.call(method, &path, &[], b"hello").await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::BAD_REQUEST, "DIGEST_INVALID"), "{path}");
    }
    assert_eq!(server.get(&format!("/v2/a/blobs/{}", sha256(b"other"))).await.code(), "BLOB_UNKNOWN");
    assert_eq!(std::fs::read_dir(server.dir().join("uploads")).unwrap().count(), 0);
}

#[tokio::test]
async fn gives_an_upload_up() {
    let server = Server::start().await;
    let upload = server.upload("a").await;
    assert_eq!(server.delete(&upload).await.status, StatusCode::NO_CONTENT);
    assert_eq!(server.delete(&upload).await.code(), "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(server.left(), 0);
    let other = server.upload("a").await;
    assert_eq!(server.get(&other.replace("/a/", "/b/")).await.code(), "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(server.get(&other).await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn serves_parts() {
    let server = Server::start().await;
    let bytes: Vec<u8> = (0..2000_u32).map(|n| (n % 251) as u8).collect();
    let path = format!("/v2/a/blobs/{}", server.blob("a", &bytes).await);
    for (range, first, last) in
        [("500-1499", 500, 1499), ("500-", 500, 1999), ("-500", 1500, 1999), ("1500-5000", 1500, 1999)]
    {
        let answer = server.call(Method::GET, &path, &[("range", &format!("bytes={range}"))], b"").await;
        assert_eq!(answer.status, StatusCode::PARTIAL_CONTENT, "{range}");
        assert_eq!(answer.header("content-range"), format!("bytes {first}-{last}/2000"));
        assert_eq!(answer.body, &bytes[first..=last]);
    }
    for range in ["2000-5000", "500-0", "5000-10000"] {
        let answer = server.call(Method::GET, &path, &[("range", &format!("bytes={range}"))], b"").await;
        assert_eq!(answer.status, StatusCode::RANGE_NOT_SATISFIABLE, "{range}");
        assert_eq!(answer.header("content-range"), "bytes */2000");
    }
    let head = server.call(Method::HEAD, &path, &[], b"").await;
    assert_eq!((head.status, head.header("content-length")), (StatusCode::OK, "2000"));
    assert!(path.ends_with(head.header("docker-content-digest")));
}

#[tokio::test]
async fn mounts_what_another_repository_has() {
    let server = Server::start().await;
    let digest = server.blob("a", b"hello").await;
    assert_eq!(
        server.get(&format!("/v2/b/blobs/{digest}")).await.status,
        StatusCode::NOT_FOUND,
        "rights are per repository"
    );
    let mount =
        async |query: String| server.call(Method::POST, &format!("/v2/b/blobs/uploads/?{query}"), &[], b"").await;
    assert_eq!(mount(format!("mount={digest}&from=nowhere")).await.status, StatusCode::ACCEPTED);
    assert_eq!(mount(format!("mount={digest}")).await.status, StatusCode::ACCEPTED);
    assert_eq!(mount(format!("mount={digest}&from=../a")).await.status, StatusCode::ACCEPTED);
    assert_eq!(mount(format!("mount={digest}&from=a")).await.status, StatusCode::CREATED);
    assert_there(&server, "b", b"hello").await;
}

#[tokio::test]
async fn deletes_a_blob_of_one_repository_only() {
    let server = Server::start().await;
    let digest = server.blob("a", b"hello").await;
    server.blob("b", b"hello").await;
    let path = format!("/v2/a/blobs/{digest}");
    assert_eq!(server.delete(&path).await.status, StatusCode::ACCEPTED);
    assert_eq!(server.delete(&path).await.code(), "BLOB_UNKNOWN");
    assert_there(&server, "b", b"hello").await;
}

#[tokio::test]
async fn takes_one_blob_from_many_at_once() {
    let server = Server::start().await;
    let bytes = vec![7; 3 << 20];
    let pushes = (0..8).map(|n| {
        let (server, bytes) = (&server, &bytes);
        async move { server.blob(&format!("r{}", n % 3), bytes).await }
    });
    futures_util::future::join_all(pushes).await;
    for repository in ["r0", "r1", "r2"] {
        assert_there(&server, repository, &bytes).await;
    }
}
