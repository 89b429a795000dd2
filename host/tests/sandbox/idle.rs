//! A node that serves nothing wakes nobody.

use std::time::{Duration, Instant};

use crate::support::{probe, sandbox};

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
