//! A node that serves nothing wakes nobody.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{Setup, code, probe, sandbox};

/// Several times what the clock needs to notice that nothing runs.
const QUIET: Duration = Duration::from_millis(500);

#[tokio::test]
async fn the_clock_stands_still_while_nothing_runs_and_goes_on_after() {
    let sandbox = sandbox();
    let probe = probe(&sandbox).await;
    for _ in 0..2 {
        let before = sandbox.ticks();
        assert!(tokio::time::timeout(Duration::from_millis(300), probe.get("/spin")).await.is_err());
        assert!(sandbox.ticks() > before, "a computing guest is interrupted");
        wait_for_silence(&sandbox).await;
        let silent = sandbox.ticks();
        tokio::time::sleep(QUIET).await;
        assert_eq!(sandbox.ticks(), silent);
    }
}

#[tokio::test]
async fn a_waiting_guest_does_not_keep_the_clock_going() {
    let sandbox = sandbox();
    let probe = probe(&sandbox).await;
    let waiting = probe.get("/sleep?ms=600000");
    let silence = wait_for_silence(&sandbox);
    tokio::select! {
        answer = waiting => panic!("{answer:?}"),
        () = silence => {}
    }
}

/// Guests that have ended leave their slots' memory resident. After some seconds of rest it is given back, with all code
/// that is mapped; what comes then is served as ever, also an instance that outlived it all.
#[tokio::test]
async fn a_node_at_rest_gives_back_what_its_guests_used() {
    let sandbox = sandbox();
    let code = code(&sandbox, "hostile").await;
    let hostile = Setup::default().prepare(&sandbox, &code).await.unwrap();
    let probe = probe(&sandbox).await;
    assert_eq!(sandbox.loaded().components, 2);
    // At the same time, so that each has a slot of its own.
    let holds = futures_util::future::join_all((0..12).map(|_| hostile.get("/hold?mb=3&ms=300")));
    assert!(holds.await.into_iter().all(|answer| answer.is_ok()));
    let probe = Arc::new(probe);
    let waiter = probe.clone();
    // A guest that waits is at rest as well, as long as nobody asks it: in a task of its own.
    let waiting = tokio::spawn(async move { waiter.get("/sleep?ms=20000").await });
    let start = Instant::now();
    while sandbox.loaded().components > 1 {
        assert!(start.elapsed() < Duration::from_secs(60), "nothing is given back: {:?}", sandbox.loaded());
        tokio::time::sleep(QUIET).await;
    }
    assert!(!waiting.is_finished(), "it outlives the wait");
    assert_eq!(hostile.get("/hold?mb=1&ms=1").await.unwrap().0, 200);
    assert_eq!(probe.get("/count").await.unwrap().0, 200);
    // It computes in the engine that was left, whose clock still ticks, and answers.
    assert_eq!(waiting.await.unwrap().unwrap().0, 200);
}

async fn wait_for_silence(sandbox: &skiff_host::sandbox::Sandbox) {
    let start = Instant::now();
    loop {
        let before = sandbox.ticks();
        tokio::time::sleep(QUIET).await;
        if sandbox.ticks() == before {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "the clock never stops");
    }
}
