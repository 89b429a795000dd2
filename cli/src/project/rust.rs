//! A Rust service, by cargo.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::template;
use crate::exit::{Exit, Failure};

const TARGET: &str = "wasm32-wasip2";
const NO_CARGO: &str = "(hint: install Rust with rustup)";

pub(super) fn build(folder: &Path) -> Result<PathBuf, Failure> {
    template::complete_rust(folder)?;
    find_target()?;
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    cargo.args(["build", "--release", "--target", TARGET, "--message-format=json-render-diagnostics"]);
    let output = cargo.current_dir(folder).stderr(Stdio::inherit()).output();
    let output =
        output.map_err(|error| Failure::message(Exit::NotFound, format!("failed to run cargo: {error} {NO_CARGO}")))?;
    if !output.status.success() {
        let text = format!("failed to build the service: cargo ended with {}", output.status);
        return Err(Failure::message(Exit::Invalid, text));
    }
    artifact(&String::from_utf8_lossy(&output.stdout), folder)
}

/// A compiler without the target's library fails with a hundred lines about `core`.
fn find_target() -> Result<(), Failure> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let output = Command::new(rustc).args(["--print", "target-libdir", "--target", TARGET]).output();
    let output =
        output.map_err(|error| Failure::message(Exit::NotFound, format!("failed to run rustc: {error} {NO_CARGO}")))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let files = fs::read_dir(printed.trim());
    let has_library = files.is_ok_and(|mut files| {
        files.any(|file| file.is_ok_and(|file| file.file_name().to_string_lossy().starts_with("libstd-")))
    });
    match output.status.success() && has_library {
        true => Ok(()),
        false => {
            let text = format!(
                "failed to find Rust's standard library for {TARGET} (hint: `rustup target add {TARGET}`; a Rust of your own is named by RUSTC)"
            );
            Err(Failure::message(Exit::NotFound, text))
        }
    }
}

/// The `.wasm` file of the folder's own crate, from cargo's messages.
fn artifact(messages: &str, folder: &Path) -> Result<PathBuf, Failure> {
    let manifest = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf()).join("Cargo.toml");
    let mut found = Vec::new();
    for message in messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let is_own = message["reason"] == "compiler-artifact"
            && message["manifest_path"].as_str().is_some_and(|path| Path::new(path) == manifest);
        let files = message["filenames"].as_array().into_iter().flatten().filter_map(Value::as_str);
        found.extend(files.filter(|file| is_own && file.ends_with(".wasm")).map(PathBuf::from));
    }
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => {
            let text = format!(
                "failed to find a component: {} builds none (hint: it needs `crate-type = [\"cdylib\"]` below [lib], or a binary)",
                manifest.display()
            );
            Err(Failure::message(Exit::Invalid, text))
        }
        several => {
            let names: Vec<_> = several.iter().map(|file| file.display().to_string()).collect();
            let text = format!(
                "failed to choose a component: {} builds {} (hint: one service a folder)",
                manifest.display(),
                names.join(" and ")
            );
            Err(Failure::message(Exit::Invalid, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_is_the_crates_own() {
        let folder = Path::new("/r/a");
        let messages = r#"{"reason":"compiler-artifact","manifest_path":"/r/dep/Cargo.toml","filenames":["/t/dep.wasm"]}
not a message
{"reason":"compiler-artifact","manifest_path":"/r/a/Cargo.toml","filenames":["/t/a.wasm","/t/liba.rlib"]}"#;
        assert_eq!(artifact(messages, folder).unwrap(), Path::new("/t/a.wasm"));
        let none = artifact(messages, Path::new("/r/b")).unwrap_err().to_string();
        assert!(none.contains("cdylib"), "{none}");
        let two = artifact(&messages.replace("liba.rlib", "b.wasm"), folder).unwrap_err().to_string();
        assert!(two.contains("/t/a.wasm and /t/b.wasm"), "{two}");
    }
}
