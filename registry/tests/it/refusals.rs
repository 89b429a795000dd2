//! Bad names, full disks and left-overs.

use reqwest::{Method, StatusCode};
use skiff_disk::Disk;
use skiff_disk::sim::SimDisk;
use skiff_registry::Registry;
use skiff_registry::hash::sha256;
use skiff_registry::store::Error;

use crate::support::{Open, Server};

#[tokio::test]
async fn refuses_names_that_lead_elsewhere() {
    let server = Server::start().await;
    for name in ["..%2f..", "_blobs", "a/_tags", "A", "a//b", "a%00", "a%5c"] {
        let answer = server.get(&format!("/v2/{name}/tags/list")).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::BAD_REQUEST, "NAME_INVALID"), "{name}");
    }
    assert_eq!(server.get("/v2/a/manifests/..%2f..%2fversion").await.code(), "TAG_INVALID");
    assert_eq!(server.get("/v2/a/blobs/sha256:..%2f..").await.code(), "DIGEST_INVALID");
    assert_eq!(server.get("/v2/a/blobs/uploads/..%2f..%2fversion").await.code(), "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(server.get("/v2/a/nonsense/x").await.status, StatusCode::NOT_FOUND);
    assert_eq!(server.call(Method::PATCH, "/v2/a/tags/list", &[], b"").await.code(), "UNSUPPORTED");
    assert_eq!(server.call(Method::POST, "/v2/", &[], b"").await.code(), "UNSUPPORTED");
}

#[tokio::test]
async fn survives_a_full_disk() {
    let sim = SimDisk::new(1);
    let server = Server::on(Registry::open(sim.disk(), "registry").unwrap(), Open).await;
    sim.fail_with_full_after(1 << 20);
    let bytes = vec![7; 3 << 20];
    let path = format!("/v2/a/blobs/uploads/?digest={}", sha256(&bytes));
    let answer = server.call(Method::POST, &path, &[], &bytes).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::INSUFFICIENT_STORAGE, "UNKNOWN"));
    assert!(answer.json()["errors"][0]["message"].as_str().unwrap().contains("hint: free some space"));
    assert_eq!(sim.disk().read_dir("registry/uploads").unwrap(), []);
    server.blob("a", b"small").await;
    sim.make_room();
    server.blob("a", &bytes).await;
}

#[test]
fn starts_over_what_was_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::open(Disk::real(), dir.path()).unwrap();
    drop(registry);
    std::fs::write(dir.path().join("uploads/5"), b"of nobody").unwrap();
    std::fs::write(dir.path().join(format!("uploads/{}.session", "0".repeat(32))), b"damaged").unwrap();
    Registry::open(Disk::real(), dir.path()).unwrap();
    assert_eq!(std::fs::read_dir(dir.path().join("uploads")).unwrap().count(), 0);
}

#[test]
fn refuses_a_layout_from_the_future() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("version"), b"2").unwrap();
    let error = Registry::open(Disk::real(), dir.path()).unwrap_err();
    assert!(matches!(error, Error::Version { .. }), "{error}");
}

#[test]
fn keeps_nothing_of_a_blob_that_could_not_be_synced() {
    let sim = SimDisk::new(1);
    let registry = Registry::open(sim.disk(), "registry").unwrap();
    let id = registry.start_upload("a").unwrap();
    registry.append_upload("a", &id, 0, b"hello").unwrap();
    sim.fail_next_sync();
    assert!(matches!(registry.finish_upload("a", &id, &sha256(b"hello")), Err(Error::BlobStore { .. })));
    assert!(registry.blob("a", &sha256(b"hello")).unwrap().is_none());
    assert_eq!(sim.disk().read_dir("registry/uploads").unwrap(), []);
}
