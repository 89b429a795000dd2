//! Where things are: the repository's root, cargo, its target folder.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::command;

/// The folder of the workspace's `Cargo.toml`.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask).to_path_buf()
}

/// The cargo that runs this task, so that its children are of the same toolchain.
pub(crate) fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// The workspace's target folder, asked of cargo because an environment variable and several config files can move it.
pub(crate) fn target_dir() -> Result<PathBuf> {
    let mut command = Command::new(cargo());
    command.args(["metadata", "--no-deps", "--format-version=1", "--offline"]).current_dir(root());
    // Cargo reads a relative path as relative to its own folder, which `current_dir` has just changed.
    if let Some(dir) = env::var_os("CARGO_TARGET_DIR") {
        command.env("CARGO_TARGET_DIR", std::path::absolute(dir).context("failed to resolve CARGO_TARGET_DIR")?);
    }
    let metadata: serde_json::Value =
        serde_json::from_str(&command::output(&mut command)?).context("failed to parse cargo's metadata")?;
    let dir = metadata["target_directory"].as_str().context("failed to find the target folder in cargo's metadata")?;
    Ok(PathBuf::from(dir))
}
