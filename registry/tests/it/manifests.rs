//! Manifests, tags, referrers and lists.

use reqwest::{Method, StatusCode};
use serde_json::json;
use skiff_api::digest::Algorithm;
use skiff_registry::hash::{digest, sha256};
use skiff_registry::manifest::media;

use crate::support::{Server, manifest_of};

#[tokio::test]
async fn keeps_bytes_and_type_exactly() {
    let server = Server::start().await;
    let config = server.blob("a", b"{}").await;
    let manifest = [manifest_of(&config, &[], ""), b"\n  ".to_vec()].concat();
    let own = digest(Algorithm::Sha512, &manifest);
    for reference in ["v1".to_owned(), sha256(&manifest).to_string(), own.to_string()] {
        let path = format!("/v2/a/manifests/{reference}");
        let put = server.call(Method::PUT, &path, &[("content-type", "application/x.odd+json")], &manifest).await;
        assert_eq!(put.status, StatusCode::CREATED, "{put:?}");
        assert!(put.header("location").ends_with(put.header("docker-content-digest")));
        let headers = [("accept", media::DOCKER_LIST), ("accept", media::OCI_INDEX)];
        let got = server.call(Method::GET, &path, &headers, b"").await;
        assert_eq!((got.status, got.header("content-type")), (StatusCode::OK, "application/x.odd+json"));
        assert_eq!(got.body, manifest);
        let head = server.call(Method::HEAD, &path, &[], b"").await;
        assert_eq!(head.header("content-length"), manifest.len().to_string());
        assert_eq!(head.header("docker-content-digest"), got.header("docker-content-digest"));
    }
}

#[tokio::test]
async fn insists_on_what_a_manifest_names() {
    let server = Server::start().await;
    let (config, elsewhere) = (server.blob("a", b"{}").await, server.blob("b", b"layer").await);
    let answer = server.manifest("a", "v1", &manifest_of(&config, &[&elsewhere], "")).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::BAD_REQUEST, "MANIFEST_BLOB_UNKNOWN"));
    let foreign = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"a/b","digest":"{config}","size":2}},"layers":[
            {{"mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar","digest":"{elsewhere}","size":5}}]}}"#
    );
    assert_eq!(server.manifest("a", "v1", foreign.as_bytes()).await.status, StatusCode::CREATED);
    let child = format!(r#"[{{"mediaType":"a/b","digest":"{}","size":1}}]"#, sha256(b"missing"));
    let index = format!(r#"{{"schemaVersion":2,"manifests":{child}}}"#);
    assert_eq!(server.manifest("a", "v2", index.as_bytes()).await.code(), "MANIFEST_BLOB_UNKNOWN");
    let index =
        format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{}","size":1}}]}}"#, sha256(foreign.as_bytes()));
    assert_eq!(server.manifest("a", "v2", index.as_bytes()).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn refuses_what_is_no_manifest() {
    let server = Server::start().await;
    for body in [&b""[..], b"nonsense", b"[]", br#"{"schemaVersion":1}"#, br#"{"schemaVersion":2,"mediaType":"x/y"}"#] {
        assert_eq!(
            server.manifest("a", "v1", body).await.code(),
            "MANIFEST_INVALID",
            "{}",
            String::from_utf8_lossy(body)
        );
    }
    let huge = vec![b' '; (4 << 20) + 1];
    assert_eq!(server.manifest("a", "v1", &huge).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let config = server.blob("a", b"{}").await;
    let reference = sha256(b"another").to_string();
    assert_eq!(server.manifest("a", &reference, &manifest_of(&config, &[], "")).await.code(), "DIGEST_INVALID");
}

#[tokio::test]
async fn lists_tags_in_pages() {
    let server = Server::start().await;
    assert_eq!(server.get("/v2/a/tags/list").await.code(), "NAME_UNKNOWN");
    let manifest = manifest_of(&server.blob("a", b"{}").await, &[], "");
    assert_eq!(server.get("/v2/a/tags/list").await.json(), json!({"name": "a", "tags": []}));
    for tag in ["v10", "B", "a", "v1.tmp", "v1", "a-b"] {
        assert_eq!(server.manifest("a", tag, &manifest).await.status, StatusCode::CREATED);
    }
    let tags = async |query: &str| server.get(&format!("/v2/a/tags/list{query}")).await;
    assert_eq!(tags("").await.json()["tags"], json!(["a", "a-b", "B", "v1", "v1.tmp", "v10"]));
    let page = tags("?n=2").await;
    assert_eq!(page.json()["tags"], json!(["a", "a-b"]));
    assert_eq!(page.header("link"), "</v2/a/tags/list?n=2&last=a-b>; rel=\"next\"");
    assert_eq!(tags("?n=9&last=a-b").await.json()["tags"], json!(["B", "v1", "v1.tmp", "v10"]));
    let none = tags("?n=0").await;
    assert_eq!((none.json()["tags"].clone(), none.header("link")), (json!([]), ""));
    assert_eq!(tags("?n=x").await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn lists_referrers_also_of_what_is_not_there_yet() {
    let server = Server::start().await;
    let config = server.blob("a", b"{}").await;
    let subject = sha256(b"later");
    let refer = |kind: &str| {
        let subject = format!(r#"{{"mediaType":"a/b","digest":"{subject}","size":1}}"#);
        manifest_of(&config, &[], &format!(r#","artifactType":"{kind}","subject":{subject},"annotations":{{"k":"v"}}"#))
    };
    let path = format!("/v2/a/referrers/{subject}");
    let empty = server.get(&path).await;
    assert_eq!((empty.status, empty.header("content-type")), (StatusCode::OK, media::OCI_INDEX));
    assert_eq!(empty.json()["manifests"], json!([]));
    for kind in ["x/sig", "x/sbom"] {
        let put = server.manifest("a", kind.trim_start_matches("x/"), &refer(kind)).await;
        assert_eq!(put.header("oci-subject"), subject.to_string());
    }
    assert_eq!(server.get(&path).await.json()["manifests"].as_array().unwrap().len(), 2);
    let sig = server.get(&format!("{path}?artifactType=x/sig")).await;
    assert_eq!(sig.header("oci-filters-applied"), "artifactType");
    let expected = json!([{
        "mediaType": media::OCI_MANIFEST, "digest": sha256(&refer("x/sig")).to_string(), "size": refer("x/sig").len(),
        "artifactType": "x/sig", "annotations": {"k": "v"},
    }]);
    assert_eq!(sig.json()["manifests"], expected);
    server.delete(&format!("/v2/a/manifests/{}", sha256(&refer("x/sig")))).await;
    assert_eq!(server.get(&path).await.json()["manifests"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn deletes_tags_and_manifests() {
    let server = Server::start().await;
    let manifest = manifest_of(&server.blob("a", b"{}").await, &[], "");
    for tag in ["v1", "v2"] {
        server.manifest("a", tag, &manifest).await;
    }
    let by_digest = format!("/v2/a/manifests/{}", sha256(&manifest));
    assert_eq!(server.delete("/v2/a/manifests/v1").await.status, StatusCode::ACCEPTED);
    assert_eq!(server.delete("/v2/a/manifests/v1").await.code(), "MANIFEST_UNKNOWN");
    assert_eq!(server.get(&by_digest).await.status, StatusCode::OK, "a tag goes alone");
    assert_eq!(server.delete(&by_digest).await.status, StatusCode::ACCEPTED);
    assert_eq!(server.delete(&by_digest).await.code(), "MANIFEST_UNKNOWN");
    assert_eq!(server.get("/v2/a/manifests/v2").await.code(), "MANIFEST_UNKNOWN");
    assert_eq!(server.get("/v2/a/tags/list").await.json()["tags"], json!([]));
}

#[tokio::test]
async fn never_serves_a_damaged_manifest() {
    let server = Server::start().await;
    let manifest = manifest_of(&server.blob("a", b"{}").await, &[], "");
    server.manifest("a", "v1", &manifest).await;
    let digest = sha256(&manifest);
    let file = server.dir().join("blobs/sha256").join(&digest.hex()[..2]).join(digest.hex());
    std::fs::write(file, b"{}").unwrap();
    assert_eq!(server.get("/v2/a/manifests/v1").await.status, StatusCode::INTERNAL_SERVER_ERROR);
    server.manifest("a", "v1", &manifest).await;
    assert_eq!(server.get("/v2/a/manifests/v1").await.body, manifest, "pushing again repairs it");
}

#[tokio::test]
async fn lists_repositories() {
    let server = Server::start().await;
    for repository in ["b/c/d", "a", "b"] {
        let manifest = manifest_of(&server.blob(repository, b"{}").await, &[], "");
        server.manifest(repository, "v1", &manifest).await;
    }
    assert_eq!(server.get("/v2/_catalog").await.json()["repositories"], json!(["a", "b", "b/c/d"]));
    let page = server.get("/v2/_catalog?n=1&last=a").await;
    assert_eq!(page.json()["repositories"], json!(["b"]));
    assert_eq!(page.header("link"), "</v2/_catalog?n=1&last=b>; rel=\"next\"");
    let known = server.get("/.well-known/wasm-pkg/registry.json").await.json();
    assert_eq!(known["oci"]["registry"], server.endpoint);
}
