//! Instances that serve several requests, where a service asks for it.

use std::time::Duration;

use skiff_api::wire::Stream;

use crate::support::{Replica, Setup, probe_with, sandbox};

async fn reusing(requests: u32, idle: Duration) -> Replica {
    probe_with(&sandbox(), Setup { requests, idle, ..Setup::default() }).await
}

/// Longer than any test.
const LONG: Duration = Duration::from_secs(600);

async fn count(probe: &Replica) -> u32 {
    probe.text("/count").await.trim().parse().unwrap()
}

#[tokio::test]
async fn one_instance_serves_one_request_after_another() {
    let probe = reusing(1000, LONG).await;
    for served in 1..=20 {
        assert_eq!(count(&probe).await, served);
    }
    let usage = probe.runner.usage();
    assert_eq!((usage.started(), usage.reused()), (2, 19), "the first one only showed that it starts");
}

#[tokio::test]
async fn an_instance_ends_between_half_of_its_requests_and_all() {
    let probe = reusing(8, LONG).await;
    let mut highest = 0;
    let mut lives = Vec::new();
    for _ in 0..200 {
        let served = count(&probe).await;
        if served == 1 && highest > 0 {
            lives.push(highest);
        }
        highest = served;
    }
    assert!(lives.iter().all(|served| (4..=8).contains(served)), "{lives:?}");
    let first = lives[0];
    assert!(lives.iter().any(|served| *served != first), "the number varies: {lives:?}");
}

#[tokio::test]
async fn concurrent_requests_have_instances_of_their_own() {
    let probe = reusing(1000, LONG).await;
    tokio::join!(probe.text("/sleep?ms=200"), probe.text("/sleep?ms=200"), async {
        assert_eq!(count(&probe).await, 1);
    });
    assert_eq!(probe.runner.usage().started(), 4);
}

#[tokio::test]
async fn what_went_wrong_is_not_used_again() {
    let probe = reusing(1000, LONG).await;
    for bad in ["/panic", "/recurse", "/trap-after-part", "/alloc?mb=64", "/no-response"] {
        assert_eq!(count(&probe).await, 1, "before {bad}");
        assert_eq!(count(&probe).await, 2);
        let _ = probe.get(bad).await;
        assert_eq!(count(&probe).await, 1, "after {bad}");
        // Ends this one as well.
        probe.failure("/panic").await;
    }
    assert_eq!(count(&probe).await, 1);
    assert!(tokio::time::timeout(Duration::from_millis(50), probe.get("/sleep?ms=60000")).await.is_err());
    assert_eq!(count(&probe).await, 1, "who was cancelled had the instance");
}

#[tokio::test]
async fn processor_time_is_counted_for_each_request() {
    let cpu = Duration::from_millis(400);
    let probe = probe_with(&sandbox(), Setup { requests: 1000, idle: LONG, cpu, ..Setup::default() }).await;
    let mut used = Duration::ZERO;
    while used < 3 * cpu {
        probe.text("/log?lines=20000").await;
        used = probe.runner.usage().cpu();
    }
    assert!(probe.runner.usage().reused() > 0, "no request used up the time of another");
}

#[tokio::test]
async fn an_idle_instance_ends() {
    let probe = reusing(1000, Duration::from_millis(100)).await;
    assert_eq!(count(&probe).await, 1);
    assert_eq!(count(&probe).await, 2);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        if count(&probe).await == 1 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "it never ends");
    }
}

#[tokio::test]
async fn a_line_without_an_end_is_not_continued_by_the_next_request() {
    let probe = reusing(1000, LONG).await;
    probe.text("/log?lines=1").await;
    let lines = probe.lines(Stream::Stdout).len();
    probe.text("/log?lines=1").await;
    assert_eq!(probe.lines(Stream::Stdout).len(), 2 * lines);
    assert_eq!(probe.runner.usage().reused(), 1);
}
