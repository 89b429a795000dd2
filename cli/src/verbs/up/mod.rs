//! `skiff up`: the whole cluster in one process.
//!
//! ```text
//! API + registry  127.0.0.1:7070   one listener: /v1 and /v2
//! gateway         127.0.0.1:8080   the node's
//! DATA/lock       held while the process runs: two processes never share a folder
//!     /token      the admin token
//!     /store.redb objects and events
//!     /registry   blobs, manifests, tags
//!     /copies     images of other registries on their way here
//!     /node       artifacts, compiled code, desired set, logs
//! ```
//! The process starts from the bottom up and stops from the top down: the gateway drains first, while the rest still
//! answers.

mod api;
mod data;
mod garbage;
mod images;
mod mirror;
mod rights;
mod serve;

use std::process::ExitCode;

use crate::Outcome;
use crate::args::UpArgs;
use crate::exit::{Exit, Failure};

pub(super) fn run(args: UpArgs) -> Outcome {
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
    let outcome = runtime.block_on(serve::serve(args));
    // What still runs is not needed any more, and must not hold the process.
    runtime.shutdown_background();
    outcome.map(|()| ExitCode::SUCCESS)
}
