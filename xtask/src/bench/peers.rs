//! Peers that are installed on request, into the target folder.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{command, workspace};

/// wasmtime's own program, in the version that this workspace links, as its makers release it. Compiling it takes some
/// ten minutes, once.
pub(super) fn wasmtime() -> Result<PathBuf> {
    let version = locked_version("wasmtime")?;
    let root = workspace::target_dir()?.join(format!("peers/wasmtime-{version}"));
    let program = root.join("bin/wasmtime");
    if program.is_file() {
        return Ok(program);
    }
    eprintln!("bench: installing wasmtime {version} into {}", root.display());
    let mut install = Command::new(workspace::cargo());
    install.args(["install", "--locked", "wasmtime-cli", "--version", &version, "--root"]).arg(&root);
    // Not in this workspace's folder: cargo would take its settings for the other program.
    install.current_dir(std::env::temp_dir());
    command::run(&mut install)?;
    Ok(program)
}

/// docker-registry as Debian has it: its package unpacked, because installing it would start a service.
pub(super) fn docker_registry() -> Result<PathBuf> {
    let root = workspace::target_dir()?.join("peers/docker-registry");
    let program = root.join("usr/bin/docker-registry");
    if program.is_file() {
        return Ok(program);
    }
    eprintln!("bench: unpacking Debian's docker-registry into {}", root.display());
    fs::create_dir_all(&root).with_context(|| format!("failed to make {}", root.display()))?;
    command::run(Command::new("apt-get").args(["download", "docker-registry"]).current_dir(&root))
        .context("failed to fetch docker-registry (hint: apt-get update; --quick leaves it out)")?;
    let entries = fs::read_dir(&root).with_context(|| format!("failed to list {}", root.display()))?;
    let package =
        entries.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some_and(|end| end == "deb"));
    let package = package.context("failed to find the package of docker-registry")?;
    command::run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&root))?;
    Ok(program)
}

fn locked_version(name: &str) -> Result<String> {
    let lock = fs::read_to_string(workspace::root().join("Cargo.lock")).context("failed to read Cargo.lock")?;
    let name = format!("name = \"{name}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name);
    let version = lines.nth(1).and_then(|line| line.strip_prefix("version = \""));
    Ok(version.with_context(|| format!("failed to find {name} in Cargo.lock"))?.trim_end_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_has_the_version_that_is_linked() {
        assert!(locked_version("wasmtime").unwrap().starts_with("48."));
        assert!(locked_version("no-such-crate").is_err());
    }
}
