//! Building one of the workspace's programs, by cargo.
//!
//! Cargo says which file it made: a configuration file or a variable can move it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{command, workspace};

/// How well to optimise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Dev,
    Release,
}

/// Builds program `name` of package `package` and returns its file.
pub(crate) fn build(package: &str, name: &str, profile: Profile) -> Result<PathBuf> {
    let mut cargo = Command::new(workspace::cargo());
    cargo.args(["build", "--locked", "--message-format=json-render-diagnostics"]);
    cargo.args(["--package", package, "--bin", name]);
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    cargo.arg("--target-dir").arg(workspace::target_dir()?).current_dir(workspace::root());
    executable(&command::output_with_progress(&mut cargo)?, name)
}

/// The file of program `name`, from cargo's messages.
fn executable(messages: &str, name: &str) -> Result<PathBuf> {
    let mut found = None;
    for line in messages.lines() {
        let message: serde_json::Value = serde_json::from_str(line).context("failed to parse cargo's messages")?;
        if message["reason"] == "compiler-artifact" && message["target"]["name"] == name {
            found = message["executable"].as_str().map(PathBuf::from).or(found);
        }
    }
    found.with_context(|| format!("failed to find {name} in cargo's messages"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_executable_is_that_of_the_program_and_not_of_its_library() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"other"},"executable":"/t/other"}
{"reason":"compiler-artifact","target":{"name":"skiff"},"executable":"/t/skiff"}
{"reason":"compiler-artifact","target":{"name":"skiff"},"executable":null}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "skiff").unwrap(), Path::new("/t/skiff"));
        assert!(executable(messages, "skif").unwrap_err().to_string().contains("skif"));
    }
}
