//! Guests beside each other on one thread.

use std::time::{Duration, Instant};

use skiff_host::sandbox::Failure;

use crate::support::{Setup, probe, probe_with, sandbox};

/// A current-thread runtime: the spinning guest and the quick ones share one core, and only yields let the latter run.
#[tokio::test(flavor = "current_thread")]
async fn a_spinning_guest_does_not_stop_its_neighbours() {
    let sandbox = sandbox();
    let cpu = Duration::from_secs(2);
    let probe = probe_with(&sandbox, Setup { cpu, ..Setup::default() }).await;
    let spinning = async {
        let failure = probe.failure("/spin").await;
        (failure, Instant::now())
    };
    let quick = async {
        for _ in 0..20 {
            probe.text("/count").await;
            tokio::task::yield_now().await;
        }
        Instant::now()
    };
    let ((failure, spun), done) = tokio::join!(spinning, quick);
    assert_eq!(failure, Failure::CpuLimit { max: cpu });
    // Twenty quick requests wait for one tick each, 0.2 s together, while the spinning one has two seconds.
    assert!(done < spun, "the quick ones were done {:?} after the spinning one", done - spun);
}

/// Sixty guests that compute, on the threads that are left over; a quick one is not the sixty-first in a queue.
#[tokio::test(flavor = "current_thread")]
async fn many_spinning_guests_delay_a_quick_one_by_no_more_than_a_moment() {
    let sandbox = sandbox();
    let (hog, quick) = (probe(&sandbox).await, probe(&sandbox).await);
    let spinning = futures_util::future::join_all((0..60).map(|_| hog.get("/spin")));
    let measured = async {
        // Long enough for the clock to have caught them all.
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut took = Vec::new();
        for _ in 0..100 {
            let start = Instant::now();
            quick.text("/count").await;
            took.push(start.elapsed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        took.sort();
        took
    };
    let took = tokio::select! {
        took = measured => took,
        _ = spinning => panic!("guests that spin ended"),
    };
    // Sixty slices would be 60 ms even if each took only one.
    assert!(took[50] < Duration::from_millis(20), "median {:?}, worst {:?}", took[50], took[99]);
}
