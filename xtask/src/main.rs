//! `cargo xtask TASK`: what a developer of Skiff runs, one module per task.

mod bench;
mod binary;
mod command;
mod demo;
mod guests;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

/// Development tasks of Skiff.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Measure what the README quotes, with release builds
    Bench(bench::Options),
    /// Build everything, start a cluster, deploy the hello example and ask it
    Demo(demo::Options),
    /// Compile the examples and the test guests to WebAssembly
    Guests(guests::Options),
    /// Check everything: format, lints, tests, rules, documentation, fuzz targets
    Test(test::Options),
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Bench(options) => bench::run(&options),
        Task::Demo(options) => demo::run(&options),
        Task::Guests(options) => guests::run(&options),
        Task::Test(options) => test::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Not returned from here: with RUST_BACKTRACE set, a backtrace would follow what must be the last line.
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
