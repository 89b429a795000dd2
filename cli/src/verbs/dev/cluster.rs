//! A cluster for as long as `skiff dev` runs.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::args::ServerArgs;
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// The folder of it all, in the project's.
const FOLDER: &str = ".skiff";
/// An empty cluster is ready in well under a second; one with much in it on a slow disk takes longer.
const START_MAX: Duration = Duration::from_secs(60);
/// How long requests in flight may take.
const STOP_MAX: Duration = Duration::from_secs(35);

/// The control plane that flags, variables or the context name, if it answers. One on another machine that does not is
/// an error: whoever named it means it.
pub(super) async fn reachable(server: &ServerArgs) -> Result<Option<Context>, Failure> {
    let Ok(context) = Context::find(server) else { return Ok(None) };
    match context.client()?.version().await {
        Ok(_) => Ok(Some(context)),
        Err(_) if is_of_this_machine(&context.server) => Ok(None),
        Err(error) => Err(Failure::from(error).during("failed to find the cluster (hint: --local starts one here)")),
    }
}

fn is_of_this_machine(server: &str) -> bool {
    ["://127.", "://localhost", "://[::1]"].iter().any(|local| server.contains(local))
}

/// `skiff up` in a process of its own.
#[derive(Debug)]
pub(super) struct Local {
    child: Child,
    /// Read to its end, or the child could not write any more.
    _stdout: tokio::task::JoinHandle<()>,
}

impl Local {
    /// Starts one, with what an earlier one in this folder had.
    pub(super) async fn start(project: &Path, gateway: SocketAddr) -> Result<(Context, Self), Failure> {
        let folder = project.join(FOLDER);
        std::fs::create_dir_all(&folder).map_err(|error| Failure::io("make", &folder, error))?;
        let folder = folder.canonicalize().map_err(|error| Failure::io("find", &folder, error))?;
        let log_path = folder.join("up.log");
        let log = std::fs::File::create(&log_path).map_err(|error| Failure::io("write", &log_path, error))?;
        let program = std::env::current_exe().map_err(|error| Failure::new(Exit::Internal, error))?;
        let mut up = Command::new(program);
        up.args(["up", "--listen", "127.0.0.1:0", "--gateway", &gateway.to_string(), "--data"])
            .arg(folder.join("data"));
        // Its own context: the user's may name a cluster that is only away.
        up.env("SKIFF_CONFIG", folder.join("context.json")).env_remove("SKIFF_SERVER").env_remove("SKIFF_TOKEN");
        // Ctrl-C in the terminal is for this process, which stops the other in order.
        up.process_group(0).kill_on_drop(true);
        up.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child =
            up.spawn().map_err(|error| Failure::new(Exit::Internal, error).during("failed to start a cluster"))?;
        let Some(stdout) = child.stdout.take() else {
            return Err(Failure::message(Exit::Internal, "failed to read what the cluster says"));
        };
        let mut lines = BufReader::new(stdout);
        let mut ready = String::new();
        let answered = tokio::time::timeout(START_MAX, lines.read_line(&mut ready)).await;
        if !matches!(answered, Ok(Ok(_))) || !ready.starts_with("ready ") {
            let log = std::fs::read_to_string(&log_path).unwrap_or_default();
            let last = log.lines().last().unwrap_or("it said nothing");
            let text = format!("failed to start a cluster: {}", last.trim_start_matches("error: "));
            return Err(Failure::message(Exit::Invalid, text));
        }
        let context = Context::of_file(&folder.join("context.json"))?;
        let shown = folder.join("context.json");
        let gateway = ready.split(" gateway=").nth(1).map_or("", str::trim);
        eprintln!("started a cluster; its services answer at {gateway}");
        eprintln!("in other terminals: export SKIFF_CONFIG={}", shown.display());
        Ok((context, Self { child, _stdout: tokio::spawn(drain(lines)) }))
    }

    /// Stops it in order.
    pub(super) async fn stop(mut self) {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        // Fails where it has ended by itself.
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        if tokio::time::timeout(STOP_MAX, self.child.wait()).await.is_err() {
            // Dropping it kills it.
            eprintln!("the cluster did not stop in time");
        }
    }
}

async fn drain(mut lines: BufReader<ChildStdout>) {
    let mut line = String::new();
    while lines.read_line(&mut line).await.is_ok_and(|bytes| bytes > 0) {
        line.clear();
    }
}
