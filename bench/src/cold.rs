//! A first request to a service that is not loaded: what stands between a sleeping service and its answer.
//!
//! The services are those of [`crate::fleet`]: small, and each with machine code of its own. Their code is compiled and on
//! disk. The cluster is restarted before each round, so that its process has loaded none of it, and then every service is
//! asked once, one request at a time on a connection that has been used before.

use anyhow::Result;

use crate::Subject;
use crate::cluster::Cluster;
use crate::fleet::{MEDIAN_BAR, P99_BAR, ask, ask_all, connect, deploy};
use crate::report::{Report, spread};
use crate::stats::Summary;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    subject: Subject,
    /// How many services are asked; the bars are for 1000
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    services: u32,
    /// How many times all of them are asked, after a restart each time
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let services = options.services as usize;
    let mut cluster = Cluster::start(&options.subject)?;
    // One more than is measured: it says that the node is ready.
    deploy(&cluster, services + 1)?;
    let mut quantiles: [Vec<f64>; 3] = Default::default();
    for round in 1..=options.rounds {
        cluster.restart()?;
        ask(&mut connect(&cluster)?, services)?;
        let latencies = ask_all(&cluster, services)?;
        let at = |share: f64| latencies.get(((services - 1) as f64 * share) as usize).copied().unwrap_or(f64::NAN);
        let [median, p99, worst] = [0.5, 0.99, 1.0].map(at);
        eprintln!("round {round}: {:.2} ms, {:.2} ms, {:.2} ms", median * 1e3, p99 * 1e3, worst * 1e3);
        quantiles.iter_mut().zip([median, p99, worst]).for_each(|(all, one)| all.push(one));
    }
    let mut report = Report::default();
    let whats =
        [("median", "median", Some(MEDIAN_BAR)), ("p99", "99th percentile", Some(P99_BAR)), ("worst", "worst", None)];
    for ((key, name, bar), values) in whats.into_iter().zip(&quantiles) {
        let seconds = Summary::of(values);
        let what = format!("first request to each of {services} services that are not loaded, {name}");
        let shown = spread(seconds.map(|seconds| seconds * 1e3), 2, "ms");
        report.figure(&format!("cold_{key}_seconds"), &what, shown, seconds.median, bar);
    }
    report.print("cold")
}
