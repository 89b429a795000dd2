//! A `skiff up` of the release binary on an empty folder, driven by its own command line as a user would.
//!
//! Its log goes to a file, which an error quotes. Dropping it stops the process in order and removes its folder.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::Subject;

/// A running cluster.
pub(crate) struct Cluster {
    subject: Subject,
    folder: TempDir,
    process: Child,
    /// Where services answer, `HOST:PORT`.
    pub(crate) gateway: String,
}

impl Cluster {
    /// Starts one and returns when it is ready.
    pub(crate) fn start(subject: &Subject) -> Result<Self> {
        let folder = tempfile::tempdir().context("failed to make a folder for the cluster")?;
        let log = File::create(folder.path().join("log")).context("failed to make the cluster's log")?;
        let mut command = skiff(&subject.skiff, folder.path());
        command.args(["up", "--listen", "127.0.0.1:0", "--gateway", "127.0.0.1:0", "--data"]);
        command.arg(folder.path().join("data")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let process = command.spawn().with_context(|| format!("failed to start {}", subject.skiff.display()))?;
        let mut cluster = Self { subject: subject.clone(), folder, process, gateway: String::new() };
        let output = cluster.process.stdout.take().context("failed to read the cluster's output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).context("failed to read the cluster's output")?;
        match line.trim_end().split_once(" gateway=http://") {
            Some((_, gateway)) => cluster.gateway = gateway.to_owned(),
            None => bail!("the cluster did not become ready; its log:\n{}", cluster.log()),
        }
        Ok(cluster)
    }

    /// Pushes the hello example and applies its manifest as it is, which takes every path of the gateway.
    pub(crate) fn deploy_hello(&self) -> Result<()> {
        self.run(&["push", "hello", &self.guest("hello")])?;
        self.run(&["apply", "-f", &self.subject.manifest.to_string_lossy()])
    }

    /// Pushes the guest that tells fresh sandboxes from used ones, and runs it under [`PROBE_HOST`].
    pub(crate) fn deploy_probe(&self) -> Result<()> {
        self.run(&["push", "probe", &self.guest("probe")])?;
        self.run(&["run", "probe"])
    }

    fn guest(&self, name: &str) -> String {
        self.subject.guests.join(format!("{name}.wasm")).to_string_lossy().into_owned()
    }

    fn run(&self, args: &[&str]) -> Result<()> {
        let output = skiff(&self.subject.skiff, self.folder.path()).args(args).output();
        let output = output.with_context(|| format!("failed to start {}", self.subject.skiff.display()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("`skiff {}` failed with {}: {}\nthe log:\n{}", args.join(" "), output.status, said, self.log());
        }
        Ok(())
    }

    /// The process that everything but compiling runs in.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The cluster's data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

/// The host that `skiff run probe` answers under.
pub(crate) const PROBE_HOST: &str = "probe.default.localhost";

impl Drop for Cluster {
    fn drop(&mut self) {
        // It may have ended by itself, which is what the benchmark then failed with.
        if kill_process(Pid::from_child(&self.process), Signal::TERM).is_ok() {
            let _ = self.process.wait();
        }
    }
}

/// A command of this cluster and no other.
fn skiff(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("SKIFF_CONFIG", folder.join("context.json"));
    for variable in ["SKIFF_SERVER", "SKIFF_TOKEN", "SKIFF_LOG"] {
        command.env_remove(variable);
    }
    command
}
