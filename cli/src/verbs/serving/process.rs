//! A process that serves: its threads, its log, and what stops it.

use std::path::PathBuf;
use std::process::ExitCode;

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::Outcome;
use crate::exit::{Exit, Failure};

/// Runs until what serves has ended.
pub(in crate::verbs) fn run(serve: impl Future<Output = Result<(), Failure>>) -> Outcome {
    // The allocator asks for huge pages, of which a few used bytes keep all 2 MiB: they doubled what an idle cluster takes.
    // A kernel that has no such switch has no such pages, or the cluster is a little larger.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let filter = tracing_subscriber::EnvFilter::try_from_env("SKIFF_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Internal, error).during("failed to start"))?;
    let outcome = runtime.block_on(serve);
    // What still runs is not needed any more, and must not hold the process.
    runtime.shutdown_background();
    outcome.map(|()| ExitCode::SUCCESS)
}

/// What is in memory stays there: secrets of services in the clear, and keys. Nobody gets a core dump of this process or of
/// those that it starts, and no other user's process looks into it.
pub(in crate::verbs) fn keep_memory_private() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "core dumps of this process could not be switched off");
    }
}

/// Raises the limit of open files to what may be had: each connection is one, and two for each node.
pub(in crate::verbs) fn raise_files() {
    let given = getrlimit(Resource::Nofile);
    // What is there has to do.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: given.maximum, maximum: given.maximum });
}

/// The signals that mean stop.
pub(in crate::verbs) struct Stop {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Stop {
    /// Before anything is answered, so that a signal at any time stops in order.
    pub(in crate::verbs) fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::new(Exit::Internal, error));
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    pub(in crate::verbs) async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// This program, which compiles components under a hidden verb. Also when its file was replaced meanwhile.
pub(super) fn program() -> Result<PathBuf, Failure> {
    let link = PathBuf::from("/proc/self/exe");
    match link.exists() {
        true => Ok(link),
        false => std::env::current_exe()
            .map_err(|error| Failure::new(Exit::Internal, error).during("failed to find this program's file")),
    }
}

pub(super) fn seed() -> Result<u64, Failure> {
    getrandom::u64()
        .map_err(|error| Failure::message(Exit::Internal, format!("failed to get a random number: {error}")))
}
