//! Many small services on one node: how long a restart takes, what they take unused, and what a first request costs.
//!
//! Every service has machine code of its own ([`crate::tiny`]). They are pushed and applied by the command line; then the
//! cluster is stopped and started again on the same folder, so that nothing is loaded, and every service is asked once,
//! in an order that is not that of their names, one request at a time on one connection. An answer counts only with the
//! service's own number in it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::Subject;
use crate::cluster::Cluster;
use crate::process;
use crate::report::{Bar, Report, megabytes};
use crate::tiny;

/// Services in one file: the API takes some hundred kilobytes at once.
const APPLIED_AT_ONCE: usize = 500;

/// A prime, so that steps of it visit every service once unless their number is a multiple of it.
const STEP: usize = 7919;

/// Compiling takes some ten milliseconds of a core for each.
const DEPLOYED_WITHIN: Duration = Duration::from_secs(3600);

const RESTART_BAR: Bar = Bar { below: 10.0, shown: "10 s" };
const UNUSED_BAR: Bar = Bar { below: 8192.0, shown: "8 KiB" };
const USED_BAR: Bar = Bar { below: 700e6, shown: "700 MB" };
const MEDIAN_BAR: Bar = Bar { below: 1e-3, shown: "1 ms" };
const P99_BAR: Bar = Bar { below: 5e-3, shown: "5 ms" };

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
    let start = Instant::now();
    deploy(&cluster, services)?;
    eprintln!("{services} services deployed in {:.0?}", start.elapsed());

    let start = Instant::now();
    cluster.restart()?;
    // The last by name: the node answers for it only once it has taken in all before it.
    ask(&mut connect(&cluster)?, services - 1)?;
    let restart = start.elapsed();
    let unused = process::usage(cluster.pid())?.resident_bytes;

    let mut latencies = Vec::with_capacity(services);
    let mut stream = connect(&cluster)?;
    for turn in 0..services {
        let number = turn.wrapping_mul(STEP) % services;
        let start = Instant::now();
        ask(&mut stream, number)?;
        latencies.push(start.elapsed().as_secs_f64());
    }
    let used = process::usage(cluster.pid())?.resident_bytes;
    latencies.sort_unstable_by(f64::total_cmp);
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

/// Pushes and applies every service, and waits until the last of them answer.
fn deploy(cluster: &Cluster, services: usize) -> Result<()> {
    let mut manifest = String::new();
    for number in 0..services {
        let name = name(number);
        cluster.push(&name, &tiny::component(number)?)?;
        manifest.push_str(&format!("kind: Service\nname: {name}\nimage: {name}\n---\n"));
        if (number + 1) % APPLIED_AT_ONCE == 0 || number + 1 == services {
            cluster.apply(&manifest)?;
            manifest.clear();
            eprintln!("{} applied", number + 1);
        }
    }
    let start = Instant::now();
    let mut stream = connect(cluster)?;
    for number in 0..services {
        while let Err(error) = ask(&mut stream, number) {
            if start.elapsed() > DEPLOYED_WITHIN {
                return Err(error.context(format!("not deployed in time; the cluster's log:\n{}", cluster.log())));
            }
            std::thread::sleep(Duration::from_millis(100));
            stream = connect(cluster)?;
        }
    }
    Ok(())
}

fn name(number: usize) -> String {
    format!("tiny{number:05}")
}

fn connect(cluster: &Cluster) -> Result<TcpStream> {
    let stream = TcpStream::connect(&cluster.gateway).context("failed to connect to the gateway")?;
    stream.set_nodelay(true).context("failed to set up a connection")?;
    Ok(stream)
}

/// One request, whose answer must be the service's own.
fn ask(stream: &mut TcpStream, number: usize) -> Result<()> {
    let request = format!("GET / HTTP/1.1\r\nhost: {}.default.localhost\r\n\r\n", name(number));
    stream.write_all(request.as_bytes()).context("failed to ask")?;
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    // There is no body: the head is all of it.
    while !answer.ends_with(b"\r\n\r\n") {
        let bytes = stream.read(&mut chunk).context("failed to read an answer")?;
        if bytes == 0 {
            break;
        }
        answer.extend_from_slice(&chunk[..bytes]);
        if answer.starts_with(b"HTTP/1.1 ") && !answer.starts_with(b"HTTP/1.1 200") {
            break;
        }
    }
    let text = String::from_utf8_lossy(&answer);
    let own = format!("{}: {number}", tiny::HEADER);
    match text.starts_with("HTTP/1.1 200") && text.lines().any(|line| line == own) {
        true => Ok(()),
        false => bail!("{} answered {text}", name(number)),
    }
}
