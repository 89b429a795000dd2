//! What produces every figure that the README quotes; `cargo xtask bench NAME` builds and runs it.
//!
//! | module | what it is |
//! |---|---|
//! | [`startup`] | from an empty folder to the first answer, and what an idle cluster takes |
//! | [`throughput`] | requests a second, beside peers |
//! | [`neighbours`] | what a service's answers suffer from others on the same node |
//! | [`density`] | many small services on one node: restart, memory, first requests |
//! | [`cold`] | first requests to services that are not loaded |
//! | [`calls`] | from one service to another on the same node, beside loopback HTTP |
//! | [`apply`] | from `skiff apply` of a component that is compiled to its first answer |
//! | [`blobs`] | a large blob into the registry and out of it, beside docker-registry |
//! | [`containers`] | one service as a component and as a container, side by side |
//! | [`placement`] | what the control plane's decisions cost, and how good they are |
//! | [`fleet`] | many small services, and how to ask them |
//! | [`world`] | a fleet as the planners see it |
//! | [`tiny`] | the components of those services |
//! | [`cluster`] | a `skiff up` of the release binary, driven by its own command line |
//! | [`peer`] | what Skiff is compared with |
//! | [`load`] | the load generator: every answer is checked |
//! | [`process`] | what a process and its children take, from `/proc` |
//! | [`stats`] | medians |
//! | [`report`] | tables in markdown, and a line for programs |
//!
//! Progress goes to standard error, results to standard output. A missed bar is exit status 1, after the result.

mod apply;
mod blobs;
mod calls;
mod cluster;
mod cold;
mod containers;
mod density;
mod fleet;
mod load;
mod neighbours;
mod peer;
mod placement;
mod process;
mod report;
mod startup;
mod stats;
mod throughput;
mod tiny;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

// As `skiff` has it: the comparison shall not be one of allocators.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "skiff-bench", about)]
enum Bench {
    /// From an empty folder to the first answer, then what the idle cluster takes
    Startup(startup::Options),
    /// Requests a second through the gateway, beside a native server
    Throughput(throughput::Options),
    /// What a service's answers suffer from others on the same node
    Neighbours(neighbours::Options),
    /// Many small services on one node: a restart, their memory, and their first requests
    Density(density::Options),
    /// First requests to services whose code is compiled and not loaded
    Cold(cold::Options),
    /// What a call to a service on the same node adds, beside loopback HTTP
    Calls(calls::Options),
    /// From applying a component that is compiled to its first answer
    Apply(apply::Options),
    /// A large blob into the registry and out of it again, beside docker-registry
    Blobs(blobs::Options),
    /// One service as a component and as a container: starts, memory, requests a second; needs a Docker engine
    Containers(containers::Options),
    /// What decisions of the control plane cost, and how good they are; runs nothing
    Placement(placement::Options),
    /// The native server
    #[command(hide = true)]
    Native(peer::NativeOptions),
}

/// What every benchmark runs.
#[derive(Debug, Clone, clap::Args)]
struct Subject {
    /// The release build of skiff
    #[arg(long, value_name = "FILE")]
    skiff: PathBuf,
    /// The folder of the guests' .wasm files
    #[arg(long, value_name = "DIR")]
    guests: PathBuf,
    /// The manifest of the hello example
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
}

fn main() -> ExitCode {
    let result = match Bench::parse() {
        Bench::Startup(options) => startup::run(&options),
        Bench::Throughput(options) => throughput::run(&options),
        Bench::Neighbours(options) => neighbours::run(&options),
        Bench::Density(options) => density::run(&options),
        Bench::Cold(options) => cold::run(&options),
        Bench::Calls(options) => calls::run(&options),
        Bench::Apply(options) => apply::run(&options),
        Bench::Blobs(options) => blobs::run(&options),
        Bench::Placement(options) => placement::run(&options),
        Bench::Containers(options) => containers::run(&options),
        Bench::Native(options) => peer::serve(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
