//! A big blob goes through both ways in little memory. It is measured in a process of its own, where no other test runs.

use std::process::Command;

use futures_util::{StreamExt as _, stream};
use reqwest::StatusCode;
use skiff_api::Digest;
use skiff_api::digest::Algorithm;
use skiff_disk::Disk;
use skiff_registry::hash::{Hasher, sha256};
use skiff_registry::{Client, ClientOptions};

use crate::support::Server;

const CHILD: &str = "SKIFF_TEST_MEMORY_CHILD";
const PIECE: usize = 1 << 20;
const PIECES: usize = 256;
const GROWTH_MAX_KIB: u64 = 32 << 10;

#[test]
fn streams_a_big_blob_in_little_memory() {
    if std::env::var_os(CHILD).is_some() {
        return tokio::runtime::Runtime::new().unwrap().block_on(push_and_pull());
    }
    let name = "memory::streams_a_big_blob_in_little_memory";
    let child =
        Command::new(std::env::current_exe().unwrap()).args(["--exact", name]).env(CHILD, "1").output().unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && text.contains("1 passed"), "{text}");
}

async fn push_and_pull() {
    let server = Server::start().await;
    // What the first request allocates is there before the measurement.
    server.blob("a", &vec![1; 4 * PIECE]).await;
    let before = resident_kib();
    let mut hasher = Hasher::new(Algorithm::Sha256);
    (0..PIECES).for_each(|n| hasher.update(&piece(n)));
    let digest = hasher.finish();
    let body = stream::iter(0..PIECES).map(|n| Ok::<_, std::io::Error>(piece(n)));
    let url = format!("http://{}/v2/a/blobs/uploads/?digest={digest}", server.endpoint);
    let pushed = server.http.post(url).body(reqwest::Body::wrap_stream(body)).send().await.unwrap();
    assert_eq!(pushed.status(), StatusCode::CREATED);
    let url = format!("http://{}/v2/a/blobs/{digest}", server.endpoint);
    let mut answer = server.http.get(url).send().await.unwrap();
    let mut hasher = Hasher::new(Algorithm::Sha256);
    while let Some(chunk) = answer.chunk().await.unwrap() {
        hasher.update(&chunk);
    }
    assert_eq!(hasher.finish(), digest);
    pull(&server, &digest).await;
    let grown = peak_kib().saturating_sub(before);
    assert!(grown < GROWTH_MAX_KIB, "the process grew by {grown} KiB");
}

/// A part of what looks like a component to whoever reads its first bytes only, as a pull does.
fn piece(n: usize) -> Vec<u8> {
    let mut piece = vec![n as u8; PIECE];
    if n == 0 {
        piece[..8].copy_from_slice(b"\0asm\x0d\0\x01\0");
    }
    piece
}

/// As a node does it: by a manifest, through the client, into a file.
async fn pull(server: &Server, layer: &Digest) {
    let config = server.blob("a", b"{}").await;
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"a/b","digest":"{config}","size":2}},"layers":[
            {{"mediaType":"application/wasm","digest":"{layer}","size":{}}}]}}"#,
        PIECE * PIECES
    );
    assert_eq!(server.manifest("a", "1", manifest.as_bytes()).await.status, StatusCode::CREATED);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("component.wasm");
    let client = Client::new(ClientOptions::new(&server.endpoint)).unwrap();
    let to = (&Disk::real(), path.as_path());
    client.pull_component("a", &sha256(manifest.as_bytes()), to, u64::MAX, |_, _| {}).await.unwrap();
    assert_eq!(path.metadata().unwrap().len(), (PIECE * PIECES) as u64);
}

pub(crate) fn resident_kib() -> u64 {
    status("VmRSS:")
}

pub(crate) fn peak_kib() -> u64 {
    status("VmHWM:")
}

fn status(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
