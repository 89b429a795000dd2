//! Requests a second: the hello example through the gateway, in a fresh sandbox each, beside peers.
//!
//! All servers run all the time and are measured in turns, so that whatever else the machine does meets all alike. The
//! load generator shares the machine with them. A second guest counts the requests of its own instance; its count must
//! be 1 every time, which shows that the sandboxes are fresh under load too, and must pass 1 where reuse is asked for,
//! which shows that this is what was measured. The cluster's own counters must have moved by exactly what was asked.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::Subject;
use crate::cluster::{Cluster, PROBE_HOST};
use crate::load::{self, Load, Target, Until};
use crate::peer::{Native, WasmtimeServe};
use crate::report::{Report, spread};
use crate::startup::first_answer;
use crate::stats::{Summary, percentile};

/// As many as one busy client has, and many.
const CONNECTIONS: [usize; 2] = [16, 64];
/// Before the first turn of each: caches, warm slots, the processor's clock.
const WARM_UP: Duration = Duration::from_secs(2);
/// How many answers of the counting guest are checked.
const FRESH_REQUESTS: usize = 10_000;
/// What the cluster counts its answers under.
const ANSWERS: &str = "skiff_gateway_responses_total";

/// Hello again, with instances that serve many requests.
const REUSED: &str = "kind: Service\nname: reused\nimage: hello\ninstance: {requests: 10000}\n";
/// Hello in JavaScript.
const JAVASCRIPT: &str = "kind: Service\nname: hello-js\nimage: hello-js\n";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    subject: Subject,
    /// The program of wasmtime, to compare with `wasmtime serve`; without it neither it nor JavaScript is measured
    #[arg(long, value_name = "FILE")]
    wasmtime: Option<PathBuf>,
    /// How many turns each server has
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How many seconds a turn takes
    #[arg(long, default_value_t = 3)]
    seconds: u64,
}

/// A server under load.
struct Contender {
    name: &'static str,
    target: Target,
}

/// One contender's rate over another's.
struct Ratio {
    key: &'static str,
    of: &'static str,
    to: &'static str,
    must: Option<f64>,
}

const RUST_RATIOS: [Ratio; 3] = [
    Ratio { key: "fresh_to_native", of: "skiff fresh", to: "native", must: Some(0.40) },
    Ratio { key: "reused_to_native", of: "skiff reused", to: "native", must: Some(0.65) },
    Ratio { key: "fresh_to_wasmtime", of: "skiff fresh", to: "wasmtime serve", must: Some(4.5) },
];

const JAVASCRIPT_RATIOS: [Ratio; 1] =
    [Ratio { key: "js_to_wasmtime", of: "skiff js", to: "wasmtime serve js", must: Some(2.0) }];

pub(crate) fn run(options: &Options) -> Result<()> {
    let cluster = Cluster::start(&options.subject)?;
    cluster.deploy_hello()?;
    cluster.deploy_probe()?;
    cluster.deploy("hello", REUSED)?;
    first_answer(&cluster)?;
    let before = cluster.metric(ANSWERS, "2xx")?;
    let gateway = |host: &str| Target { host: host.to_owned(), ..Target::hello(&cluster.gateway) };
    let native = Native::start()?;
    let mut rust = vec![
        Contender { name: "skiff fresh", target: Target::hello(&cluster.gateway) },
        Contender { name: "skiff reused", target: gateway("reused.default.localhost") },
        Contender { name: "native", target: Target::hello(&native.address) },
    ];
    let mut report = Report::default();
    let mut asked = 0;
    let peers = match &options.wasmtime {
        None => None,
        Some(program) => {
            cluster.deploy("hello-js", JAVASCRIPT)?;
            let [hello, js] = ["hello.wasm", "hello-js.wasm"].map(|name| options.subject.guests.join(name));
            Some([WasmtimeServe::start(program, &hello)?, WasmtimeServe::start(program, &js)?])
        }
    };
    if let Some([hello, _]) = &peers {
        rust.push(Contender { name: "wasmtime serve", target: Target::hello(&hello.address) });
    }
    for connections in CONNECTIONS {
        asked += compare(options, &rust, &RUST_RATIOS, connections, &mut report)?;
    }
    if let Some([_, js]) = &peers {
        let contenders = [
            Contender { name: "skiff js", target: gateway("hello-js.default.localhost") },
            Contender { name: "wasmtime serve js", target: Target::hello(&js.address) },
        ];
        asked += compare(options, &contenders, &JAVASCRIPT_RATIOS, CONNECTIONS[0], &mut report)?;
    }
    let probe =
        Target { address: cluster.gateway.clone(), host: PROBE_HOST.to_owned(), path: "/count".into(), body: "1\n" };
    let fresh = load::run(&probe, CONNECTIONS[0], Until::Answers(FRESH_REQUESTS))?.latencies.len();
    let shown = format!("{fresh} of {fresh}");
    report.figure("fresh", "answers of fresh sandboxes, by their own count", shown, fresh as f64, None);
    asked += fresh;
    let counted = cluster.metric(ANSWERS, "2xx")? - before;
    ensure!(counted == asked as f64, "{asked} requests were answered, and the cluster's metrics count {counted}");
    report.print("throughput")
}

/// Measures all in turns. Returns how many answers the cluster's own gave.
fn compare(
    options: &Options,
    contenders: &[Contender],
    ratios: &[Ratio],
    connections: usize,
    report: &mut Report,
) -> Result<usize> {
    let mut asked = 0;
    let mut count = |contender: &Contender, load: &Load| {
        asked += if contender.name.starts_with("skiff") { load.latencies.len() } else { 0 };
    };
    for contender in contenders {
        count(contender, &load::run(&contender.target, connections, Until::Elapsed(WARM_UP))?);
    }
    let mut turns: Vec<Vec<Load>> = contenders.iter().map(|_| Vec::new()).collect();
    for round in 1..=options.rounds {
        for (contender, turns) in contenders.iter().zip(&mut turns) {
            let load = load::run(&contender.target, connections, Until::Elapsed(Duration::from_secs(options.seconds)))?;
            count(contender, &load);
            eprintln!("{connections} connections, round {round}: {} {:.0}/s", contender.name, load.per_second());
            turns.push(load);
        }
    }
    let rates: Vec<Vec<f64>> = turns.iter().map(|turns| turns.iter().map(Load::per_second).collect()).collect();
    for ((contender, rates), turns) in contenders.iter().zip(&rates).zip(&turns) {
        let rate = Summary::of(rates);
        let key = contender.name.replace(' ', "_");
        let what = format!("{}, {connections} connections", contender.name);
        report.figure(&format!("{key}_{connections}"), &what, spread(rate, 0, "requests/s"), rate.median, None);
        let mut times: Vec<f64> = turns.iter().flat_map(|turn| &turn.latencies).map(Duration::as_secs_f64).collect();
        let [half, most] = [0.5, 0.99].map(|part| percentile(&mut times, part) * 1e3);
        let shown = format!("{half:.2} ms, {most:.2} ms");
        report.figure(&format!("{key}_{connections}_p99_ms"), "… an answer takes: median, 99 %", shown, most, None);
    }
    let at = |name: &str| contenders.iter().position(|contender| contender.name == name);
    for ratio in ratios {
        let (Some(of), Some(to)) = (at(ratio.of), at(ratio.to)) else { continue };
        // Turn by turn: what else the machine did then met both.
        let values: Vec<f64> = rates[of].iter().zip(&rates[to]).map(|(of, to)| of / to).collect();
        let what = format!("{} of {}, {connections} connections", ratio.of, ratio.to);
        report.ratio(&format!("{}_{connections}", ratio.key), &what, Summary::of(&values), ratio.must);
    }
    Ok(asked)
}
