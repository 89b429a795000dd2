//! Requests a second: the hello example through the gateway, in a fresh sandbox each, beside a native server.
//!
//! Both servers run all the time and are measured in turns, so that whatever else the machine does meets both alike. The
//! load generator shares the machine with them. A second guest counts the requests of its own instance; its count must
//! be 1 every time, which shows that the sandboxes are fresh under load too.

use std::time::Duration;

use anyhow::Result;

use crate::Subject;
use crate::cluster::{Cluster, PROBE_HOST};
use crate::load::{self, Load, Target, Until};
use crate::peer::Native;
use crate::report::{Report, spread};
use crate::startup::first_answer;
use crate::stats::{Summary, percentile};

/// As many as one busy client has, and many.
const CONNECTIONS: [usize; 2] = [16, 64];
/// Before the first turn of each: caches, warm slots, the processor's clock.
const WARM_UP: Duration = Duration::from_secs(2);
/// How many answers of the counting guest are checked.
const FRESH_REQUESTS: usize = 10_000;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    subject: Subject,
    /// How many turns each server has
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How many seconds a turn takes
    #[arg(long, default_value_t = 3)]
    seconds: u64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let cluster = Cluster::start(&options.subject)?;
    cluster.deploy_hello()?;
    cluster.deploy_probe()?;
    first_answer(&cluster)?;
    let native = Native::start()?;
    let targets = [Target::hello(&cluster.gateway), Target::hello(&native.address)];
    let mut report = Report::default();
    for connections in CONNECTIONS {
        compare(options, &targets, connections, &mut report)?;
    }
    let probe = Target { address: cluster.gateway.clone(), host: PROBE_HOST.to_owned(), path: "/count", body: "1\n" };
    let fresh = load::run(&probe, CONNECTIONS[0], Until::Answers(FRESH_REQUESTS))?.latencies.len();
    report.figure(
        "fresh",
        "answers of fresh sandboxes, by their own count",
        format!("{fresh} of {fresh}"),
        fresh as f64,
        None,
    );
    report.print("throughput")
}

/// Measures both in turns.
fn compare(options: &Options, targets: &[Target; 2], connections: usize, report: &mut Report) -> Result<()> {
    for target in targets {
        load::run(target, connections, Until::Elapsed(WARM_UP))?;
    }
    let mut turns: [Vec<Load>; 2] = Default::default();
    for round in 1..=options.rounds {
        for (target, turns) in targets.iter().zip(&mut turns) {
            turns.push(load::run(target, connections, Until::Elapsed(Duration::from_secs(options.seconds)))?);
        }
        let [skiff, native] = turns.each_ref().map(|turns| turns.last().map_or(f64::NAN, Load::per_second));
        eprintln!("{connections} connections, round {round}: skiff {skiff:.0}/s, native {native:.0}/s");
    }
    let rates = turns.each_ref().map(|turns| turns.iter().map(Load::per_second).collect::<Vec<_>>());
    let ratios: Vec<f64> = rates[0].iter().zip(&rates[1]).map(|(skiff, native)| skiff / native * 100.0).collect();
    for (name, (rates, turns)) in ["skiff", "native"].into_iter().zip(rates.iter().zip(&turns)) {
        let rate = Summary::of(rates);
        let what = format!("{name}, {connections} connections");
        report.figure(&format!("{name}_{connections}"), &what, spread(rate, 0, "requests/s"), rate.median, None);
        let mut times: Vec<f64> = turns.iter().flat_map(|turn| &turn.latencies).map(Duration::as_secs_f64).collect();
        let [half, most] = [0.5, 0.99].map(|part| percentile(&mut times, part) * 1e3);
        let shown = format!("{half:.2} ms, {most:.2} ms");
        report.figure(&format!("{name}_{connections}_p99_ms"), "… an answer takes: median, 99 %", shown, most, None);
    }
    let ratio = Summary::of(&ratios);
    let what = format!("skiff of native, {connections} connections");
    report.figure(&format!("ratio_{connections}"), &what, spread(ratio, 0, "%"), ratio.median, None);
    Ok(())
}
