//! The `skiff` binary: verbs, output, exit codes.

// Whether a node may be moved between threads is decided by looking through all that it holds, down to the tables of its
// gateway, its guests and the runtime beneath: more types within types than the default allows.
#![recursion_limit = "256"]

mod args;
mod context;
mod exit;
mod logins;
mod manifests;
#[macro_use]
mod output;
mod place;
mod progress;
mod project;
mod signers;
mod verbs;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Verb};
use crate::exit::Failure;

// The default allocator holds on to much more memory after a burst of requests, and is slower in all of them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    // A child that compiles must not start a runtime: its limits count threads and memory.
    if let Verb::CompileComponent(compile) = &args.verb {
        return verbs::compile::run(compile);
    }
    match verbs::run(args) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

/// The result of a verb.
type Outcome = Result<ExitCode, Failure>;
