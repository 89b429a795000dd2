//! The steps of `cargo xtask test`, in their order. A new check of the whole repository is a new step here; a new test is
//! none, cargo finds it.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use super::{Depth, Outcome, Step, fuzz};
use crate::{command, guests, workspace};

pub(super) const STEPS: [Step; 7] = [
    Step { name: "format", checks: "every file as rustfmt writes it", run: format },
    Step { name: "guests", checks: "examples and test guests compile to WebAssembly", run: compile_guests },
    Step { name: "clippy", checks: "no warning, in all targets with all features", run: clippy },
    Step { name: "tests", checks: "unit and whole-system tests, and the rules of the architecture", run: tests },
    Step { name: "docs", checks: "no dead link in the documentation", run: docs },
    Step { name: "deny", checks: "licences, advisories and doubles of dependencies", run: deny },
    Step { name: "fuzz", checks: "what is read from strangers, fed with noise", run: fuzz::run },
];

/// Crates outside of the workspace that compile for this machine; the guests compile for WebAssembly only.
const HOST_CRATES: [&str; 2] = ["fuzz/Cargo.toml", "sdk/rust/Cargo.toml"];

fn format(_: Depth) -> Result<Outcome> {
    need("fmt", "rustfmt")?;
    command::run(cargo("fmt").args(["--all", "--check"]))
        .context("files are not formatted (hint: `cargo fmt --all`)")?;
    for manifest in outside_the_workspace()? {
        command::run(cargo("fmt").arg("--check").arg("--manifest-path").arg(manifest))?;
    }
    Ok(Outcome::passed())
}

fn compile_guests(depth: Depth) -> Result<Outcome> {
    // Only the long tests run a guest that is not a crate.
    let names = if depth == Depth::Long { Vec::new() } else { guests::crates()? };
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let built = guests::build(&names, guests::Origin::Any)?;
    Ok(Outcome::Passed(counted(built.len(), "guest")))
}

fn clippy(_: Depth) -> Result<Outcome> {
    need("clippy", "clippy")?;
    let strict = ["--", "-D", "warnings"];
    command::run(cargo("clippy").args(["--workspace", "--all-targets", "--all-features", "--locked"]).args(strict))?;
    let target = workspace::target_dir()?.join("guests-build");
    for manifest in HOST_CRATES {
        let mut clippy = cargo("clippy");
        clippy.args(["--quiet", "--all-targets", "--all-features", "--manifest-path", manifest]).args(strict);
        command::run(clippy.env("CARGO_TARGET_DIR", &target))?;
    }
    if !guests::installed_toolchain_serves()? {
        return Ok(Outcome::Passed("guests not linted: the installed toolchain lacks their targets".to_owned()));
    }
    for dir in guests::folders()? {
        let mut clippy = cargo("clippy");
        // In its folder, where cargo finds its target.
        clippy.args(["--quiet", "--locked", "--all-targets"]).args(strict).current_dir(dir);
        command::run(clippy.env("CARGO_TARGET_DIR", &target))?;
    }
    Ok(Outcome::passed())
}

fn tests(depth: Depth) -> Result<Outcome> {
    // `cargo test` builds a package's programs only for that package's own integration tests; the whole-system tests are
    // another package's. The same features and packages as below, so that nothing is built twice.
    command::run(cargo("build").args(["--workspace", "--all-features", "--bins", "--locked"]))
        .context("the programs do not build")?;
    // One invocation: features unify, so every dependency is built once.
    let mut test = cargo("test");
    test.args(["--workspace", "--all-features", "--no-fail-fast", "--locked"]);
    test.env("SKIFF_GUEST_ENV", guests::environment()?);
    if depth == Depth::Long {
        // The crash tests look at the variable: the same tests, with more kills and longer silences.
        test.env("SKIFF_LONG", "1").args(["--", "--include-ignored"]);
    }
    let mut tally = Tally::default();
    let mut child = test.stdout(Stdio::piped()).spawn().context("failed to start cargo test")?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.context("failed to read what cargo test prints")?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            tally.add(&line);
        }
    }
    let status = child.wait().context("failed to wait for cargo test")?;
    if !status.success() {
        bail!("{tally}; cargo's last lines name the test programs, and how to run one (cargo test: {status})");
    }
    if tally.passed == 0 {
        bail!("cargo test passed without running a test");
    }
    // What the SDK promises without a host, and its examples; fuzz targets are run by a step of their own.
    let mut sdk = cargo("test");
    sdk.args(["--quiet", "--all-features", "--manifest-path", "sdk/rust/Cargo.toml"]);
    command::run(sdk.env("CARGO_TARGET_DIR", workspace::target_dir()?.join("guests-build")))?;
    Ok(Outcome::Passed(tally.to_string()))
}

fn docs(_: Depth) -> Result<Outcome> {
    let mut doc = cargo("doc");
    // Private items too: module docs link to them, and those links rot as well.
    doc.args(["--workspace", "--all-features", "--no-deps", "--document-private-items", "--locked"]);
    // A public doc may point to them as well: the readers have the sources, nothing is published without them.
    command::run(doc.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private-intra-doc-links"))?;
    Ok(Outcome::passed())
}

fn deny(_: Depth) -> Result<Outcome> {
    if command::output(cargo("deny").arg("--version")).is_err() {
        return Ok(Outcome::Skipped(
            "cargo-deny is not installed (hint: `cargo install --locked cargo-deny`)".to_owned(),
        ));
    }
    command::run(cargo("deny").args(["--workspace", "--all-features", "check"]))?;
    Ok(Outcome::passed())
}

/// Cargo with a subcommand, in the repository's root.
fn cargo(subcommand: impl AsRef<OsStr>) -> Command {
    let mut cargo = Command::new(workspace::cargo());
    cargo.arg(subcommand).current_dir(workspace::root()).stdin(Stdio::null());
    cargo
}

/// Fails, saying how to get it, when a component of the toolchain is missing.
fn need(subcommand: &str, component: &str) -> Result<()> {
    match command::output(cargo(subcommand).arg("--version")) {
        Ok(_) => Ok(()),
        Err(_) => bail!("failed to find {component} (hint: `rustup component add {component}`)"),
    }
}

/// The manifests of all crates that are no members of the workspace.
fn outside_the_workspace() -> Result<Vec<PathBuf>> {
    let host = HOST_CRATES.map(|manifest| workspace::root().join(manifest));
    Ok(host.into_iter().chain(guests::folders()?.into_iter().map(|dir| dir.join("Cargo.toml"))).collect())
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Tests by how they ended, summed over test programs.
#[derive(Debug, Default, PartialEq)]
struct Tally {
    passed: usize,
    failed: usize,
    ignored: usize,
}

impl Tally {
    /// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; …`; other lines count nothing.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            return;
        };
        for part in counts.split("; ") {
            let Some((number, what)) = part.split_once(' ') else { continue };
            let Ok(number) = number.parse::<usize>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed", counted(self.passed, "test"))?;
        if self.failed > 0 {
            write!(f, ", {} failed", self.failed)?;
        }
        if self.ignored > 0 {
            write!(f, ", {} ignored", self.ignored)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_summed() {
        let mut tally = Tally::default();
        for line in [
            "running 4 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 7 filtered out; finished in 0.01s",
        ] {
            tally.add(line);
        }
        assert_eq!(tally, Tally { passed: 5, failed: 1, ignored: 1 });
        assert_eq!(tally.to_string(), "5 tests passed, 1 failed, 1 ignored");
    }

    #[test]
    fn every_crate_outside_the_workspace_exists() {
        let manifests = outside_the_workspace().unwrap();
        assert!(manifests.len() >= 4, "{manifests:?}");
        for manifest in manifests {
            assert!(manifest.is_file(), "{}", manifest.display());
        }
    }
}
