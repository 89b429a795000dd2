//! Many small services on one node: how long a restart takes, what they take unused, and what a first request costs.
//!
//! The services are those of [`crate::fleet`]. Once they are deployed the cluster is stopped and started again on the same
//! folder, so that nothing is loaded, and every service is asked once.

use std::time::Instant;

use anyhow::Result;

use crate::Subject;
use crate::cluster::Cluster;
use crate::fleet::{MEDIAN_BAR, P99_BAR, ask, ask_all, connect, deploy};
use crate::process;
use crate::report::{Bar, Report, megabytes};

const RESTART_BAR: Bar = Bar { below: 10.0, shown: "10 s" };
const UNUSED_BAR: Bar = Bar { below: 8192.0, shown: "8 KiB" };
const USED_BAR: Bar = Bar { below: 700e6, shown: "700 MB" };

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    subject: Subject,
    /// How many services; the bars are for 10000
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    services: u32,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let services = options.services as usize;
    let mut cluster = Cluster::start(&options.subject)?;
    let empty = process::usage(cluster.pid())?.resident_bytes;
    deploy(&cluster, services)?;

    let start = Instant::now();
    cluster.restart()?;
    // The last by name: the node answers for it only once it has taken in all before it.
    ask(&mut connect(&cluster)?, services - 1)?;
    let restart = start.elapsed();
    let unused = process::usage(cluster.pid())?.resident_bytes;

    let latencies = ask_all(&cluster, services)?;
    let used = process::usage(cluster.pid())?.resident_bytes;
    let quantile = |share: f64| latencies[((services - 1) as f64 * share) as usize];

    let mut report = Report::default();
    let seconds = restart.as_secs_f64();
    let what = format!("restart of {services} services, until the last answers");
    report.figure("restart_seconds", &what, format!("{seconds:.2} s"), seconds, Some(RESTART_BAR));
    let each = unused.saturating_sub(empty) as f64 / services as f64;
    let what = "resident memory for each service before it is used";
    report.figure("unused_bytes_each", what, format!("{each:.0} bytes"), each, Some(UNUSED_BAR));
    let what = "resident memory after each was asked once";
    report.figure("used_resident_bytes", what, megabytes(used), used as f64, Some(USED_BAR));
    for (key, name, share, bar) in [("median", "median", 0.5, MEDIAN_BAR), ("p99", "99th percentile", 0.99, P99_BAR)] {
        let value = quantile(share);
        let what = format!("first request to a service that is not loaded, {name}");
        report.figure(&format!("cold_{key}_seconds"), &what, format!("{:.2} ms", value * 1e3), value, Some(bar));
    }
    report.print("density")
}
