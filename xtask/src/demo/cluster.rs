//! The demo's `skiff up`: started on a fresh folder, stopped in order.
//!
//! ```text
//! signals ─┐
//!          ├──▶ events ──▶ ready, stop, wait
//! stdout  ─┘    (its end is the end of the process)
//! ```
//! The process is in a group of its own: Ctrl-C at a terminal reaches this task only, which passes it on once. Otherwise
//! the cluster would get it twice, and take the second for "stop at once". Whatever fails, dropping stops the process.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Far more than a start takes on a busy machine, and still an end to waiting.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// More than the cluster gives requests in flight before it stops anyway.
const STOP_WITHIN: Duration = Duration::from_secs(60);
/// How much of the log an error shows.
const TAIL_LINES: usize = 20;

/// What the threads report.
enum Event {
    /// A line of the cluster's standard output.
    Line(String),
    /// The cluster ended.
    Ended,
    /// Somebody wants the demo to end.
    Stop,
}

/// A running `skiff up`.
pub(super) struct Cluster {
    child: Child,
    events: Receiver<Event>,
    log: PathBuf,
    /// Where the API answers, `http://HOST:PORT`.
    pub(super) api: String,
    /// Where services answer, `http://HOST:PORT`.
    pub(super) gateway: String,
}

impl Cluster {
    /// Runs `command`, which is a `skiff up`, with its log in `log`, until it is ready.
    pub(super) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let (send, events) = mpsc::channel();
        report_signals(send.clone())?;
        let file = File::create(log).with_context(|| format!("failed to create {}", log.display()))?;
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file).process_group(0);
        let mut child = command.spawn().with_context(|| format!("failed to start {command:?}"))?;
        let stdout = child.stdout.take();
        let (api, gateway) = (String::new(), String::new());
        let mut cluster = Self { child, events, log: log.to_path_buf(), api, gateway };
        report_lines(BufReader::new(stdout.context("failed to read the cluster's output")?), send);
        (cluster.api, cluster.gateway) = cluster.ready()?;
        Ok(cluster)
    }

    fn ready(&mut self) -> Result<(String, String)> {
        loop {
            match self.events.recv_timeout(READY_WITHIN) {
                Ok(Event::Line(line)) => {
                    if let Some(addresses) = addresses(&line) {
                        return Ok(addresses);
                    }
                }
                Ok(Event::Stop) => bail!("stopped by a signal before the cluster was ready"),
                Ok(Event::Ended) => return Err(self.ended()),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    bail!("failed to start the cluster: not ready after {READY_WITHIN:?}\n{}", self.tail());
                }
            }
        }
    }

    /// Returns when somebody wants the demo to end; fails when the cluster ends before.
    pub(super) fn wait(&mut self) -> Result<()> {
        loop {
            match self.events.recv() {
                Ok(Event::Line(_)) => {}
                Ok(Event::Stop) => return Ok(()),
                Ok(Event::Ended) | Err(_) => return Err(self.ended()),
            }
        }
    }

    /// Stops the cluster in order; a second signal meanwhile stops it at once.
    pub(super) fn stop(&mut self) -> Result<()> {
        let status = self.end().context("failed to stop the cluster")?;
        // A shell's way to end is fine too: the signal may reach the process before it listens.
        if !status.success() && status.signal() != Some(SIGTERM) {
            bail!("failed to stop the cluster in order: {status}\n{}", self.tail());
        }
        Ok(())
    }

    fn end(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        loop {
            match self.events.recv_timeout(STOP_WITHIN) {
                Ok(Event::Line(_)) => {}
                Ok(Event::Ended) => break,
                Ok(Event::Stop) | Err(_) => {
                    self.child.kill()?;
                    break;
                }
            }
        }
        Ok(self.child.wait()?)
    }

    /// The error for a cluster that ended by itself.
    fn ended(&mut self) -> anyhow::Error {
        let status = match self.child.wait() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        anyhow::anyhow!("the cluster ended by itself: {status}\n{}", self.tail())
    }

    /// The end of the log.
    pub(super) fn tail(&self) -> String {
        let shown = self.log.display();
        let text = match fs::read(&self.log) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => return format!("(failed to read its log {shown}: {error})"),
        };
        let lines: Vec<&str> = text.lines().collect();
        let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
        format!("the end of its log, {shown}:\n{}", tail.join("\n"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // An error has been reported already, or will be: this is the way out.
        let _ = self.end();
    }
}

/// `HOST:PORT` to listen on: the usual one, or any when somebody has it.
pub(super) fn free_address(port: u16) -> String {
    let port = match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => port,
        Err(_) => 0,
    };
    format!("{}:{port}", Ipv4Addr::LOCALHOST)
}

/// From `ready api=URL gateway=URL`.
fn addresses(line: &str) -> Option<(String, String)> {
    let mut words = line.strip_prefix("ready ")?.split(' ');
    let mut value = |name: &str| words.next()?.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
    Some((value("api")?, value("gateway")?))
}

fn report_lines(output: impl BufRead + Send + 'static, events: Sender<Event>) {
    thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            if events.send(Event::Line(line)).is_err() {
                return;
            }
        }
        // Nobody listens any more: the demo is over.
        let _ = events.send(Event::Ended);
    });
}

fn report_signals(events: Sender<Event>) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("failed to listen for signals")?;
    thread::spawn(move || {
        for _ in signals.forever() {
            if events.send(Event::Stop).is_err() {
                return;
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_names_both_addresses() {
        let line = "ready api=http://127.0.0.1:7070 gateway=http://127.0.0.1:8080";
        assert_eq!(addresses(line), Some(("http://127.0.0.1:7070".into(), "http://127.0.0.1:8080".into())));
        assert_eq!(addresses("ready api=http://127.0.0.1:7070"), None);
        assert_eq!(addresses("steady api=a gateway=b"), None);
    }

    #[test]
    fn a_taken_port_is_not_asked_for() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert_eq!(free_address(port), "127.0.0.1:0");
        drop(taken);
        assert_eq!(free_address(port), format!("127.0.0.1:{port}"));
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_cluster_is_ready_then_stops_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        // It sleeps in short pieces: a shell that waits for a long one may miss a signal that comes just before it waits,
        // and whatever else holds its output keeps it from being over.
        let script = "trap 'echo stopping >&2; exit 0' TERM; echo ready api=a gateway=b; while :; do sleep 0.05; done";
        let mut cluster = Cluster::start(&mut shell(script), &log).unwrap();
        assert_eq!((cluster.api.as_str(), cluster.gateway.as_str()), ("a", "b"));
        cluster.stop().unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), "stopping\n");
    }

    #[test]
    fn a_cluster_that_fails_to_start_shows_its_status_and_log() {
        let dir = tempfile::tempdir().unwrap();
        let started = Cluster::start(&mut shell("echo no room >&2; exit 9"), &dir.path().join("log"));
        let error = started.err().unwrap().to_string();
        assert!(error.contains("exit status: 9") && error.ends_with("no room"), "{error}");
    }
}
