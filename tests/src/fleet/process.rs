//! A process of the product that says when it is ready.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::{PATIENCE, eventually};

/// Killed, and waited for, when dropped.
#[derive(Debug)]
pub struct Process {
    what: String,
    child: Child,
    /// Behind a lock only so that threads of a test can share it.
    stdout: Mutex<Receiver<String>>,
    log: PathBuf,
    /// Where the log of this start begins.
    begin: usize,
}

impl Process {
    /// Starts it; what it logs goes to the end of that file.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn spawn(what: &str, mut command: Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).expect("the log can be written");
        let begin = file.metadata().map_or(0, |log| usize::try_from(log.len()).unwrap_or_default());
        let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file).spawn();
        let mut child = started.unwrap_or_else(|error| panic!("failed to start {what}: {error}"));
        let stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let (lines, receiver) = mpsc::channel();
        // Ends with the process: then there is nothing more to read.
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
        Self { what: what.to_owned(), child, stdout: Mutex::new(receiver), log: log.to_path_buf(), begin }
    }

    /// The line that it prints once it is ready.
    ///
    /// # Panics
    /// When it does not get ready, with what it logged.
    #[track_caller]
    pub fn ready(&mut self) -> String {
        let stdout = self.stdout.get_mut().expect("nobody panics with it");
        match stdout.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                panic!("{} is not ready after {PATIENCE:?}:\n{}", self.what, self.log())
            }
            Err(RecvTimeoutError::Disconnected) => {
                let code = self.wait();
                panic!("{} ended with {code:?} before it was ready:\n{}", self.what, self.log())
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it logged since this start.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn log(&self) -> String {
        let log = fs::read(&self.log).expect("the log can be read");
        String::from_utf8_lossy(log.get(self.begin..).unwrap_or_default()).into_owned()
    }

    /// # Panics
    /// When it is gone and waited for.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a child's id is a process id");
        kill_process(pid, signal).expect("a child may be signalled until it is waited for");
    }

    /// Waits until it ends, and returns its exit code; None when a signal ended it.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn wait(&mut self) -> Option<i32> {
        let what = format!("{} ends", self.what);
        eventually(&what, || self.child.try_wait().expect("it is our child")).code()
    }

    /// Ends it as a crash does.
    #[track_caller]
    pub fn kill9(mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }

    /// Ends it in order, and returns its exit code.
    #[track_caller]
    pub fn terminate(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Neither can fail in a way that matters: it is our child, and it is gone.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
