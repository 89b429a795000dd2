//! The fuzz step: every target under libFuzzer, for seconds or, with `--all`, a minute.
//!
//! It needs a nightly toolchain, cargo-fuzz and a C++ compiler. Where one is missing the step is skipped: the same targets
//! ran in the tests, under the stable toolchain, with their seeds and a fixed series of changes to those. What libFuzzer
//! learns is kept below the target folder and used again; the seeds in `fuzz/corpus` are only read.

use std::{
    env,
    ffi::OsString,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

use super::{Depth, Outcome};
use crate::{command, workspace};

/// Enough to repeat the seeds and what was learnt before.
const SECONDS_SHORT: u32 = 10;
const SECONDS_LONG: u32 = 60;

/// Far beyond what any input within the readers' own limits costs; a leak or a loop gets there soon.
const MEMORY_MIB_MAX: u32 = 2048;
const INPUT_SECONDS_MAX: u32 = 5;

pub(super) fn run(depth: Depth) -> Result<Outcome> {
    let target = workspace::target_dir()?;
    let tools = target.join("tools");
    if let Err(why) = command::output(fuzz(&tools)?.arg("--version")) {
        let hint =
            format!("rustup toolchain install nightly && cargo install --locked --root {} cargo-fuzz", tools.display());
        let why = format!("{why:#}");
        // What was run, then what it said; the first line of that is the reason.
        let why = why.lines().nth(1).unwrap_or(&why);
        return Ok(Outcome::Skipped(format!(
            "no nightly cargo-fuzz: {why} (hint: `{hint}`); its targets ran in tests"
        )));
    }
    if Command::new("c++").arg("--version").stdout(Stdio::null()).status().is_err() {
        return Ok(Outcome::Skipped("no C++ compiler (hint: install g++); its targets ran in tests".to_owned()));
    }
    let names = targets()?;
    let seconds = if depth == Depth::Long { SECONDS_LONG } else { SECONDS_SHORT };
    for name in &names {
        let learnt = target.join("fuzz/learnt").join(name);
        fs::create_dir_all(&learnt).with_context(|| format!("failed to create {}", learnt.display()))?;
        let mut fuzz = fuzz(&tools)?;
        // No sanitizer: the targets are safe Rust, and without one they run several times as fast.
        fuzz.args(["run", "--features", "libfuzzer", "--sanitizer", "none", "--target-dir"]).arg(target.join("fuzz"));
        fuzz.arg(name).arg(learnt).arg(workspace::root().join("fuzz/corpus").join(name)).arg("--");
        fuzz.arg(format!("-max_total_time={seconds}"));
        fuzz.arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"));
        fuzz.arg(format!("-timeout={INPUT_SECONDS_MAX}"));
        fuzz.arg("-verbosity=0").arg("-print_final_stats=1");
        command::run(&mut fuzz).with_context(|| format!("fuzz target {name} found something, or did not build"))?;
    }
    Ok(Outcome::Passed(format!("{} targets, {seconds} s each", names.len())))
}

/// `cargo fuzz` of the nightly toolchain; cargo-fuzz may be below `tools`, where the hint puts it.
fn fuzz(tools: &Path) -> Result<Command> {
    let mut path = OsString::from(tools.join("bin"));
    if let Some(before) = env::var_os("PATH") {
        path = env::join_paths([path].into_iter().chain(env::split_paths(&before).map(OsString::from)))
            .context("failed to extend PATH")?;
    }
    // Not the cargo that runs this task: only rustup's understands `+nightly`.
    let mut cargo = Command::new("cargo");
    cargo.args(["+nightly", "fuzz"]).current_dir(workspace::root()).stdin(Stdio::null()).env("PATH", path);
    // A missing toolchain is a reason to skip, not to download.
    cargo.env("RUSTUP_AUTO_INSTALL", "0");
    for inherited in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        cargo.env_remove(inherited);
    }
    Ok(cargo)
}

/// The names of the fuzz targets: a file each.
fn targets() -> Result<Vec<String>> {
    let dir = workspace::root().join("fuzz/fuzz_targets");
    let failed = || format!("failed to list {}", dir.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}
