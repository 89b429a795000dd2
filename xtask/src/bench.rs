//! `cargo xtask bench NAME`: builds what a benchmark needs, all of it as it is released, and runs the benchmark.
//!
//! The measuring is in the `bench` package, a program of its own: this task must compile quickly, and the load generator
//! must be optimised.

mod peers;

use std::process::Command;

use anyhow::{Context, Result};

use crate::binary::{self, Profile};
use crate::{command, guests, workspace};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// What to measure
    name: Name,
    /// Leave out the peers and guests that must be installed first: `wasmtime serve`, the JavaScript component, docker-registry
    #[arg(long)]
    quick: bool,
    /// Passed on to the benchmark; `-- --help` shows what it takes
    #[arg(last = true)]
    args: Vec<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Name {
    /// From an empty folder to the first answer, then what the idle cluster takes
    Startup,
    /// Requests a second through the gateway, beside a native server and `wasmtime serve`
    Throughput,
    /// What a service's answers suffer from others on the same node
    Neighbours,
    /// Many small services on one node: a restart, their memory, and their first requests
    Density,
    /// First requests to services whose code is compiled and not loaded
    Cold,
    /// What a call to a service on the same node adds, beside loopback HTTP
    Calls,
    /// From applying a component that is compiled to its first answer
    Apply,
    /// A large blob into the registry and out of it again, beside docker-registry
    Blobs,
    /// One service as a component and as a container: starts, memory, requests a second; needs a Docker engine
    Containers,
    /// What decisions of the control plane cost, and how good they are
    Placement,
}

impl Name {
    fn verb(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Throughput => "throughput",
            Self::Neighbours => "neighbours",
            Self::Density => "density",
            Self::Cold => "cold",
            Self::Calls => "calls",
            Self::Apply => "apply",
            Self::Blobs => "blobs",
            Self::Containers => "containers",
            Self::Placement => "placement",
        }
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if matches!(options.name, Name::Placement) {
        // It runs nothing but the planners.
        let mut bench = Command::new(binary::build("skiff-bench", "skiff-bench", Profile::Release)?);
        return command::run(bench.arg(options.name.verb()).args(&options.args));
    }
    let built = guests::build(&["hello", "probe"], guests::Origin::default())?;
    let folder = built.get("hello").and_then(|file| file.parent()).context("failed to find the guests' folder")?;
    let skiff = binary::build("skiff", "skiff", Profile::Release)?;
    let mut bench = Command::new(binary::build("skiff-bench", "skiff-bench", Profile::Release)?);
    bench.arg(options.name.verb()).arg("--skiff").arg(skiff).arg("--guests").arg(folder);
    bench.arg("--manifest").arg(workspace::root().join("examples/hello/skiff.yaml"));
    if matches!(options.name, Name::Throughput) && !options.quick {
        guests::build(&["hello-js"], guests::Origin::default())?;
        bench.arg("--wasmtime").arg(peers::wasmtime()?);
    }
    if matches!(options.name, Name::Blobs) && !options.quick {
        bench.arg("--docker-registry").arg(peers::docker_registry()?);
    }
    bench.args(&options.args);
    command::run(&mut bench)
}
