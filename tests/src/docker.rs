//! A Docker engine of a test's own: its data, its socket and its process, apart from any other engine of the machine.
//!
//! ```text
//! FOLDER/   temporary
//!   sock    what `docker -H` talks to
//!   data/ exec/ log pid
//! ```
//! It makes no network, address or rule by itself; what those who use it make is on a machine of the test's own ([`apart`]).
//! It ends, and its containers with it, when it is dropped.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::fleet::machines::Machines;
use crate::programs::{done, program};
use crate::wait::within;

/// For an engine to begin, on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bare machines have no control groups where the engine looks for them. Made in a file system of the engine's own.
const CONTROL_GROUPS: &str = "\
if ! grep -q ' /sys/fs/cgroup' /proc/mounts; then
  mount -t tmpfs none /sys/fs/cgroup
  for kind in $(awk '$4 == 1 { print $1 }' /proc/cgroups); do
    mkdir \"/sys/fs/cgroup/$kind\"
    mount -t cgroup -o \"$kind\" none \"/sys/fs/cgroup/$kind\"
  done
fi
exec \"$@\"";

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    child: Child,
    docker: PathBuf,
    folder: TempDir,
}

impl Engine {
    /// # Panics
    /// When it does not begin, with what it logged; it needs root.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_by(|engine| Command::new(engine))
    }

    /// The same where `command` runs the program that it gets: such as on another machine.
    ///
    /// # Panics
    /// When it does not begin, with what it logged.
    #[track_caller]
    pub fn start_by(command: impl FnOnce(&Path) -> Command) -> Self {
        let docker = program("docker", "docker.io");
        let folder = tempfile::Builder::new().prefix("skiff-docker-").tempdir().expect("there is room for a folder");
        let child = spawn(folder.path(), command(Path::new("unshare")));
        let mut engine = Self { child, docker, folder };
        engine.answers();
        engine
    }

    /// Ends it, with its containers, and starts it again on the same data.
    ///
    /// # Panics
    /// When it does not begin, with what it logged.
    #[track_caller]
    pub fn restart(&mut self) {
        self.stop();
        self.child = spawn(self.folder.path(), Command::new("unshare"));
        self.answers();
    }

    fn stop(&mut self) {
        // It stops its containers, and the containerd that it started.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }

    #[track_caller]
    fn answers(&mut self) {
        within(PATIENCE, "the Docker engine answers", || {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("the Docker engine ended with {status}:\n{}", self.log());
            }
            self.docker("probe").output(&["version"]).is_some_and(|output| output.status.success()).then_some(())
        });
    }

    /// What `docker -H unix://` is told.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("sock")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// `docker`, with logins of its own under that name.
    ///
    /// # Panics
    /// When there is no room for them.
    pub fn docker(&self, name: &str) -> Docker<'_> {
        let config = self.folder.path().join("clients").join(name);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&config).expect("there is room for a folder");
        Docker { engine: self, config }
    }
}

impl Engine {
    /// Adds what the engine says that it did with containers to the file that this variable names, if it is set: a CI
    /// run looks there whether containers have really run.
    fn testify(&self) {
        let Some(file) = std::env::var_os("SKIFF_ENGINE_EVENTS") else { return };
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs() + 1;
        let format = "{{.Action}} {{.Actor.Attributes.name}} {{index .Actor.Attributes \"skiff.service\"}}";
        let args =
            ["events", "--since", "0", "--until", &now.to_string(), "--filter", "type=container", "--format", format];
        let Some(output) = self.docker("events").output(&args) else { return };
        let file = File::options().create(true).append(true).open(file);
        if let Err(error) = file.and_then(|mut file| file.write_all(&output.stdout)) {
            eprintln!("failed to keep the engine's events: {error}");
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.testify();
        self.stop();
    }
}

/// Starts an engine on a folder, by a command that becomes it.
fn spawn(folder: &Path, mut command: Command) -> Child {
    let at = |name: &str| folder.join(name);
    let log = File::options().create(true).append(true).open(at("log")).expect("a log can be written");
    let engine = program("dockerd", "docker.io");
    command.args(["--mount", "sh", "-ec", CONTROL_GROUPS, "sh"]).arg(engine);
    command.args(["--storage-driver", "vfs", "--bridge", "none", "--iptables=false", "--ip6tables=false"]);
    command.arg("--data-root").arg(at("data")).arg("--exec-root").arg(at("exec")).arg("--pidfile").arg(at("pid"));
    command.arg("-H").arg(format!("unix://{}", at("sock").display()));
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file has two handles")).stderr(log);
    command.spawn().unwrap_or_else(|error| panic!("failed to start {command:?}: {error}"))
}

/// The command line of an engine.
#[derive(Debug)]
pub struct Docker<'e> {
    engine: &'e Engine,
    config: PathBuf,
}

impl Docker<'_> {
    /// The folder with its logins, as `DOCKER_CONFIG` names it.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Runs `docker ARGS` to its end, and returns what it printed.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        done(&mut self.command(args))
    }

    /// What it says when it fails.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn fails(&self, args: &[&str]) -> String {
        let output = self.output(args).expect("docker can be started");
        assert!(!output.status.success(), "docker {args:?} succeeded");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn output(&self, args: &[&str]) -> Option<Output> {
        self.command(args).stdin(Stdio::null()).output().ok()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.engine.docker);
        command.arg("-H").arg(format!("unix://{}", self.engine.folder.path().join("sock").display())).args(args);
        command.env("DOCKER_CONFIG", &self.config).env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT");
        command
    }
}

/// Runs a test on a machine of its own, which has an address and no way out: whoever runs containers sets rules.
///
/// # Panics
/// When the test does, or there can be no such machine.
#[track_caller]
pub fn apart(test: impl FnOnce() + Send) {
    let mut machines = Machines::new().unwrap_or_else(|why| panic!("containers are run apart: {why}"));
    machines.add("desk");
    machines.on("desk", test);
}

const INCLUDES: &str = "#define _GNU_SOURCE\n#include <arpa/inet.h>\n#include <errno.h>\n#include <netinet/in.h>\n#include <signal.h>\n\
    #include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <sys/ioctl.h>\n#include <sys/socket.h>\n#include <sys/time.h>\n\
    #include <time.h>\n#include <unistd.h>\n";

/// A program that needs no file but itself, made from these lines of C's `main`.
///
/// # Panics
/// When there is no compiler.
#[track_caller]
pub fn static_program(folder: &Path, name: &str, main: &str) -> PathBuf {
    let (source, made) = (folder.join(format!("{name}.c")), folder.join(name));
    let text = format!("{INCLUDES}int main(int argc, char **argv) {{ {main} }}\n");
    fs::write(&source, text).expect("a file can be written");
    done(Command::new("cc").args(["-static", "-O1", "-o"]).arg(&made).arg(&source));
    made
}
