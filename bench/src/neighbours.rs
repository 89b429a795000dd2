//! What noisy neighbours cost: hello's answers while other services on the same node do their worst.
//!
//! Hello gets a fixed rate of requests, well below what it could take, sent by the clock and not when the last answer
//! came (an open loop): a late answer delays no later request, and counts from when its request was due. First alone, then
//! beside one service that spins, one that allocates to its limit and one that floods its log.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::Subject;
use crate::cluster::Cluster;
use crate::load::{self, Load, Target, Until};
use crate::process;
use crate::report::{Bar, Report, megabytes};
use crate::startup::first_answer;
use crate::stats::percentile;

/// Of what hello answers when it gets as many requests as it can take.
const RATE_PART: f64 = 0.3;
const CONNECTIONS: usize = 16;
/// How long its capacity is measured.
const CAPACITY_TIME: Duration = Duration::from_secs(3);
/// What may be added to the quiet 99 %.
const ADDED_MAX_MS: f64 = 5.0;

/// What is given back is given back some seconds after the last request.
const REST: Duration = Duration::from_secs(20);
const KEPT_BAR: Bar = Bar { below: 1.1, shown: "10 % more" };

/// The neighbours, all of the probe guest: name, what each of its clients asks for, and how many clients ask.
const NOISE: [(&str, &str, usize); 3] =
    [("spinner", "/spin", 8), ("hoarder", "/alloc?mb=60", 2), ("chatter", "/log?lines=100000", 2)];

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    subject: Subject,
    /// How many seconds hello is watched, quiet and noisy
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let cluster = Cluster::start(&options.subject)?;
    cluster.deploy_hello()?;
    for (name, ..) in NOISE {
        cluster.deploy("probe", &format!("kind: Service\nname: {name}\nimage: probe\n"))?;
    }
    first_answer(&cluster)?;
    let unused = process::usage(cluster.pid())?.resident_bytes;
    let target = Target::hello(&cluster.gateway);
    let capacity = load::run(&target, CONNECTIONS, Until::Elapsed(CAPACITY_TIME))?.per_second();
    let rate = capacity * RATE_PART;
    let time = Duration::from_secs(options.seconds);
    let watch = |what: &str| -> Result<Load> {
        let load = load::open_loop(&target, CONNECTIONS, rate, time)?;
        eprintln!("{what}: {} answers in {:.1} s", load.latencies.len(), load.took.as_secs_f64());
        Ok(load)
    };
    let quiet = watch("quiet")?;
    let noise = Noise::start(&cluster.gateway);
    let noisy = watch("noisy")?;
    let noises = noise.stop();
    let used = process::usage(cluster.pid())?.resident_bytes;
    std::thread::sleep(REST);
    let rested = process::usage(cluster.pid())?.resident_bytes;
    let mut report = Report::default();
    report.figure("rate", "hello's requests", format!("{rate:.0}/s, 30 % of {capacity:.0}/s"), rate, None);
    let mut figures = |key: &str, what: &str, load: &Load| {
        let mut times: Vec<f64> = load.latencies.iter().map(Duration::as_secs_f64).collect();
        let [half, most] = [0.5, 0.99].map(|part| percentile(&mut times, part) * 1e3);
        let shown = format!("{half:.2} ms, {most:.2} ms, {:.2} ms", percentile(&mut times, 1.0) * 1e3);
        report.figure(&format!("{key}_p99_ms"), &format!("{what}: median, 99 %, worst"), shown, most, None);
        most
    };
    let added = -figures("quiet", "alone", &quiet) + figures("noisy", "beside the neighbours", &noisy);
    let bar = Bar { below: ADDED_MAX_MS, shown: "5 ms" };
    report.figure("added_ms", "the 99 % that neighbours add", format!("{added:.2} ms"), added, Some(bar));
    report.figure("noises", "the neighbours' requests that ended meanwhile", noises.to_string(), noises as f64, None);
    let what = "resident memory before the load, right after it, and after 20 s without requests";
    let shown = [unused, used, rested].map(megabytes).join(", ");
    report.figure("rested_resident_bytes", what, shown, rested as f64, None);
    let kept = rested as f64 / unused as f64;
    let shown = format!("{:+.1} %", (kept - 1.0) * 100.0);
    report.figure("rested_to_unused", "… what of it stays", shown, kept, Some(KEPT_BAR));
    report.print("neighbours")
}

/// Clients of the neighbours, each on a thread of its own. How they are answered is of no interest here.
struct Noise {
    stop: Arc<AtomicBool>,
    ended: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

impl Noise {
    fn start(gateway: &str) -> Self {
        let (stop, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut clients = Vec::new();
        for (name, path, count) in NOISE {
            for _ in 0..count {
                let (stop, ended, gateway) = (stop.clone(), ended.clone(), gateway.to_owned());
                clients.push(std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        if ask(&gateway, name, path).is_ok() {
                            ended.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }));
            }
        }
        Self { stop, ended, clients }
    }

    /// How many of their requests came to an end.
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            // A client that failed has ended, too.
            let _ = client.join();
        }
        self.ended.load(Ordering::Relaxed)
    }
}

fn ask(gateway: &str, name: &str, path: &str) -> Result<()> {
    let mut stream = TcpStream::connect(gateway).context("failed to connect")?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {name}.default.localhost\r\nconnection: close\r\n\r\n")
        .context("failed to ask")?;
    stream.read_to_end(&mut Vec::new()).context("failed to read an answer")?;
    Ok(())
}
