//! A client that goes away takes its guest with it.

use std::time::Duration;

use http_body_util::BodyExt;
use skiff_host::sandbox::Failure;

use crate::support::{Replica, get, probe, sandbox_of};

#[tokio::test]
async fn dropping_a_call_stops_a_computing_guest() {
    let sandbox = sandbox_of(1);
    let probe = probe(&sandbox).await;
    let cut = tokio::time::timeout(Duration::from_millis(50), probe.get("/spin")).await;
    assert!(cut.is_err(), "the guest spins");
    until_free(&probe).await;
}

/// The only instance is wiped on another thread.
async fn until_free(probe: &Replica) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        match probe.get("/count").await {
            Ok(answer) => return assert_eq!(answer.1, "1\n"),
            Err(failure) => assert_eq!(failure, Failure::PoolFull),
        }
        assert!(tokio::time::Instant::now() < deadline, "the instance stays in use");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn dropping_a_call_stops_a_waiting_guest() {
    let sandbox = sandbox_of(1);
    let probe = probe(&sandbox).await;
    assert!(tokio::time::timeout(Duration::from_millis(20), probe.get("/sleep?ms=600000")).await.is_err());
    until_free(&probe).await;
}

#[tokio::test]
async fn dropping_a_body_stops_its_guest() {
    let sandbox = sandbox_of(1);
    let probe = probe(&sandbox).await;
    let mut body = probe.runner.call(get("/bytes?n=1000000000000")).await.unwrap().into_body();
    assert!(body.frame().await.unwrap().is_ok());
    assert_eq!(probe.get("/count").await.unwrap_err(), Failure::PoolFull, "the guest is alive while it is read");
    drop(body);
    until_free(&probe).await;
}
