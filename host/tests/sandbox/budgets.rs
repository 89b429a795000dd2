//! What the instances of a replica, and of a node, may use together.

use std::time::{Duration, Instant};

use http::StatusCode;
use http_body_util::BodyExt;
use skiff_api::quantity::{Bytes, MilliCpu};
use skiff_api::resource::ReplicaLimits;
use skiff_host::sandbox::{Body, Failure, PrepareError, Sandbox, SandboxOptions};

use crate::support::{Replica, Setup, code, get, probe, probe_with, sandbox};

fn memory(max: Bytes) -> ReplicaLimits {
    ReplicaLimits { memory: Some(max), ..ReplicaLimits::default() }
}

/// What `/alloc?mb=10` takes, all in all.
async fn ten_mebi() -> Bytes {
    let probe = probe(&sandbox()).await;
    probe.text("/alloc?mb=10").await;
    Bytes(probe.runner.usage().memory_bytes_max())
}

/// A guest that lives until its body is dropped.
async fn holder(probe: &Replica) -> Body {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut body = loop {
        match probe.runner.call(get("/bytes?n=1000000000000")).await {
            // What has just ended still has its memory.
            Err(Failure::NodeMemory) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            answer => break answer.unwrap().into_body(),
        }
    };
    assert!(body.frame().await.unwrap().is_ok());
    body
}

/// What a probe that cannot have its ten mebibytes says.
async fn is_refused(probe: &Replica) -> bool {
    let (status, text) = match probe.get("/alloc?mb=10").await {
        // What has just ended still has its memory.
        Err(Failure::NodeMemory) => return true,
        answer => answer.unwrap(),
    };
    status == StatusCode::BAD_GATEWAY && text.starts_with("refused: ")
}

/// What is dropped comes back soon.
async fn until_it_fits(probe: &Replica) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while is_refused(probe).await {
        assert!(Instant::now() < deadline, "the memory does not come back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn instances_share_their_replicas_memory() {
    let max = ten_mebi().await;
    let probe = probe_with(&sandbox(), Setup { memory: max, limits: memory(max), ..Setup::default() }).await;
    until_it_fits(&probe).await;
    // Until such an outlier is forgotten, another instance would wait for as much.
    for _ in 0..100 {
        probe.text("/count").await;
    }
    let body = holder(&probe).await;
    assert!(is_refused(&probe).await, "another instance has some of it");
    drop(body);
    until_it_fits(&probe).await;
    assert_eq!(probe.runner.usage().memory_bytes_max(), max.0);
}

#[tokio::test]
async fn a_request_waits_until_there_is_memory_for_its_instance() {
    let max = Bytes::mebi(64);
    let probe = probe_with(&sandbox(), Setup { limits: memory(max), ..Setup::default() }).await;
    probe.text("/alloc?mb=50").await;
    // Two of these do not fit beside each other, and none of them fails.
    let get = || probe.text("/alloc?mb=50");
    let (one, two, three, four) = tokio::join!(get(), get(), get(), get());
    for text in [one, two, three, four] {
        assert_eq!(text, "touched 50 MiB\n");
    }
    assert!(probe.runner.usage().memory_bytes_max() <= max.0);
}

#[tokio::test]
async fn a_node_has_only_so_much_for_all() {
    let max = ten_mebi().await;
    let sandbox = Sandbox::start(SandboxOptions { instances_max: 96, memory: Some(max) }).unwrap();
    let choice = &sandbox.report().choices["guest-memory"];
    assert!(choice.starts_with("11 MiB (") || choice.starts_with("10 MiB ("), "{choice}");
    let (one, two) = (probe(&sandbox).await, probe(&sandbox).await);
    until_it_fits(&two).await;
    for _ in 0..100 {
        // Who has just ended may still have some.
        let _ = two.get("/count").await;
    }
    let body = holder(&one).await;
    assert!(is_refused(&two).await, "the other replica has some of it");
    drop(body);
    until_it_fits(&two).await;

    let hog = Sandbox::start(SandboxOptions { instances_max: 96, memory: Some(Bytes::kibi(64)) }).unwrap();
    let code = code(&hog, "probe").await;
    let refused = Setup::default().prepare(&hog, &code).await.err().expect("64 KiB are not enough for anyone");
    assert!(matches!(refused, PrepareError::Start(Failure::NodeMemory)), "{refused}");
    assert_eq!(Failure::NodeMemory.code(), "node-memory");
}

#[tokio::test]
async fn a_replica_keeps_to_its_share_of_the_processor() {
    let limits = ReplicaLimits { cpu: Some(MilliCpu(200)), ..ReplicaLimits::default() };
    let probe = probe_with(&sandbox(), Setup { limits, ..Setup::default() }).await;
    let start = Instant::now();
    let before = probe.runner.usage().cpu();
    let spin = || tokio::time::timeout(Duration::from_secs(4), probe.get("/spin"));
    let (one, two, three) = tokio::join!(spin(), spin(), spin());
    assert!(one.is_err() && two.is_err() && three.is_err(), "none of them has used up its time");
    let (used, took) = (probe.runner.usage().cpu() - before, start.elapsed());
    let share = used.as_secs_f64() / took.as_secs_f64();
    // On a busy machine a guest gets less: how much of its share it gets is the benchmark's business.
    assert!(share > 0.0 && share <= 0.25, "{used:?} in {took:?}");
}

#[tokio::test]
async fn without_a_share_a_guest_has_what_the_node_can_spare() {
    let probe = probe_with(&sandbox(), Setup::default()).await;
    let before = probe.runner.usage().cpu();
    assert!(tokio::time::timeout(Duration::from_secs(2), probe.get("/spin")).await.is_err());
    assert!(probe.runner.usage().cpu() > before, "it is counted");
}
