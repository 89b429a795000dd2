//! Compiled files: shared when sound, refused when not.

use std::fs;
use std::path::PathBuf;

use skiff_host::compile::Limits;
use skiff_host::sandbox::LoadError;
use tempfile::TempDir;

use crate::support::{Setup, compiler, guest, sandbox};

async fn compiled() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hello.cwasm");
    compiler(Limits::default()).compile(&guest("hello"), &path).await.unwrap();
    (dir, path)
}

/// As a node replaces files: never in place.
fn replace(path: &PathBuf, data: &[u8]) {
    let other = path.with_extension("other");
    fs::write(&other, data).unwrap();
    fs::rename(&other, path).unwrap();
}

#[tokio::test]
async fn a_damaged_file_is_refused_also_after_it_was_sound() {
    let (_dir, path) = compiled().await;
    let sound = fs::read(&path).unwrap();
    let sandbox = sandbox();
    let code = sandbox.load(&path).unwrap();
    for at in [0, sound.len() / 2, sound.len() - 1] {
        let mut damaged = sound.clone();
        damaged[at] ^= 1;
        replace(&path, &damaged);
        let error = sandbox.load(&path).err().expect("it is damaged");
        assert!(matches!(error, LoadError::Damaged { .. }), "byte {at}: {error}");
    }
    for length in [0, 1, sound.len() / 2, sound.len() - 1] {
        replace(&path, &sound[..length]);
        assert!(matches!(sandbox.load(&path), Err(LoadError::Damaged { .. })), "cut at {length}");
    }
    replace(&path, &sound);
    sandbox.load(&path).unwrap();
    drop(code);
}

#[tokio::test]
async fn a_missing_file_is_named() {
    let error = sandbox().load("/nowhere/at-all.cwasm".as_ref()).err().unwrap();
    assert!(error.to_string().contains("/nowhere/at-all.cwasm"), "{error}");
}

#[tokio::test]
async fn a_file_is_mapped_once_and_unmapped_when_nobody_uses_it() {
    let (_dir, path) = compiled().await;
    let mappings = || {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let name = path.to_str().unwrap();
        maps.lines().filter(|line| line.ends_with(name)).count()
    };
    let sandbox = sandbox();
    let code = sandbox.load(&path).unwrap();
    assert_eq!(mappings(), 0, "nobody needs it yet");
    let one = Setup::default().prepare(&sandbox, &code).await.unwrap();
    let mapped = mappings();
    assert!(mapped > 0);
    let two = Setup::default().prepare(&sandbox, &sandbox.known(&path)).await.unwrap();
    assert_eq!((mappings(), sandbox.loaded().components), (mapped, 1));
    drop((code, one, two));
    assert_eq!((mappings(), sandbox.loaded().components), (0, 0));
}

#[tokio::test]
async fn a_replica_that_was_proven_before_loads_with_its_first_request() {
    let (_dir, path) = compiled().await;
    let sandbox = sandbox();
    let replica = Setup::default().unproven(&sandbox, &sandbox.known(&path));
    assert_eq!(sandbox.loaded().components, 0);
    // All at once, and it is loaded once.
    let answers = futures_util::future::join_all((0..20).map(|_| replica.get("/"))).await;
    assert!(answers.into_iter().all(|answer| answer.unwrap().0 == 200));
    assert_eq!((sandbox.loaded().components, sandbox.loaded().loads), (1, 1));
}

#[tokio::test]
async fn code_that_is_gone_costs_a_request_and_says_so() {
    let (_dir, path) = compiled().await;
    let sandbox = sandbox();
    let replica = Setup::default().unproven(&sandbox, &sandbox.known(&path));
    let sound = fs::read(&path).unwrap();
    replace(&path, &sound[..sound.len() / 2]);
    assert_eq!(replica.failure("/").await.code(), "code-unavailable");
    replace(&path, &sound);
    assert_eq!(replica.get("/").await.unwrap().0, 200);
}
