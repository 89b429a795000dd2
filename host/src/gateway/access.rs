//! The access log: one line of JSON for each request, if the node is told to write one.
//!
//! ```text
//! {"time":"2026-05-04T10:11:12.123456Z","client":"192.0.2.7","scheme":"https","version":"HTTP/2.0","method":"GET",
//!  "host":"shop.example.com","path":"/cart","status":200,"bytes":512,"seconds":0.000412,"complete":true,
//!  "namespace":"shop","service":"cart","replica":"cart-3-x7k2p","traceparent":"00-…"}
//! ```
//! A request that another node answered has that node's id in `node`, and no replica; on that node, `from` is the one that
//! passed it on. It is off by default, as a line costs more than the gateway's other work for a request. A line is made when the answer
//! has ended; `complete` is false when it broke off, and `error` is the code of an answer that is the gateway's own. The
//! query is left out: it is where secrets are.
//!
//! Whoever serves requests never waits for a disk: lines go to a thread through a bounded queue; those that find it full
//! are dropped, and counted in `skiff_gateway_access_lines_dropped_total`. A file that was renamed is opened anew, so that
//! rotating it needs no signal.

use std::borrow::Cow;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderMap, Method, StatusCode, Version};
use jiff::Timestamp;
use serde::Serialize;
use skiff_api::id::Uid;

use super::client::Client;
use super::host::host;
use super::peer::Remote;
use super::target::Target;
use crate::metrics::Metrics;

/// Lines that may wait for the disk: half a second's at full load. With the longest paths they take 20 MiB.
const LINES_MAX: usize = 8192;
/// What is written at once.
const BATCH_BYTES_MAX: usize = 256 << 10;
/// How soon a renamed file is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Of a path; most are shorter by far, and a line should fit into a pipe's buffer.
const PATH_CHARS_MAX: usize = 2048;
/// Of a host: what DNS allows. Of a traceparent: its length is 55.
const NAME_CHARS_MAX: usize = 255;
/// How long a stop waits for the last lines.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// Where the access log is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogTo {
    Stdout,
    File(PathBuf),
}

impl Display for AccessLogTo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stdout => f.write_str("on standard output"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// Takes lines. They are written by a thread of its own, which ends with this.
#[derive(Debug)]
pub(super) struct AccessLog {
    queue: SyncSender<Message>,
    metrics: Arc<Metrics>,
}

enum Message {
    Line(Vec<u8>),
    /// Everything before this is written when it is dropped.
    Flush(SyncSender<()>),
}

impl AccessLog {
    /// Opens the file and starts the thread.
    pub(super) fn start(to: AccessLogTo, metrics: Arc<Metrics>) -> io::Result<Self> {
        let output = Output::open(to)?;
        let (queue, messages) = sync_channel(LINES_MAX);
        let writer = Writer { output, metrics: metrics.clone(), is_failing: false };
        std::thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.run(&messages))?;
        Ok(Self { queue, metrics })
    }

    fn line(&self, line: Vec<u8>) {
        if self.queue.try_send(Message::Line(line)).is_err() {
            self.metrics.access_lines_dropped(1);
        }
    }

    /// Waits until the lines so far are written, but not for ever. Blocks.
    pub(super) fn flush(&self) {
        let (sender, written) = sync_channel(0);
        if self.queue.try_send(Message::Flush(sender)).is_ok() {
            // Either way it is over.
            let _ = written.recv_timeout(FLUSH_MAX);
        }
    }
}

struct Writer {
    output: Output,
    metrics: Arc<Metrics>,
    is_failing: bool,
}

enum Output {
    Stdout,
    File { path: PathBuf, file: File, looked: Instant },
}

impl Writer {
    fn run(mut self, messages: &Receiver<Message>) {
        while let Ok(first) = messages.recv() {
            let (mut batch, mut lines, mut flushes) = (Vec::new(), 0, Vec::new());
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    Message::Line(line) => {
                        batch.extend_from_slice(&line);
                        lines += 1;
                    }
                    Message::Flush(sender) => flushes.push(sender),
                }
                next = if batch.len() < BATCH_BYTES_MAX { messages.try_recv().ok() } else { None };
            }
            match self.output.write(&batch) {
                Ok(()) => self.is_failing = false,
                Err(error) => {
                    self.metrics.access_lines_dropped(lines);
                    if !std::mem::replace(&mut self.is_failing, true) {
                        tracing::error!(%error, "failed to write the access log; its lines are dropped and counted");
                    }
                }
            }
        }
    }
}

impl Output {
    fn open(to: AccessLogTo) -> io::Result<Self> {
        Ok(match to {
            AccessLogTo::Stdout => Self::Stdout,
            AccessLogTo::File(path) => {
                let file = append_to(&path)?;
                Self::File { path, file, looked: Instant::now() }
            }
        })
    }

    fn write(&mut self, batch: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(batch)?;
                stdout.flush()
            }
            Self::File { path, file, looked } => {
                if looked.elapsed() >= LOOK_EVERY {
                    *looked = Instant::now();
                    if !is_at(file, path) {
                        *file = append_to(path)?;
                    }
                }
                file.write_all(batch)
            }
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

/// Whether the file that is open is the one that has this name.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// A line that is made while its request is served.
#[derive(Debug)]
pub(super) struct Entry {
    time: Timestamp,
    started: Instant,
    version: Version,
    method: Method,
    host: String,
    path: String,
    traceparent: Option<String>,
    status: Option<StatusCode>,
    error: Option<Cow<'static, str>>,
    bytes: u64,
    /// What the head said.
    length: Option<u64>,
    ended: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    time: Timestamp,
    client: std::net::IpAddr,
    scheme: &'a str,
    version: &'static str,
    method: &'a str,
    host: &'a str,
    path: &'a str,
    /// Missing where the client left before there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    bytes: u64,
    seconds: f64,
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replica: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
}

impl Entry {
    pub(super) fn new(parts: &Parts) -> Self {
        let cut = |text: &str, chars: usize| text.chars().take(chars).collect::<String>();
        let traceparent = parts.headers.get("traceparent").and_then(|value| value.to_str().ok());
        Self {
            time: Timestamp::now(),
            started: Instant::now(),
            version: parts.version,
            method: parts.method.clone(),
            host: cut(host(parts).unwrap_or_default(), NAME_CHARS_MAX),
            path: cut(parts.uri.path(), PATH_CHARS_MAX),
            traceparent: traceparent.map(|value| cut(value, NAME_CHARS_MAX)),
            status: None,
            error: None,
            bytes: 0,
            length: None,
            ended: false,
        }
    }

    pub(super) fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.status = Some(status);
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        self.length = length.and_then(|length| length.parse().ok());
    }

    pub(super) fn refused(&mut self, code: &'static str) {
        self.error = Some(Cow::Borrowed(code));
    }

    /// The answer is another node's own.
    pub(super) fn refused_elsewhere(&mut self, code: &str) {
        self.error = Some(Cow::Owned(code.to_owned()));
    }

    /// A piece of the body was passed on.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// The body was passed on to its end.
    pub(super) fn ended(&mut self) {
        self.ended = true;
    }

    pub(super) fn write(&self, client: &Client, target: Option<&Target>, remote: Option<&Remote>) {
        let Some(log) = &client.shared.access else { return };
        let service = target.map(|target| &target.service).or(remote.map(Remote::service));
        let line = Line {
            time: self.time,
            client: client.addr,
            scheme: if client.scheme == Scheme::HTTPS { "https" } else { "http" },
            version: match self.version {
                Version::HTTP_2 => "HTTP/2.0",
                Version::HTTP_10 => "HTTP/1.0",
                _ => "HTTP/1.1",
            },
            method: self.method.as_str(),
            host: &self.host,
            path: &self.path,
            status: self.status.map(|status| status.as_u16()),
            bytes: self.bytes,
            seconds: self.started.elapsed().as_secs_f64(),
            // A body whose length is known is not asked for its end.
            complete: self.ended || self.length == Some(self.bytes),
            error: self.error.as_deref(),
            from: client.node.as_ref().map(Uid::as_str),
            node: remote.map(|remote| remote.node().as_str()),
            namespace: service.map(|service| service.namespace.as_str()),
            service: service.map(|service| service.name.as_str()),
            replica: target.map(|target| target.replica.name.as_str()),
            traceparent: self.traceparent.as_deref(),
        };
        // Text and numbers cannot fail to be JSON.
        let mut line = serde_json::to_vec(&line).unwrap_or_default();
        line.push(b'\n');
        log.line(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_reach_the_file_also_after_it_was_renamed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, old) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
        let log = AccessLog::start(AccessLogTo::File(path.clone()), Arc::default()).unwrap();
        log.line(b"one\n".to_vec());
        log.flush();
        fs::rename(&path, &old).unwrap();
        std::thread::sleep(LOOK_EVERY);
        log.line(b"two\n".to_vec());
        log.flush();
        assert_eq!(fs::read_to_string(old).unwrap(), "one\n");
        assert_eq!(fs::read_to_string(path).unwrap(), "two\n");
    }

    #[test]
    fn a_full_queue_costs_lines_and_no_time() {
        let metrics = Arc::<Metrics>::default();
        let (queue, kept) = sync_channel(2);
        let log = AccessLog { queue, metrics: metrics.clone() };
        for _ in 0..5 {
            log.line(b"x\n".to_vec());
        }
        assert!(metrics.print().contains("skiff_gateway_access_lines_dropped_total 3\n"), "{}", metrics.print());
        drop(kept);
    }

    #[test]
    fn a_file_that_cannot_be_made_is_an_error_at_the_start() {
        let to = AccessLogTo::File("/nonexistent/access.log".into());
        assert!(AccessLog::start(to, Arc::default()).is_err());
    }
}
