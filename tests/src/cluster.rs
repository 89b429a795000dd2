//! One `skiff up`, and everything a test does to it.
//!
//! ```text
//! FOLDER/            temporary; kept when the test fails
//!   data/            --data: survives kill9, terminate and restart
//!   context.json     SKIFF_CONFIG of the cluster and of every command
//!   stderr.log       what `skiff up` logged, over all its starts
//!   …                whatever a test writes with `write`
//! ```
//! A restart takes new free ports, unless the builder says to keep them; the context and the helpers follow.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::http::{Request, Response};
use crate::places::skiff_binary;
use crate::run::Run;
use crate::wait::{PATIENCE, eventually};

/// How a cluster is started.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    args: Vec<String>,
    env: Vec<(String, String)>,
    keep_ports: bool,
    data: Option<PathBuf>,
    around: Vec<String>,
}

impl Builder {
    /// One more argument of `skiff up`.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// A variable for `skiff up` (not for the commands against it).
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A data folder elsewhere, such as on another file system.
    #[must_use]
    pub fn data(mut self, folder: &Path) -> Self {
        self.data = Some(folder.to_path_buf());
        self
    }

    /// A program, and its arguments, that becomes `skiff up` after it has prepared something; it gets the whole command
    /// behind its own arguments.
    #[must_use]
    pub fn around(mut self, program: &[&str]) -> Self {
        self.around = program.iter().map(|&part| part.to_owned()).collect();
        self
    }

    /// A restart listens where the first start did, so that clients find it again.
    #[must_use]
    pub fn keep_ports(mut self) -> Self {
        self.keep_ports = true;
        self
    }

    /// Starts it, and returns once it is ready.
    ///
    /// # Panics
    /// When it does not get ready, with what it logged.
    #[track_caller]
    pub fn start(self) -> Cluster {
        let folder = tempfile::Builder::new().prefix("skiff-test-").tempdir().expect("there is room for a folder");
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let builder = self;
        let mut cluster =
            Cluster { folder: Some(folder), builder, up: None, api: nowhere, gateway: nowhere, gateway_tls: None };
        cluster.restart();
        cluster
    }
}

/// A running `skiff up`; killed, and waited for, when dropped.
#[derive(Debug)]
pub struct Cluster {
    /// None only while it is dropped.
    folder: Option<TempDir>,
    builder: Builder,
    /// None between a stop and a restart.
    up: Option<Up>,
    api: SocketAddr,
    gateway: SocketAddr,
    gateway_tls: Option<SocketAddr>,
}

/// The process, and the lines that it prints.
#[derive(Debug)]
struct Up {
    child: Child,
    /// Behind a lock only so that threads of a test can share the cluster.
    stdout: Mutex<Receiver<String>>,
}

impl Cluster {
    /// A cluster on an empty data folder, ready to serve.
    ///
    /// # Panics
    /// When it does not get ready.
    #[track_caller]
    pub fn start() -> Self {
        Self::builder().start()
    }

    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Starts it again on the same data folder; the first start is no different.
    ///
    /// # Panics
    /// When it is running, or does not get ready.
    #[track_caller]
    pub fn restart(&mut self) {
        let log = self.start_log_len();
        self.spawn();
        let up = self.up.as_mut().expect("it was just started");
        let stdout = up.stdout.get_mut().expect("nobody panics with it");
        let line = match stdout.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("`skiff up` is not ready after {PATIENCE:?}:\n{}", self.log()),
            Err(RecvTimeoutError::Disconnected) => {
                let code = self.wait();
                panic!("`skiff up` ended with {code:?} before it was ready:\n{}", &self.log()[log..])
            }
        };
        let ready = read_ready(&line).unwrap_or_else(|| panic!("a first line that is not ready: {line:?}"));
        (self.api, self.gateway, self.gateway_tls) = ready;
    }

    /// Starts it and does not wait until it is ready, for tests that interrupt the start.
    ///
    /// # Panics
    /// When it is running.
    #[track_caller]
    pub fn spawn(&mut self) {
        assert!(self.up.is_none(), "`skiff up` is already running");
        let (api, gateway) = match self.builder.keep_ports {
            true => (self.api.to_string(), self.gateway.to_string()),
            false => ("127.0.0.1:0".to_owned(), "127.0.0.1:0".to_owned()),
        };
        let log = File::options().create(true).append(true).open(self.log_path()).expect("the log can be written");
        let mut command =
            self.command_in(&self.builder.around, &["up", "--listen", &api, "--gateway", &gateway, "--data"]);
        command.arg(self.data()).args(&self.builder.args);
        command.envs(self.builder.env.iter().map(|(name, value)| (name, value)));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().expect("skiff starts");
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let (lines, receiver) = mpsc::channel();
        // Ends with the process: then there is nothing more to read.
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
        self.up = Some(Up { child, stdout: Mutex::new(receiver) });
    }

    /// Where the API and the registry listen.
    pub fn api_addr(&self) -> SocketAddr {
        self.api
    }

    /// Where services answer.
    pub fn gateway_addr(&self) -> SocketAddr {
        self.gateway
    }

    /// Where services answer over TLS.
    ///
    /// # Panics
    /// When the cluster was started without it.
    pub fn gateway_tls_addr(&self) -> SocketAddr {
        self.gateway_tls.expect("it was started with --gateway-tls")
    }

    /// The process id of `skiff up`.
    ///
    /// # Panics
    /// When it is stopped.
    pub fn pid(&self) -> u32 {
        self.up.as_ref().expect("`skiff up` is running").child.id()
    }

    pub fn data(&self) -> PathBuf {
        self.builder.data.clone().unwrap_or_else(|| self.path("data"))
    }

    /// The admin token, as the data folder keeps it.
    ///
    /// # Panics
    /// When the file cannot be read.
    pub fn token(&self) -> String {
        fs::read_to_string(self.data().join("token")).expect("the token can be read").trim().to_owned()
    }

    /// A path in the test's own folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.as_ref().expect("only a drop takes the folder").path().join(name)
    }

    /// Writes a file into the test's own folder, and returns its path as text, ready for [`Cluster::skiff`].
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("it is in the folder")).expect("the folder can be made");
        fs::write(&path, content).expect("the file can be written");
        path.to_str().expect("temporary folders have plain names").to_owned()
    }

    /// All that `skiff up` logged so far.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).expect("the log can be read")
    }

    fn log_path(&self) -> PathBuf {
        self.path("stderr.log")
    }

    fn start_log_len(&self) -> usize {
        fs::metadata(self.log_path()).map_or(0, |log| usize::try_from(log.len()).unwrap_or_default())
    }

    /// A `skiff` command with the cluster's context and no variable of the user's, for tests that talk to it as it runs.
    /// Killing and waiting for it is the test's part.
    pub fn command(&self, args: &[&str]) -> Command {
        self.command_in(&[], args)
    }

    fn command_in(&self, around: &[String], args: &[&str]) -> Command {
        let mut command = match around {
            [] => Command::new(skiff_binary()),
            [program, its @ ..] => {
                let mut command = Command::new(program);
                command.args(its).arg(skiff_binary());
                command
            }
        };
        command.args(args);
        clean(&mut command, &self.path("."));
        command
    }

    /// Runs a command against this cluster to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn skiff(&self, args: &[&str]) -> Run {
        self.skiff_with_input(args, b"")
    }

    /// As [`Cluster::skiff`], with these bytes as standard input.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn skiff_with_input(&self, args: &[&str], input: &[u8]) -> Run {
        finish(self.command(args), args, input)
    }

    /// What the gateway answers to `GET path`.
    ///
    /// # Panics
    /// When the connection fails.
    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        Request::new(self.gateway, "GET", path).send().unwrap_or_else(|error| panic!("failed to get {path}: {error}"))
    }

    /// What the gateway answers to `GET path` for this host.
    ///
    /// # Panics
    /// When the connection fails.
    #[track_caller]
    pub fn get_host(&self, host: &str, path: &str) -> Response {
        let sent = Request::new(self.gateway, "GET", path).host(host).send();
        sent.unwrap_or_else(|error| panic!("failed to get {path} of {host}: {error}"))
    }

    /// Asks until the gateway answers `GET path` with this status.
    ///
    /// # Panics
    /// When it never does.
    #[track_caller]
    pub fn eventually_answers(&self, path: &str, status: u16) -> Response {
        let what = format!("the gateway answers {path} with {status}");
        eventually(&what, || {
            let sent = Request::new(self.gateway, "GET", path).send().ok();
            sent.filter(|response| response.status == status)
        })
    }

    /// The same of a host.
    ///
    /// # Panics
    /// When it never does.
    #[track_caller]
    pub fn eventually_answers_host(&self, host: &str, path: &str, status: u16) -> Response {
        let what = format!("the gateway answers {host}{path} with {status}");
        eventually(&what, || {
            let sent = Request::new(self.gateway, "GET", path).host(host).send().ok();
            sent.filter(|response| response.status == status)
        })
    }

    /// A request to the API or the registry, with the token.
    pub fn api(&self, method: &str, path: &str) -> Request {
        Request::new(self.api, method, path).header("authorization", &format!("Bearer {}", self.token()))
    }

    /// Ends the process as a crash does: at once, nothing written, nothing said.
    ///
    /// # Panics
    /// When it is not running.
    #[track_caller]
    pub fn kill9(&mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// Sends SIGTERM, waits, and returns the exit code.
    ///
    /// # Panics
    /// When it is not running, does not end, or printed more than the one ready line.
    #[track_caller]
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// # Panics
    /// When it is not running.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a child's id is a process id");
        kill_process(pid, signal).expect("a child may be signalled until it is waited for");
    }

    /// Waits until the process ends by itself, and returns its exit code; None when a signal ended it.
    ///
    /// # Panics
    /// When it is not running, does not end, or printed more than the one ready line.
    #[track_caller]
    pub fn wait(&mut self) -> Option<i32> {
        let mut up = self.up.take().expect("`skiff up` is running");
        let code = eventually("`skiff up` ends", || up.child.try_wait().expect("it is our child")).code();
        // The ready line was taken when it came; a start that was interrupted may have left it.
        let mut more: Vec<_> = up.stdout.get_mut().expect("nobody panics with it").iter().collect();
        more.retain(|line| read_ready(line).is_none());
        assert_eq!(more, Vec::<String>::new(), "`skiff up` prints one line");
        code
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut up) = self.up.take() {
            // Neither can fail in a way that matters: it is our child, and it is gone.
            drop(up.child.kill());
            drop(up.child.wait());
        }
        if let Some(folder) = self.folder.take()
            && thread::panicking()
        {
            eprintln!("kept {}", folder.keep().display());
        }
    }
}

/// A command of a test: its context, and nothing else of the user, is in the test's own folder.
pub fn clean(command: &mut Command, folder: &Path) {
    command.env("SKIFF_CONFIG", folder.join("context.json"));
    // The user's own choices must not decide a test. The width is that of a terminal, for usage texts.
    for name in ["SKIFF_SERVER", "SKIFF_TOKEN", "SKIFF_CA", "SKIFF_LOG"] {
        command.env_remove(name);
    }
    for name in ["RUST_LOG", "RUST_BACKTRACE", "REGISTRY_AUTH_FILE"] {
        command.env_remove(name);
    }
    // Nor the user's logins.
    command.env_remove("XDG_RUNTIME_DIR").env("XDG_CONFIG_HOME", folder.join("config"));
    command.env("DOCKER_CONFIG", folder.join("docker"));
    command.env("COLUMNS", "100").current_dir(folder);
}

/// Runs a command to its end; `args` are for messages.
///
/// # Panics
/// When it cannot be started.
#[track_caller]
pub fn finish(mut command: Command, args: &[&str], input: &[u8]) -> Run {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("skiff starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    thread::scope(|scope| {
        // Whoever does not read it all has its reasons: the test looks at what it says.
        scope.spawn(move || drop(stdin.write_all(input)));
        let output = child.wait_with_output().expect("it is our child");
        Run::new(args.join(" "), &output)
    })
}

/// The addresses in `ready api=http://ADDR gateway=http://ADDR`, which is the whole line, but for ` gateway-tls=https://ADDR`
/// at its end where that was asked for.
fn read_ready(line: &str) -> Option<(SocketAddr, SocketAddr, Option<SocketAddr>)> {
    let (api, gateway) = line.strip_prefix("ready api=http://")?.split_once(" gateway=http://")?;
    let (gateway, tls) = match gateway.split_once(" gateway-tls=https://") {
        Some((gateway, tls)) => (gateway, Some(tls.parse().ok()?)),
        None => (gateway, None),
    };
    Some((api.parse().ok()?, gateway.parse().ok()?, tls))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_ready_line_and_no_other() {
        let (api, gateway, tls) = read_ready("ready api=http://127.0.0.1:1 gateway=http://127.0.0.1:2").unwrap();
        assert_eq!((api.port(), gateway.port(), tls), (1, 2, None));
        let line = "ready api=http://127.0.0.1:1 gateway=http://127.0.0.1:2 gateway-tls=https://127.0.0.1:3";
        assert_eq!(read_ready(line).unwrap().2.unwrap().port(), 3);
        assert_eq!(read_ready("ready api=http://127.0.0.1:1 gateway=http://127.0.0.1:2 and more"), None);
        assert_eq!(read_ready("listening"), None);
    }
}
