//! From `skiff apply` to the first 200, of a component that the node has compiled before.
//!
//! A first service makes the node pull and compile the component. Then services of other names with the same image are
//! applied, one after the other, each timed from before the process of `skiff apply` exists until the service answers.
//! The service is asked all the time on connections of their own, and counts from its first 200.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::Subject;
use crate::cluster::Cluster;
use crate::load::{self, Target};
use crate::report::{Bar, Report, spread};
use crate::stats::Summary;

/// Between two attempts: what the result is exact to.
const ASK_EVERY: Duration = Duration::from_millis(1);
/// A service that takes longer has failed.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

const APPLY_BAR: Bar = Bar { below: 0.1, shown: "100 ms" };

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    subject: Subject,
    /// How many services to apply
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let cluster = Cluster::start(&options.subject)?;
    cluster.deploy("hello", "kind: Service\nname: first\nimage: hello\n")?;
    let (mut applied, mut answered) = (Vec::new(), Vec::new());
    for number in 1..=options.runs {
        let name = format!("again{number}");
        let manifest = format!("kind: Service\nname: {name}\nimage: hello\n");
        let target = Target { host: format!("{name}.default.localhost"), ..Target::hello(&cluster.gateway) };
        let start = Instant::now();
        let asker = std::thread::spawn(move || until_answered(&target, start));
        cluster.apply(&manifest)?;
        applied.push(start.elapsed().as_secs_f64());
        let took = asker.join().ok().context("the client failed")?;
        let took = took.with_context(|| format!("{name} never answered; the cluster's log:\n{}", cluster.log()))?;
        eprintln!("{name}: applied after {:.1?}, answered after {took:.1?}", start.elapsed());
        answered.push(took.as_secs_f64());
    }
    let mut report = Report::default();
    for (key, what, times, bar) in [
        ("applied", "until `skiff apply` has ended", &applied, None),
        ("answered", "until the first 200 of the service", &answered, Some(APPLY_BAR)),
    ] {
        let seconds = Summary::of(times);
        let what = format!("from before `skiff apply` of a component that is compiled, {what}");
        let shown = spread(seconds.map(|seconds| seconds * 1e3), 1, "ms");
        report.figure(&format!("{key}_seconds"), &what, shown, seconds.median, bar);
    }
    report.print("apply")
}

/// How long after `start` the service answered.
pub(crate) fn until_answered(target: &Target, start: Instant) -> Result<Duration> {
    loop {
        // Until the service is there, its host is nobody's: a 404.
        match load::ask(target) {
            Ok(()) => return Ok(start.elapsed()),
            Err(error) if start.elapsed() > ANSWER_WITHIN => bail!(error),
            Err(_) => std::thread::sleep(ASK_EVERY),
        }
    }
}
