//! Many small services on one node, each with machine code of its own ([`crate::tiny`]), and how to ask them.
//!
//! They are pushed and applied by the command line, as a user would. An answer counts only with the service's own number
//! in it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cluster::Cluster;
use crate::report::Bar;
use crate::tiny;

/// What a first request to one that is not loaded may take.
pub(crate) const MEDIAN_BAR: Bar = Bar { below: 1e-3, shown: "1 ms" };
pub(crate) const P99_BAR: Bar = Bar { below: 5e-3, shown: "5 ms" };

/// Services in one file: the API takes some hundred kilobytes at once.
const APPLIED_AT_ONCE: usize = 500;

/// A prime, so that steps of it visit every service once unless their number is a multiple of it.
const STEP: usize = 7919;

/// Compiling takes some ten milliseconds of a core for each.
const DEPLOYED_WITHIN: Duration = Duration::from_secs(3600);

/// What the cluster counts its answers under.
const ANSWERS: &str = "skiff_gateway_responses_total";

/// Pushes and applies so many services, and waits until all of them answer.
pub(crate) fn deploy(cluster: &Cluster, services: usize) -> Result<()> {
    let start = Instant::now();
    let mut manifest = String::new();
    for number in 0..services {
        let name = name(number);
        cluster.push(&name, &tiny::component(number)?)?;
        manifest.push_str(&format!("kind: Service\nname: {name}\nimage: {name}\n---\n"));
        if (number + 1) % APPLIED_AT_ONCE == 0 || number + 1 == services {
            cluster.apply(&manifest)?;
            manifest.clear();
            eprintln!("{} applied after {:.0?}", number + 1, start.elapsed());
        }
    }
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
    eprintln!("{services} services deployed in {:.0?}", start.elapsed());
    Ok(())
}

/// Asks every service once, in an order that is not that of their names, one request at a time on one connection. Returns
/// how long each answer took, in seconds, sorted. The cluster's own count must have moved by exactly as many.
pub(crate) fn ask_all(cluster: &Cluster, services: usize) -> Result<Vec<f64>> {
    let before = cluster.metric(ANSWERS, "2xx")?;
    let mut latencies = Vec::with_capacity(services);
    let mut stream = connect(cluster)?;
    for turn in 0..services {
        let number = turn.wrapping_mul(STEP) % services;
        let start = Instant::now();
        ask(&mut stream, number)?;
        latencies.push(start.elapsed().as_secs_f64());
    }
    let counted = cluster.metric(ANSWERS, "2xx")? - before;
    if counted != services as f64 {
        bail!("{services} services were asked, and the cluster's metrics count {counted} answers");
    }
    latencies.sort_unstable_by(f64::total_cmp);
    Ok(latencies)
}

fn name(number: usize) -> String {
    format!("tiny{number:05}")
}

pub(crate) fn connect(cluster: &Cluster) -> Result<TcpStream> {
    let stream = TcpStream::connect(&cluster.gateway).context("failed to connect to the gateway")?;
    stream.set_nodelay(true).context("failed to set up a connection")?;
    Ok(stream)
}

/// One request, whose answer must be the service's own.
pub(crate) fn ask(stream: &mut TcpStream, number: usize) -> Result<()> {
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
