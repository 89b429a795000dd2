//! Guests beside each other on one thread.

use std::time::{Duration, Instant};

use skiff_host::sandbox::Failure;

use crate::support::{Setup, probe_with, sandbox};

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
