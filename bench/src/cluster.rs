//! A `skiff up` of the release binary on an empty folder, driven by its own command line as a user would.
//!
//! Its log goes to a file, which an error quotes. Dropping it stops the process in order and removes its folder.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::Subject;

/// A running cluster.
pub(crate) struct Cluster {
    subject: Subject,
    args: Vec<String>,
    folder: TempDir,
    process: Child,
    /// Where services answer, `HOST:PORT`.
    pub(crate) gateway: String,
    /// Where the API answers, `HOST:PORT`.
    api: String,
}

impl Cluster {
    /// Starts one and returns when it is ready.
    pub(crate) fn start(subject: &Subject) -> Result<Self> {
        Self::start_with(subject, &[])
    }

    /// The same with more arguments.
    pub(crate) fn start_with(subject: &Subject, args: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir().context("failed to make a folder for the cluster")?;
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let process = spawn(subject, &folder, &args)?;
        let mut cluster =
            Self { subject: subject.clone(), args, folder, process, gateway: String::new(), api: String::new() };
        cluster.wait()?;
        Ok(cluster)
    }

    /// Stops it in order and starts it again on its folder.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.stop();
        self.process = spawn(&self.subject, &self.folder, &self.args)?;
        self.wait()
    }

    /// Waits until it is ready.
    fn wait(&mut self) -> Result<()> {
        let output = self.process.stdout.take().context("failed to read the cluster's output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).context("failed to read the cluster's output")?;
        let addresses =
            line.trim_end().strip_prefix("ready api=http://").and_then(|rest| rest.split_once(" gateway=http://"));
        let Some((api, gateway)) = addresses else {
            bail!("the cluster did not become ready; its log:\n{}", self.log());
        };
        (self.api, self.gateway) = (api.to_owned(), gateway.to_owned());
        Ok(())
    }

    fn stop(&mut self) {
        // It may have ended by itself, which is what the benchmark then failed with.
        if kill_process(Pid::from_child(&self.process), Signal::TERM).is_ok() {
            let _ = self.process.wait();
        }
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

    /// Pushes a guest, and runs it as `manifest` says, until it is ready.
    pub(crate) fn deploy(&self, guest: &str, manifest: &str) -> Result<()> {
        self.run(&["push", guest, &self.guest(guest)])?;
        self.apply_and_wait(manifest)
    }

    /// Applies a manifest, and waits until it is ready.
    pub(crate) fn apply_and_wait(&self, manifest: &str) -> Result<()> {
        let file = self.folder.path().join("manifest.yaml");
        fs::write(&file, manifest).context("failed to write a manifest")?;
        self.run(&["apply", "--wait", "-f", &file.to_string_lossy()])
    }

    pub(crate) fn delete(&self, service: &str) -> Result<()> {
        self.run(&["delete", "service", service])
    }

    /// Pushes a component under a name.
    pub(crate) fn push(&self, name: &str, component: &[u8]) -> Result<()> {
        let file = self.folder.path().join("component.wasm");
        fs::write(&file, component).context("failed to write a component")?;
        self.run(&["push", name, &file.to_string_lossy()])
    }

    /// Applies a manifest and does not wait.
    pub(crate) fn apply(&self, manifest: &str) -> Result<()> {
        let file = self.folder.path().join("manifest.yaml");
        fs::write(&file, manifest).context("failed to write a manifest")?;
        self.run(&["apply", "-f", &file.to_string_lossy()])
    }

    /// The sum of a metric's samples whose labels contain `label`.
    pub(crate) fn metric(&self, name: &str, label: &str) -> Result<f64> {
        let text = self.metrics()?;
        let of =
            |line: &&str| line.starts_with(name) && line[name.len()..].starts_with(['{', ' ']) && line.contains(label);
        let values = text.lines().filter(of).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Ok(values.sum())
    }

    /// The cluster's token.
    pub(crate) fn token(&self) -> Result<String> {
        let context = fs::read(self.folder.path().join("context.json")).context("failed to read the context")?;
        let context: serde_json::Value = serde_json::from_slice(&context).context("failed to read the context")?;
        Ok(context["token"].as_str().context("the context has no token")?.to_owned())
    }

    /// Where the API and the registry answer, `HOST:PORT`.
    pub(crate) fn api(&self) -> &str {
        &self.api
    }

    fn metrics(&self) -> Result<String> {
        let token = self.token()?;
        let mut stream = TcpStream::connect(&self.api).context("failed to ask for the metrics")?;
        let api = &self.api;
        // 1.0: the answer ends with the connection, and has no chunks.
        write!(stream, "GET /metrics HTTP/1.0\r\nhost: {api}\r\nauthorization: Bearer {token}\r\n\r\n")
            .context("failed to ask for the metrics")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("failed to read the metrics")?;
        if !answer.starts_with("HTTP/1.0 200") {
            bail!("the metrics were refused: {}", answer.lines().next().unwrap_or_default());
        }
        Ok(answer)
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
        self.stop();
    }
}

fn spawn(subject: &Subject, folder: &TempDir, args: &[String]) -> Result<Child> {
    let log = File::options().create(true).append(true).open(folder.path().join("log"));
    let log = log.context("failed to make the cluster's log")?;
    let mut command = skiff(&subject.skiff, folder.path());
    command.args(["up", "--listen", "127.0.0.1:0", "--gateway", "127.0.0.1:0", "--data"]);
    command.arg(folder.path().join("data")).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    command.spawn().with_context(|| format!("failed to start {}", subject.skiff.display()))
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
