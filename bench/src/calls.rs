//! What a call from one service to another on the same node costs, beside the same call over loopback HTTP.
//!
//! ```text
//! client ── gateway ── probe: N calls, one after the other ──┬── http://hello.default.internal/   (a function call)
//!                                                            └── http://GATEWAY/                  (loopback HTTP)
//! ```
//! One request makes the probe guest call hello many times; the same request with no calls is taken off, and the rest is
//! divided by the number of calls. Of that, the time in which hello's own guest ran, from its start to its answer, is what
//! calling the handler directly takes: the cluster's metrics have it. What remains is what the call adds, the caller's own
//! work for it included. Both ways are measured in turns. Every called answer must be a 200 with hello's own bytes.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::Subject;
use crate::cluster::{Cluster, PROBE_HOST};
use crate::load::{self, Target, Until};
use crate::report::{Bar, Report, spread};
use crate::startup::first_answer;
use crate::stats::Summary;

/// Calls of one request: some milliseconds of work, against which a request's own cost is small.
const CALLS: usize = 100;
/// What the probe says when all calls were answered as they should.
const ALL: &str = "100 calls\n";
const NONE: &str = "0 calls\n";

/// What the cluster counts of hello.
const ANSWERS: &str = "skiff_replica_responses_total";
const GUEST_SECONDS: &str = "skiff_replica_cpu_seconds_total";

const ADDED_BAR: Bar = Bar { below: 20e-6, shown: "20 µs" };
const PART_BAR: Bar = Bar { below: 0.2, shown: "1/5" };

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    subject: Subject,
    /// How many turns each way has
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How many requests a turn takes, of 100 calls each
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    requests: u32,
}

/// One way of calling.
struct Way {
    key: &'static str,
    what: &'static str,
    path: String,
    added: Vec<f64>,
    handler: Vec<f64>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let cluster = Cluster::start(&options.subject)?;
    cluster.deploy_hello()?;
    // Loopback is nobody's by default.
    let own = format!("http://{}", cluster.gateway);
    let namespace = format!("kind: Namespace\nname: default\nallow: {{services: [\"*\"], http: [\"*\", \"{own}\"]}}\n");
    let allow = format!("allow: {{services: [hello], http: [\"{own}\"]}}");
    cluster.deploy("probe", &format!("{namespace}---\nkind: Service\nname: probe\nimage: probe\n{allow}\n"))?;
    first_answer(&cluster)?;
    let way = |key, what, url: &str| Way {
        key,
        what,
        path: format!("/calls?n={CALLS}&url={url}"),
        added: Vec::new(),
        handler: Vec::new(),
    };
    let mut ways = [
        way("local", "a call to a service on the same node", "http://hello.default.internal/"),
        way("loopback", "the same call over loopback HTTP", &format!("http://{}/", cluster.gateway)),
    ];
    let requests = options.requests as usize;
    for round in 0..=options.rounds {
        let none = each(&cluster, "/calls?n=0&url=http://hello.default.internal/", NONE, requests)?;
        for way in &mut ways {
            let count = || -> Result<[f64; 2]> {
                let of = |name| cluster.metric(name, "service=\"hello\"");
                Ok([of(ANSWERS)?, of(GUEST_SECONDS)?])
            };
            let [answers, seconds] = count()?;
            let all = each(&cluster, &way.path, ALL, requests)?;
            let [answers, seconds] = count().map(|[a, s]| [a - answers, s - seconds])?;
            let calls = (requests * CALLS) as f64;
            ensure!(answers == calls, "{calls} calls were answered, and the cluster's metrics count {answers}");
            let (took, handler) = (all.saturating_sub(none).as_secs_f64() / CALLS as f64, seconds / answers);
            eprintln!("round {round}: {}: {:.1} µs, of which hello {:.1} µs", way.what, took * 1e6, handler * 1e6);
            // The first round warms up.
            if round > 0 {
                way.added.push(took - handler);
                way.handler.push(handler);
            }
        }
    }
    let mut report = Report::default();
    let micros = |values: &[f64]| spread(Summary::of(values).map(|seconds| seconds * 1e6), 1, "µs");
    for (way, bar) in ways.iter().zip([Some(ADDED_BAR), None]) {
        let Way { key, what, added, handler, .. } = way;
        let median = |values: &[f64]| Summary::of(values).median;
        let shown = micros(handler);
        report.figure(
            &format!("{key}_handler_seconds"),
            &format!("{what}: hello itself"),
            shown,
            median(handler),
            None,
        );
        let what = format!("{what}: added to that");
        report.figure(&format!("{key}_added_seconds"), &what, micros(added), median(added), bar);
    }
    let [local, loopback] = &ways;
    let parts: Vec<f64> = local.added.iter().zip(&loopback.added).map(|(local, loopback)| local / loopback).collect();
    let part = Summary::of(&parts);
    report.figure(
        "local_to_loopback",
        "… of what loopback HTTP adds",
        spread(part, 3, ""),
        part.median,
        Some(PART_BAR),
    );
    report.print("calls")
}

/// How long one request takes.
fn each(cluster: &Cluster, path: &str, body: &'static str, requests: usize) -> Result<Duration> {
    let (address, host, path) = (cluster.gateway.clone(), PROBE_HOST.to_owned(), path.to_owned());
    let target = Target { address, host, path: path.into(), body };
    let load = load::run(&target, 1, Until::Answers(requests))?;
    Ok(load.took / u32::try_from(requests)?)
}
