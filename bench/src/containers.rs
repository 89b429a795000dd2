//! One service as a component and as a container, side by side: start to the first 200, memory when idle, requests a second.
//!
//! The container is this program's own native server with the libraries that it needs and nothing else, the component the
//! hello example. Both are applied with the same manifest but for the image, run behind the same gateway, and are measured
//! in turns. Images are there before anything is timed: the component is compiled, the engine has unpacked its layers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::Subject;
use crate::apply::until_answered;
use crate::cluster::Cluster;
use crate::load::{self, Target, Until};
use crate::process;
use crate::report::{Report, megabytes, spread};
use crate::stats::Summary;

/// The port of the native server in its container.
const PORT: u16 = 8080;
const CONNECTIONS: usize = 64;
const WARM_UP: Duration = Duration::from_secs(1);
/// After the last request, for what is given back.
const SETTLE: Duration = Duration::from_secs(10);
/// How long a container may take to be gone.
const GONE_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    subject: Subject,
    /// Where the Docker engine listens
    #[arg(long, value_name = "SOCKET", default_value = "/var/run/docker.sock")]
    docker: PathBuf,
    /// How many starts of each
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// How many replicas of each are there when memory is measured
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    replicas: u32,
    /// How many turns of requests each has
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How many seconds a turn takes
    #[arg(long, default_value_t = 3)]
    seconds: u64,
}

/// What runs a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Component,
    Container,
}

const KINDS: [Kind; 2] = [Kind::Component, Kind::Container];

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Component => "component",
            Self::Container => "container",
        }
    }

    fn manifest(self, service: &str, replicas: u32) -> String {
        let image = match self {
            Self::Component => "image: hello\n".to_owned(),
            Self::Container => format!("image: native\nports: [{{port: {PORT}}}]\n"),
        };
        format!("kind: Service\nname: {service}\nreplicas: {replicas}\n{image}")
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let engine = Engine { socket: options.docker.clone() };
    let version = engine.docker(&["version", "--format", "{{.Server.Version}}"], None).context(
        "failed to ask the Docker engine (hint: install docker.io, start `dockerd`, or name another one's socket with `-- --docker`)",
    )?;
    let cluster = Cluster::start_with(&options.subject, &[&format!("--docker={}", options.docker.display())])?;
    cluster.deploy("hello", &Kind::Component.manifest("first-component", 1))?;
    engine.push_native(&cluster)?;
    cluster.apply_and_wait(&Kind::Container.manifest("first-container", 1))?;
    cluster.delete("first-component")?;
    cluster.delete("first-container")?;
    engine.until_none_runs()?;

    let mut report = Report::default();
    starts(options, &cluster, &engine, &mut report)?;
    memory(options, &cluster, &engine, &mut report)?;
    requests(options, &cluster, &mut report)?;
    eprintln!("engine: Docker {}", version.trim());
    report.print("containers")
}

fn host(service: &str) -> String {
    format!("{service}.default.localhost")
}

fn starts(options: &Options, cluster: &Cluster, engine: &Engine, report: &mut Report) -> Result<()> {
    let mut times: [Vec<f64>; 2] = Default::default();
    for number in 1..=options.runs {
        for (kind, times) in KINDS.into_iter().zip(&mut times) {
            let service = format!("{}-{number}", kind.name());
            let target = Target { host: host(&service), ..Target::hello(&cluster.gateway) };
            let start = Instant::now();
            let asker = std::thread::spawn(move || until_answered(&target, start));
            cluster.apply(&kind.manifest(&service, 1))?;
            let took = asker.join().ok().context("the client failed")?;
            let took =
                took.with_context(|| format!("{service} never answered; the cluster's log:\n{}", cluster.log()))?;
            eprintln!("{service}: answered after {took:.1?}");
            times.push(took.as_secs_f64());
            cluster.delete(&service)?;
            engine.until_none_runs()?;
        }
    }
    for (kind, times) in KINDS.into_iter().zip(&times) {
        let seconds = Summary::of(times);
        let shown = spread(seconds.map(|seconds| seconds * 1e3), 1, "ms");
        let what = format!("{}: from before `skiff apply` to the first 200", kind.name());
        report.figure(&format!("{}_start_seconds", kind.name()), &what, shown, seconds.median, None);
    }
    let ratios: Vec<f64> = times[1].iter().zip(&times[0]).map(|(container, component)| container / component).collect();
    report.ratio("start_ratio", "… container over component", Summary::of(&ratios), None);
    Ok(())
}

/// What a replica adds to all processes that it needs: the node's, or its own and the one that holds it for the engine.
fn memory(options: &Options, cluster: &Cluster, engine: &Engine, report: &mut Report) -> Result<()> {
    let node = || process::usage(cluster.pid()).map(|usage| usage.proportional_bytes);
    let each = |bytes: u64| bytes / u64::from(options.replicas);
    for kind in KINDS {
        let before = node()?;
        let service = format!("many-{}", kind.name());
        cluster.apply_and_wait(&kind.manifest(&service, options.replicas))?;
        let target = Target { host: host(&service), ..Target::hello(&cluster.gateway) };
        load::run(&target, CONNECTIONS, Until::Answers(10_000))?;
        std::thread::sleep(SETTLE);
        let own = each(node()?.saturating_sub(before));
        let outside = engine.memory()?;
        ensure!((outside > 0) == (kind == Kind::Container), "the engine's processes take {outside} bytes");
        let bytes = own + each(outside);
        let what = format!("{}: memory of a replica when idle, of {}", kind.name(), options.replicas);
        report.figure(&format!("{}_bytes", kind.name()), &what, megabytes(bytes), bytes as f64, None);
        cluster.delete(&service)?;
        engine.until_none_runs()?;
    }
    Ok(())
}

fn requests(options: &Options, cluster: &Cluster, report: &mut Report) -> Result<()> {
    for kind in KINDS {
        cluster.apply_and_wait(&kind.manifest(kind.name(), 1))?;
    }
    let targets = KINDS.map(|kind| Target { host: host(kind.name()), ..Target::hello(&cluster.gateway) });
    for target in &targets {
        load::run(target, CONNECTIONS, Until::Elapsed(WARM_UP))?;
    }
    let mut rates: [Vec<f64>; 2] = Default::default();
    for round in 1..=options.rounds {
        for ((target, rates), kind) in targets.iter().zip(&mut rates).zip(KINDS) {
            let rate =
                load::run(target, CONNECTIONS, Until::Elapsed(Duration::from_secs(options.seconds)))?.per_second();
            eprintln!("round {round}: {} {rate:.0}/s", kind.name());
            rates.push(rate);
        }
    }
    for (kind, rates) in KINDS.into_iter().zip(&rates) {
        let rate = Summary::of(rates);
        let what = format!("{}: requests a second, {CONNECTIONS} connections", kind.name());
        report.figure(&format!("{}_rate", kind.name()), &what, spread(rate, 0, "/s"), rate.median, None);
    }
    let ratios: Vec<f64> = rates[0].iter().zip(&rates[1]).map(|(component, container)| component / container).collect();
    report.ratio("rate_ratio", "… component over container", Summary::of(&ratios), None);
    Ok(())
}

/// The engine, by its own command line.
struct Engine {
    socket: PathBuf,
}

impl Engine {
    fn docker(&self, args: &[&str], config: Option<&Path>) -> Result<String> {
        let mut command = Command::new("docker");
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        command.arg("-H").arg(format!("unix://{}", self.socket.display())).args(args).stdin(Stdio::null());
        let output = command.output().context("failed to start docker (hint: install docker.io)")?;
        if !output.status.success() {
            bail!(
                "`docker {}` failed: {}",
                args.first().unwrap_or(&""),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// This program and the libraries that it is linked with, as an image in the cluster's registry.
    fn push_native(&self, cluster: &Cluster) -> Result<()> {
        let folder = tempfile::tempdir().context("failed to make a folder for an image")?;
        let root = folder.path().join("root");
        let program = std::env::current_exe().context("failed to find this program's file")?;
        for file in libraries(&program)? {
            let to = root.join(file.strip_prefix("/").unwrap_or(&file));
            fs::create_dir_all(to.parent().unwrap_or(&root)).context("failed to make an image's folder")?;
            fs::copy(&file, &to).with_context(|| format!("failed to copy {}", file.display()))?;
        }
        fs::copy(&program, root.join("native")).context("failed to copy this program")?;
        let (tar, config) = (folder.path().join("image.tar"), folder.path().join("docker"));
        let packed = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".").status();
        ensure!(packed.context("failed to start tar")?.success(), "tar failed");
        let (image, token) = (format!("{}/default/native", cluster.api()), cluster.token()?);
        let entry = format!("ENTRYPOINT [\"/native\",\"native\",\"--listen\",\"0.0.0.0:{PORT}\"]");
        let tar = tar.to_string_lossy().into_owned();
        self.docker(&["import", "--change", &entry, &tar, &image], None)?;
        self.docker(&["login", cluster.api(), "--username", "bench", "--password", &token], Some(&config))?;
        self.docker(&["push", &image], Some(&config))?;
        self.docker(&["rmi", &image], None).map(drop)
    }

    /// The processes of Skiff's containers.
    fn processes(&self) -> Result<Vec<u32>> {
        let ids = self.docker(&["ps", "--quiet", "--filter", "label=skiff.node"], None)?;
        let mut args = vec!["inspect", "--format", "{{.State.Pid}}"];
        args.extend(ids.lines());
        if args.len() == 3 {
            return Ok(Vec::new());
        }
        let pids = self.docker(&args, None)?;
        Ok(pids.lines().filter_map(|pid| pid.trim().parse().ok()).filter(|pid| *pid > 0).collect())
    }

    /// What the containers and the processes that hold them take, one for each.
    fn memory(&self) -> Result<u64> {
        let mut holders = BTreeSet::new();
        for pid in self.processes()? {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).context("failed to look at a container")?;
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse::<u32>().ok());
            holders.insert(parent.context("failed to find who holds a container")?);
        }
        holders.into_iter().map(|pid| process::usage(pid).map(|usage| usage.proportional_bytes)).sum()
    }

    fn until_none_runs(&self) -> Result<()> {
        let start = Instant::now();
        while !self.docker(&["ps", "--all", "--quiet", "--filter", "label=skiff.node"], None)?.is_empty() {
            ensure!(start.elapsed() < GONE_WITHIN, "a container is still there");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// What a program is linked with, its loader included.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("failed to start ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    // `name => /path (address)`, and `/path (address)` for the loader.
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(text.lines().filter_map(path).collect())
}
