//! One guest crate to one WebAssembly file, by cargo.
//!
//! The guests share a build folder, so that their common dependencies are compiled once; it is not the workspace's, whose
//! lock a running `cargo test` holds. Cargo says which file it made, so no name is guessed.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{source::Source, toolchain::Toolchain};
use crate::{command, workspace};

/// Builds `source` and returns its file, `guests/NAME.wasm` below `target`.
pub(super) fn compile(source: &Source, toolchain: &Toolchain, target: &Path) -> Result<PathBuf> {
    let mut cargo = Command::new(workspace::cargo());
    cargo.args(["build", "--release", "--quiet", "--message-format=json-render-diagnostics", "--locked"]);
    cargo.current_dir(&source.dir);
    cargo.env("CARGO_TARGET_DIR", target.join("guests-build"));
    // These would replace the flags of the guest's own configuration.
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("CARGO_BUILD_TARGET");
    toolchain.configure(&mut cargo);
    for triple in super::toolchain::TARGETS {
        cargo.arg("--config").arg(format!("target.{triple}.rustflags={}", remapped(toolchain)?));
    }
    let messages = command::output_with_progress(&mut cargo)?;
    let built = artifact(&messages, &source.dir)?;
    publish(&built, &target.join("guests"), &source.name)
}

/// Compiler flags, as a TOML array, that keep this machine's paths out of panic messages and so out of the file.
fn remapped(toolchain: &Toolchain) -> Result<String> {
    let home = match env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => env::home_dir().context("failed to find the home folder (hint: set CARGO_HOME)")?.join(".cargo"),
    };
    let prefixes = [(home, "/cargo"), (toolchain.sysroot.clone(), "/rust"), (workspace::root(), "/skiff")];
    let flags = prefixes.iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()));
    // JSON's strings and arrays are TOML's too.
    serde_json::to_string(&flags.collect::<Vec<_>>()).context("failed to write the compiler flags")
}

/// The `.wasm` file of the crate in `dir`, from cargo's messages.
fn artifact(messages: &str, dir: &Path) -> Result<PathBuf> {
    let manifest = dir.join("Cargo.toml");
    let mut found = None;
    for line in messages.lines() {
        let message: serde_json::Value = serde_json::from_str(line).context("failed to parse cargo's messages")?;
        if message["reason"] != "compiler-artifact" || message["manifest_path"].as_str() != manifest.to_str() {
            continue;
        }
        let files = message["filenames"].as_array().into_iter().flatten().filter_map(|file| file.as_str());
        for file in files.filter(|file| file.ends_with(".wasm")) {
            if found.replace(PathBuf::from(file)).is_some() {
                bail!("{} builds more than one .wasm file", manifest.display());
            }
        }
    }
    found.with_context(|| format!("{} builds no .wasm file (hint: it needs a bin or a cdylib)", manifest.display()))
}

/// Copies `built` to `dir/NAME.wasm`; left alone when equal, so that what depends on its time stamp is not redone.
fn publish(built: &Path, dir: &Path, name: &str) -> Result<PathBuf> {
    let file = dir.join(format!("{name}.wasm"));
    let failed = || format!("failed to copy {} to {}", built.display(), file.display());
    let bytes = fs::read(built).with_context(failed)?;
    if fs::read(&file).is_ok_and(|old| old == bytes) {
        return Ok(file);
    }
    // Renamed into place: somebody may be reading the old one.
    let partial = dir.join(format!("{name}.wasm.partial"));
    fs::create_dir_all(dir).with_context(failed)?;
    fs::write(&partial, &bytes).with_context(failed)?;
    fs::rename(&partial, &file).with_context(failed)?;
    super::say(format_args!("{name}: {} KiB", bytes.len().div_ceil(1024)));
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_artifact_is_the_crates_own_wasm_file() {
        let messages = r#"{"reason":"compiler-artifact","manifest_path":"/r/dep/Cargo.toml","filenames":["/t/dep.wasm"]}
{"reason":"compiler-artifact","manifest_path":"/r/a/Cargo.toml","filenames":["/t/a.wasm","/t/liba.rlib"]}
{"reason":"build-finished","success":true}"#;
        assert_eq!(artifact(messages, Path::new("/r/a")).unwrap(), Path::new("/t/a.wasm"));
        let error = artifact(messages, Path::new("/r/b")).unwrap_err().to_string();
        assert!(error.contains("builds no .wasm file"), "{error}");
        let twice = messages.replace("/t/liba.rlib", "/t/b.wasm");
        assert!(artifact(&twice, Path::new("/r/a")).unwrap_err().to_string().contains("more than one"));
    }

    #[test]
    fn publishing_equal_bytes_leaves_the_file_alone() {
        let dir = tempfile::tempdir().unwrap();
        let built = dir.path().join("built");
        fs::write(&built, "one").unwrap();
        let file = publish(&built, &dir.path().join("guests"), "a").unwrap();
        let old = std::time::SystemTime::UNIX_EPOCH;
        fs::File::options().write(true).open(&file).unwrap().set_modified(old).unwrap();
        publish(&built, &dir.path().join("guests"), "a").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), old);
        fs::write(&built, "two").unwrap();
        publish(&built, &dir.path().join("guests"), "a").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "two");
    }
}
