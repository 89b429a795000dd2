//! Every limit, the failure it ends in, and a guest that stays just below it.

use std::time::{Duration, Instant};

use http::StatusCode;
use http_body_util::BodyExt;
use skiff_api::quantity::Bytes;
use skiff_api::wire::Stream;
use skiff_host::sandbox::{Failure, PrepareError};

use crate::support::{Setup, code, get, probe, probe_with, sandbox, sandbox_of};

fn trap_kind(failure: &Failure) -> &'static str {
    match failure {
        Failure::Trap { kind, .. } => kind,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn memory_that_is_refused_is_seen_by_the_guest() {
    let sandbox = sandbox();
    let probe = probe(&sandbox).await;
    assert_eq!(probe.text("/alloc?mb=60").await, "touched 60 MiB\n");
    let (status, text) = probe.get("/alloc?mb=64").await.unwrap();
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert!(text.starts_with("refused: memory allocation failed"), "{text}");
}

#[tokio::test]
async fn a_guest_that_cannot_do_with_its_memory_is_told_so() {
    let sandbox = sandbox();
    let code = code(&sandbox, "probe").await;
    // The smallest limit that lets the probe start leaves it nothing to grow into.
    let mut smallest = None;
    for kibi in (0..8192).step_by(64) {
        let setup = Setup { memory: Bytes::kibi(kibi), ..Setup::default() };
        match setup.prepare(&sandbox, &code).await {
            Ok(probe) => {
                smallest = Some((kibi, probe));
                break;
            }
            Err(PrepareError::Start(failure)) => {
                assert_eq!(failure, Failure::MemoryLimit { max: Bytes::kibi(kibi), field: "instance.memory" });
            }
            Err(other) => panic!("{other}"),
        }
    }
    let (kibi, tight) = smallest.expect("8 MiB are enough to start");
    assert!(kibi > 0);
    assert_eq!(
        tight.failure("/random?n=65536").await,
        Failure::MemoryLimit { max: Bytes::kibi(kibi), field: "instance.memory" }
    );
    assert!(tight.lines(Stream::System)[0].contains("raise instance.memory"));
    let roomy = Setup { memory: Bytes::kibi(kibi + 2048), ..Setup::default() }.prepare(&sandbox, &code).await.unwrap();
    assert_eq!(roomy.text("/random?n=65536").await.len(), 131_073);
}

#[tokio::test]
async fn a_spinning_guest_is_stopped() {
    let sandbox = sandbox();
    let cpu = Duration::from_millis(300);
    let probe = probe_with(&sandbox, Setup { cpu, ..Setup::default() }).await;
    let start = Instant::now();
    let failure = probe.failure("/spin").await;
    assert_eq!(failure, Failure::CpuLimit { max: cpu });
    assert_eq!(failure.status(), StatusCode::GATEWAY_TIMEOUT);
    assert!(start.elapsed() > Duration::from_millis(250), "too early: {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(30), "too late: {:?}", start.elapsed());
    assert!(!probe.lines(Stream::System).is_empty());
}

#[tokio::test]
async fn waiting_is_not_computing() {
    let sandbox = sandbox();
    let probe = probe_with(&sandbox, Setup { cpu: Duration::from_millis(300), ..Setup::default() }).await;
    assert_eq!(probe.text("/sleep?ms=1000").await, "slept 1000 ms\n");
}

#[tokio::test]
async fn a_guest_that_fails_amid_its_body_ends_it_with_an_error() {
    let sandbox = sandbox();
    let cpu = Duration::from_millis(100);
    let probe = probe_with(&sandbox, Setup { cpu, ..Setup::default() }).await;
    let response = probe.runner.call(get("/bytes?n=1000000000000")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let mut body = response.into_body();
    let mut bytes = 0;
    let failure = loop {
        match body.frame().await.expect("the body has no regular end") {
            Ok(frame) => bytes += frame.into_data().unwrap().len(),
            Err(failure) => break failure,
        }
    };
    assert_eq!(failure, Failure::CpuLimit { max: cpu });
    assert!(bytes > 0);
    assert!(body.frame().await.is_none(), "nothing follows an error");
}

#[tokio::test]
async fn endless_recursion_ends_in_a_trap() {
    let sandbox = sandbox();
    let probe = probe(&sandbox).await;
    let failure = probe.failure("/recurse").await;
    assert_eq!(trap_kind(&failure), "stack-overflow");
    assert_eq!(failure.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(probe.text("/count").await, "1\n", "the host goes on");
}

#[tokio::test]
async fn a_panic_is_a_trap_and_its_words_are_logged() {
    let sandbox = sandbox();
    let probe = probe(&sandbox).await;
    let failure = probe.failure("/panic").await;
    assert_eq!(trap_kind(&failure), "unreachable");
    assert!(failure.is_guests_fault());
    let stderr = probe.lines(Stream::Stderr).join("\n");
    assert!(stderr.contains("the probe was asked to panic"), "{stderr}");
    let system = probe.lines(Stream::System);
    assert!(system[0].contains("unreachable"), "{system:?}");
    assert!(system.len() > 1, "there is a backtrace: {system:?}");
}

#[tokio::test]
async fn a_trap_before_anything_was_sent_is_a_failure() {
    let sandbox = sandbox();
    let probe = probe(&sandbox).await;
    assert_eq!(trap_kind(&probe.failure("/trap-after-headers").await), "unreachable");
    assert_eq!(trap_kind(&probe.failure("/trap-after-part").await), "unreachable");
}

#[tokio::test]
async fn no_response_is_a_failure() {
    let sandbox = sandbox();
    let probe = probe(&sandbox).await;
    let failure = probe.failure("/no-response").await;
    assert_eq!(failure.code(), "guest-no-response");
    assert_eq!(failure.status(), StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn one_call_for_random_bytes_is_bounded() {
    let sandbox = sandbox();
    let probe = probe(&sandbox).await;
    assert_eq!(probe.text("/random?n=65536").await.len(), 131_073);
    assert_eq!(trap_kind(&probe.failure("/random?n=65537").await), "host-call");
}

#[tokio::test]
async fn a_full_node_says_so_and_recovers() {
    let sandbox = sandbox_of(2);
    let probe = probe(&sandbox).await;
    let (one, two, three) = tokio::join!(probe.get("/sleep?ms=300"), probe.get("/sleep?ms=300"), probe.get("/count"));
    assert!(one.is_ok() && two.is_ok());
    let failure = three.unwrap_err();
    assert_eq!(failure, Failure::PoolFull);
    assert!(failure.retry_after().is_some() && !failure.is_guests_fault());
    assert!(probe.lines(Stream::System).is_empty(), "it is not the replica's doing");
    assert_eq!(probe.text("/count").await, "1\n");
}

#[tokio::test]
async fn a_flood_of_logs_slows_nobody() {
    let sandbox = sandbox();
    let probe = probe(&sandbox).await;
    let start = Instant::now();
    probe.text("/log?lines=100000").await;
    let seconds = usize::try_from(start.elapsed().as_secs()).unwrap();
    let held: usize = probe.journal.pending().iter().map(|line| line.text.len()).sum();
    assert!(held < (4 + seconds) << 20, "{held} bytes are held after {seconds} s");
}

#[tokio::test]
async fn memory_comes_back() {
    let sandbox = sandbox_of(4);
    let probe = probe(&sandbox).await;
    probe.text("/alloc?mb=1").await;
    // What stays of 60 MiB is what a slot keeps, 4 MiB. Other tests share the process and come and go, so the smallest
    // of several measurements counts.
    let start = resident_bytes();
    let mut smallest = i64::MAX;
    for _ in 0..20 {
        // It is wiped on another thread.
        while probe.get("/alloc?mb=60").await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        smallest = smallest.min(resident_bytes() - start);
    }
    assert!(smallest < 30 << 20, "{} MiB stayed", smallest >> 20);
}

fn resident_bytes() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix("kB").unwrap().trim().parse::<i64>().unwrap() * 1024
}
