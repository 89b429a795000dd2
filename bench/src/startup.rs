//! From an empty folder to the first answer, and what the cluster takes when nobody asks.
//!
//! A start is timed from before the process exists to the first 200: it includes making the folder's files, pushing the
//! component, applying its manifest, placing, compiling and loading it. The commands are the real ones, each a process.
//! The last cluster stays: it answers some thousand requests, settles, and is then watched for a minute in which nobody
//! asks.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::Subject;
use crate::cluster::Cluster;
use crate::load::{self, Target, Until};
use crate::process::{self, Usage};
use crate::report::{Bar, Report, megabytes, spread};
use crate::stats::Summary;

/// Between two attempts while the service is on its way: what the result is exact to.
const ASK_EVERY: Duration = Duration::from_millis(1);
/// A start that takes longer has failed.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Enough to fill what there is to fill: buffers, warm slots, the allocator's pages.
const REQUESTS: usize = 10_000;
const CONNECTIONS: usize = 16;
/// For what is given back after a while.
const SETTLE: Duration = Duration::from_secs(10);

const START_BAR: Bar = Bar { below: 2.0, shown: "2 s" };
const RESIDENT_BAR: Bar = Bar { below: 60e6, shown: "60 MB" };
const CPU_BAR: Bar = Bar { below: 0.1, shown: "0.1 s a minute" };
const WRITTEN_BAR: Bar = Bar { below: 1.0, shown: "1 byte" };
const FILES_BAR: Bar = Bar { below: 1.0, shown: "1 file" };

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    subject: Subject,
    /// How many times to start
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// How many seconds to watch the idle cluster; the bars are for 60
    #[arg(long, default_value_t = 60)]
    idle: u64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut report = Report::default();
    let cluster = starts(options, &mut report)?;
    idle(&cluster, Duration::from_secs(options.idle), &mut report)?;
    report.print("startup")
}

/// Starts clusters one after the other and returns the last.
fn starts(options: &Options, report: &mut Report) -> Result<Cluster> {
    let mut times: [Vec<f64>; 3] = Default::default();
    let mut last: Option<Cluster> = None;
    for number in 1..=options.runs {
        // The one before stops first: its processor time is not this one's.
        drop(last.take());
        let start = Instant::now();
        let cluster = Cluster::start(&options.subject)?;
        let ready = start.elapsed();
        cluster.deploy_hello()?;
        let applied = start.elapsed();
        first_answer(&cluster)?;
        let answered = start.elapsed();
        eprintln!("start {number}: ready {ready:.0?}, applied {applied:.0?}, answered {answered:.0?}");
        for (times, time) in times.iter_mut().zip([ready, applied, answered]) {
            times.push(time.as_secs_f64());
        }
        last = Some(cluster);
    }
    let whats = [
        ("ready", "from the start of `skiff up` until it is ready", None),
        ("applied", "… until a component is pushed and its manifest applied", None),
        ("answered", "… until the first 200 of the service", Some(START_BAR)),
    ];
    for ((key, what, bar), times) in whats.into_iter().zip(&times) {
        let seconds = Summary::of(times);
        let shown = spread(seconds.map(|seconds| seconds * 1e3), 0, "ms");
        report.figure(&format!("{key}_seconds"), what, shown, seconds.median, bar);
    }
    last.context("there was no run")
}

/// Waits until the hello example answers.
pub(crate) fn first_answer(cluster: &Cluster) -> Result<()> {
    let target = Target::hello(&cluster.gateway);
    let start = Instant::now();
    loop {
        match load::ask(&target) {
            Ok(()) => return Ok(()),
            Err(error) if start.elapsed() > ANSWER_WITHIN => {
                let log = cluster.log();
                return Err(error.context(format!("no answer after {ANSWER_WITHIN:?}; the cluster's log:\n{log}")));
            }
            Err(_) => thread::sleep(ASK_EVERY),
        }
    }
}

fn idle(cluster: &Cluster, watch: Duration, report: &mut Report) -> Result<()> {
    let usage = || process::usage(cluster.pid());
    let unused = usage()?;
    let answered = load::run(&Target::hello(&cluster.gateway), CONNECTIONS, Until::Answers(REQUESTS))?;
    let used = usage()?;
    eprintln!("{} requests answered; settling for {SETTLE:?}, then watching for {watch:?}", answered.latencies.len());
    thread::sleep(SETTLE);
    let (files_before, before) = (process::files(&cluster.data())?, usage()?);
    thread::sleep(watch);
    let (files_after, after) = (process::files(&cluster.data())?, usage()?);

    let mut memory = |key: &str, what: &str, bytes: u64, bar| {
        report.figure(key, what, megabytes(bytes), bytes as f64, bar);
    };
    memory("unused_resident_bytes", "resident memory after the first answer", unused.resident_bytes, None);
    memory("used_resident_bytes", "… right after 10,000 requests", used.resident_bytes, None);
    memory("resident_bytes", "… when idle", after.resident_bytes, Some(RESIDENT_BAR));
    memory("proportional_bytes", "… counting shared pages once", after.proportional_bytes, None);
    memory("anonymous_bytes", "… of which not from files", after.anonymous_bytes, None);
    let per_minute = Duration::from_secs(60).as_secs_f64() / watch.as_secs_f64();
    let cpu = (after.cpu.saturating_sub(before.cpu)).as_secs_f64() * per_minute;
    report.figure("cpu_seconds", "processor time when idle", format!("{cpu:.2} s a minute"), cpu, Some(CPU_BAR));
    let written = after.written_bytes - before.written_bytes;
    report.figure("written_bytes", "written when idle", format!("{written} bytes"), written as f64, Some(WRITTEN_BAR));
    let changed = files_after.iter().filter(|(path, state)| files_before.get(*path) != Some(state)).count();
    let gone = files_before.keys().filter(|path| !files_after.contains_key(*path)).count();
    let changed = changed + gone;
    report.figure("files_changed", "files changed when idle", changed.to_string(), changed as f64, Some(FILES_BAR));
    let Usage { processes, threads, .. } = after;
    report.figure("processes", "processes", processes.to_string(), processes as f64, None);
    report.figure("threads", "threads", threads.to_string(), threads as f64, None);
    Ok(())
}
