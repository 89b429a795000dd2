//! Clients that mean harm: each is refused with the specification's code, and takes no more than its share.

use std::process::Command;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use skiff_api::digest::Algorithm;
use skiff_registry::hash::{digest, sha256};
use skiff_registry::manifest::media;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::memory::{peak_kib, resident_kib};
use crate::support::{Server, manifest_of};

/// Sends a request line as it is: clients put paths in order before they send them.
async fn raw(server: &Server, line: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(&server.endpoint).await.unwrap();
    let request = format!("{line} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    let code =
        serde_json::from_str::<Value>(body).unwrap_or_default()["errors"][0]["code"].as_str().unwrap_or("-").to_owned();
    (status, code)
}

#[tokio::test]
async fn no_path_leads_elsewhere() {
    let server = Server::start().await;
    server.blob("a", b"x").await;
    let before = tree(&server);
    let long = "a".repeat(300);
    let deep = "a/".repeat(200);
    for (line, status, code) in [
        ("GET /v2/../../etc/passwd/tags/list", 400, "NAME_INVALID"),
        ("GET /v2/a/../b/tags/list", 400, "NAME_INVALID"),
        ("GET /v2/%2e%2e/%2e%2e/tags/list", 400, "NAME_INVALID"),
        ("GET /v2/..%2f..%2fetc/tags/list", 400, "NAME_INVALID"),
        ("GET /v2/a%00b/tags/list", 400, "NAME_INVALID"),
        ("GET /v2/a%5c..%5cb/tags/list", 400, "NAME_INVALID"),
        ("GET /v2/_catalog/tags/list", 400, "NAME_INVALID"),
        ("GET /v2/a/_blobs/tags/list", 400, "NAME_INVALID"),
        ("GET /v2//etc/tags/list", 400, "NAME_INVALID"),
        ("POST /v2/../a/blobs/uploads/", 400, "NAME_INVALID"),
        ("GET /v2/a/manifests/..%2f..%2f..%2fversion", 400, "TAG_INVALID"),
        ("GET /v2/a/manifests/.hidden", 400, "TAG_INVALID"),
        ("PUT /v2/a/manifests/v1:digest", 400, "DIGEST_INVALID"),
        ("GET /v2/a/blobs/sha256:../../../version", 404, "UNSUPPORTED"),
        ("GET /v2/a/blobs/sha256:..%2f..%2f..%2fversion", 400, "DIGEST_INVALID"),
        ("GET /v2/a/blobs/uploads/..%2f..%2fversion", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("PATCH /v2/a/blobs/uploads/..", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("DELETE /v2/a/blobs/uploads/..%2f..%2fversion", 404, "BLOB_UPLOAD_UNKNOWN"),
        ("GET /v2/a/referrers/..%2fx", 400, "DIGEST_INVALID"),
        (&format!("GET /v2/{long}/tags/list"), 400, "NAME_INVALID"),
        (&format!("GET /v2/{deep}x/tags/list"), 400, "NAME_INVALID"),
        (&format!("GET /v2/a/manifests/{long}"), 400, "TAG_INVALID"),
        ("GET /v2/a/tags/list?n=-1", 400, "PAGINATION_NUMBER_INVALID"),
        ("GET /v2/a/tags/list?n=99999999999999999999999", 400, "PAGINATION_NUMBER_INVALID"),
        ("BREW /v2/a/tags/list", 405, "UNSUPPORTED"),
    ] {
        assert_eq!(raw(&server, line).await, (status, code.to_owned()), "{line}");
    }
    assert_eq!(tree(&server), before, "something was written");
}

/// Every file of the registry.
fn tree(server: &Server) -> Vec<std::path::PathBuf> {
    let (mut files, mut left) = (Vec::new(), vec![server.dir()]);
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            if entry.path().is_dir() { &mut left } else { &mut files }.push(entry.path());
        }
    }
    files.sort();
    files
}

#[tokio::test]
async fn no_digest_is_taken_for_another() {
    let server = Server::start().await;
    let hex = sha256(b"x").hex().to_owned();
    let upper = hex.to_uppercase();
    for text in [
        format!("sha256:{upper}"),
        format!("SHA256:{hex}"),
        format!("sha256:{}", &hex[1..]),
        format!("sha256:{hex}0"),
        format!("sha512:{hex}"),
        format!("sha1:{}", &hex[..40]),
        format!("sha256:{hex}%00"),
        format!("sha256:%20{}", &hex[1..]),
        format!("sha256:sha256:{hex}"),
        "sha256:".to_owned(),
        ":".to_owned(),
    ] {
        for (method, path) in [
            (Method::GET, format!("/v2/a/blobs/{text}")),
            (Method::POST, format!("/v2/a/blobs/uploads/?digest={text}")),
            (Method::PUT, format!("/v2/a/manifests/{text}")),
            (Method::POST, format!("/v2/a/blobs/uploads/?mount={text}&from=b")),
        ] {
            let answer = server.call(method, &path, &[("content-type", "a/b")], b"x").await;
            assert_eq!((answer.status, answer.code().as_str()), (StatusCode::BAD_REQUEST, "DIGEST_INVALID"), "{path}");
        }
    }
    // The first of two counts, and the content is compared with it.
    let (one, two) = (sha256(b"one"), sha256(b"two"));
    let path = format!("/v2/a/blobs/uploads/?digest={one}&digest={two}");
    assert_eq!(server.call(Method::POST, &path, &[], b"two").await.code(), "DIGEST_INVALID");
    for digest in [&one, &two] {
        assert_eq!(server.get(&format!("/v2/a/blobs/{digest}")).await.status, StatusCode::NOT_FOUND);
    }
    // What is known by one algorithm is not known by the other.
    server.blob("a", b"x").await;
    let other = digest(Algorithm::Sha512, b"x");
    assert_eq!(server.get(&format!("/v2/a/blobs/{other}")).await.code(), "BLOB_UNKNOWN");
    assert_eq!(server.left(), 0);
}

#[tokio::test]
async fn a_manifest_cannot_name_itself() {
    let server = Server::start().await;
    let index = |digest: &str| {
        json!({"schemaVersion": 2, "manifests": [{"mediaType": media::OCI_INDEX, "digest": digest, "size": 1}]})
            .to_string()
    };
    let put = async |reference: &str, body: &str| {
        let headers = [("content-type", media::OCI_INDEX)];
        server.call(Method::PUT, &format!("/v2/a/manifests/{reference}"), &headers, body.as_bytes()).await
    };
    let own = sha256(b"what it would be").to_string();
    assert_eq!(put(&own, &index(&own)).await.code(), "DIGEST_INVALID");
    assert_eq!(put("v1", &index(&own)).await.code(), "MANIFEST_BLOB_UNKNOWN");
    // As its own subject: a digest that nobody can know before.
    let subject =
        json!({"schemaVersion": 2, "manifests": [], "subject": {"mediaType": "a/b", "digest": own, "size": 1}});
    assert_eq!(put(&own, &subject.to_string()).await.code(), "DIGEST_INVALID");
    // Two that want to name each other: neither can be first.
    let first = index(&sha256(index(&own).as_bytes()).to_string());
    assert_eq!(put("v1", &first).await.code(), "MANIFEST_BLOB_UNKNOWN");
    assert_eq!(
        put("v1", &format!("{{\"schemaVersion\":2,\"x\":{}", "[".repeat(100_000))).await.code(),
        "MANIFEST_INVALID"
    );
    assert_eq!(server.get("/v2/a/tags/list").await.code(), "NAME_UNKNOWN");
}

#[tokio::test]
async fn a_manifest_that_does_not_end_is_refused() {
    let server = Server::start().await;
    let piece = vec![b' '; 256 << 10];
    let pieces: Vec<&[u8]> = vec![&piece; 64];
    let headers = [("content-type", media::OCI_MANIFEST)];
    let answer = server.stream(Method::PUT, "/v2/a/manifests/v1", &headers, &pieces).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID"));
}

#[tokio::test]
async fn many_tags_at_once_are_refused_before_anything_is_stored() {
    let server = Server::start().await;
    let manifest = manifest_of(&server.blob("a", b"{}").await, &[], "");
    let path = format!("/v2/a/manifests/{}", sha256(&manifest));
    let headers = [("content-type", media::OCI_MANIFEST)];
    let tags: Vec<String> = (0..65).map(|n| format!("tag={n}")).collect();
    for query in [tags.join("&"), "tag=good&tag=..%2fbad".to_owned(), "tag=".to_owned()] {
        let answer = server.call(Method::PUT, &format!("{path}?{query}"), &headers, &manifest).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::BAD_REQUEST, "TAG_INVALID"), "{query}");
    }
    assert_eq!(server.get(&path).await.status, StatusCode::NOT_FOUND);
}

const TAGS: usize = 100_000;
const REFERRERS: usize = 100;
const READERS: usize = 4;
/// Two lists at a time, and the pages that the readers parse.
const GROWTH_MAX_KIB: u64 = 96 << 10;
const CHILD: &str = "SKIFF_TEST_HOSTILE_CHILD";

/// Measured in a process of its own, where no other test runs.
#[test]
fn long_lists_come_in_pages_and_in_little_memory() {
    if std::env::var_os(CHILD).is_some() {
        return tokio::runtime::Runtime::new().unwrap().block_on(read_long_lists());
    }
    let name = "hostile::long_lists_come_in_pages_and_in_little_memory";
    let child =
        Command::new(std::env::current_exe().unwrap()).args(["--exact", name]).env(CHILD, "1").output().unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && text.contains("1 passed"), "{text}");
}

async fn read_long_lists() {
    let server = Server::start().await;
    let config = server.blob("a", b"{}").await;
    let manifest = manifest_of(&config, &[], "");
    server.manifest("a", "first", &manifest).await;
    // As a registry would write them, but for the syncs, which would take minutes.
    let tags = server.dir().join("repositories/a/_tags");
    for n in 0..TAGS {
        std::fs::write(tags.join(format!("t{n:06}:digest")), sha256(&manifest).to_string()).unwrap();
    }
    // Each with as much of annotations as fits.
    let subject = sha256(b"subject");
    for n in 0..REFERRERS {
        let more = format!(
            r#","subject":{{"mediaType":"a/b","digest":"{subject}","size":1}},"annotations":{{"n":"{n}","a":"{}"}}"#,
            "x".repeat(256 << 10)
        );
        let bytes = manifest_of(&config, &[], &more);
        let put = skiff_registry::store::PutManifest {
            repository: "a",
            media_type: Some(media::OCI_MANIFEST),
            digest: None,
            tag: None,
            bytes: &bytes,
        };
        server.registry.put_manifest(&put).unwrap();
    }
    // What the first request allocates is there before the measurement.
    server.get("/v2/a/tags/list?n=1").await;
    let before = resident_kib();
    let readers = (0..READERS).map(|_| async { assert_eq!(walk(&server, "/v2/a/tags/list").await, TAGS + 1) });
    futures_util::future::join_all(readers).await;
    assert_eq!(walk(&server, "/v2/a/tags/list?n=7000&last=t080000").await, TAGS / 5 - 1);
    let grown = peak_kib().saturating_sub(before);
    assert!(grown < GROWTH_MAX_KIB, "lists of tags: the process grew by {grown} KiB");
    let mut found = std::collections::BTreeSet::new();
    let mut path = format!("/v2/a/referrers/{subject}");
    while !path.is_empty() {
        let page = server.get(&path).await;
        assert!(page.body.len() < 6 << 20, "a page of {} bytes", page.body.len());
        let manifests = page.json()["manifests"].as_array().unwrap().clone();
        found.extend(manifests.iter().map(|manifest| manifest["digest"].as_str().unwrap().to_owned()));
        path = next(page.header("link"));
    }
    assert_eq!(found.len(), REFERRERS);
}

/// How many tags a list has over all its pages, which are in order. Holds one page.
async fn walk(server: &Server, first: &str) -> usize {
    let (mut path, mut count, mut last) = (first.to_owned(), 0, String::new());
    while !path.is_empty() {
        let page = server.get(&path).await;
        assert_eq!(page.status, StatusCode::OK);
        for tag in page.json()["tags"].as_array().unwrap() {
            let tag = tag.as_str().unwrap();
            assert!(last.as_str() < tag, "{last} {tag}");
            tag.clone_into(&mut last);
            count += 1;
        }
        path = next(page.header("link"));
    }
    count
}

fn next(link: &str) -> String {
    link.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(path, _)| path.to_owned()).unwrap_or_default()
}
