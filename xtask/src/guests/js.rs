//! One JavaScript or TypeScript guest to one WebAssembly file, by the JavaScript SDK.
//!
//! Everything happens in a folder of the target folder, so that the sources stay clean; the SDK is put there as
//! `vendor/skiff-sdk`, where `skiff new` and `skiff build` put it for users. A guest is made again when one of its files or
//! the SDK is newer: a component takes ten seconds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::source::Source;
use crate::{command, workspace};

/// What a guest may be made of. What else is in its folder is for people.
const INPUTS: [&str; 5] = ["package.json", "package-lock.json", "tsconfig.json", "index.js", "index.ts"];

/// Which program is missing, and how to get it; none when JavaScript guests can be built here.
pub(super) fn missing() -> Option<&'static str> {
    let programs = [
        ("node", "failed to find node, which makes JavaScript guests (hint: install Node.js 20 or later)"),
        ("npm", "failed to find npm, which fetches what makes JavaScript guests (hint: install npm 10 or later)"),
    ];
    programs
        .into_iter()
        .find(|(program, _)| command::output(Command::new(program).arg("--version")).is_err())
        .map(|(_, missing)| missing)
}

/// Builds `source` and returns its file, `guests/NAME.wasm` below `target`.
pub(super) fn compile(source: &Source, target: &Path) -> Result<PathBuf> {
    let out = target.join("guests").join(format!("{}.wasm", source.name));
    let (sdk, wit) = (workspace::root().join("sdk/js"), workspace::root().join("sdk/wit"));
    if is_newer_than_inputs(&out, &source.dir, &[&sdk, &wit]) {
        return Ok(out);
    }
    if let Some(missing) = missing() {
        bail!(missing);
    }
    let folder = target.join("guests-js").join(&source.name);
    copy_folder(&sdk, &folder.join("vendor/skiff-sdk"))?;
    copy_folder(&wit, &folder.join("vendor/wit"))?;
    for name in INPUTS.into_iter().filter(|name| source.dir.join(name).exists()) {
        fs::copy(source.dir.join(name), folder.join(name)).with_context(|| format!("failed to copy {name}"))?;
    }
    super::say(format_args!("making a component of {}", source.name));
    command::run(Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--silent"]).current_dir(&folder))?;
    let made = folder.join("made.wasm");
    let mut build = Command::new(folder.join("node_modules/.bin/skiff-js"));
    build.arg("build").arg(&made).current_dir(&folder);
    command::run(&mut build)?;
    fs::create_dir_all(target.join("guests")).context("failed to create the guests' folder")?;
    fs::rename(&made, &out).with_context(|| format!("failed to move {}", out.display()))?;
    Ok(out)
}

fn is_newer_than_inputs(out: &Path, source: &Path, sdk: &[&Path]) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let Some(made) = modified(out) else { return false };
    let mut inputs: Vec<PathBuf> = INPUTS.iter().map(|name| source.join(name)).filter(|path| path.exists()).collect();
    if sdk.iter().any(|folder| files_below(folder, &mut inputs).is_err()) {
        return false;
    }
    inputs.iter().all(|path| modified(path).is_some_and(|changed| changed < made))
}

/// Every file, but for what npm may have put there.
fn files_below(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let failed = || format!("failed to read {}", folder.display());
    for entry in fs::read_dir(folder).with_context(failed)? {
        let path = entry.with_context(failed)?.path();
        match path.is_dir() {
            true if path.ends_with("node_modules") => {}
            true => files_below(&path, found)?,
            false => found.push(path),
        }
    }
    Ok(())
}

/// Replaces `into` with a copy of `from`.
fn copy_folder(from: &Path, into: &Path) -> Result<()> {
    if into.exists() {
        fs::remove_dir_all(into).with_context(|| format!("failed to remove {}", into.display()))?;
    }
    let mut files = Vec::new();
    files_below(from, &mut files)?;
    for file in files {
        let target = into.join(file.strip_prefix(from).unwrap_or(&file));
        let folder = target.parent().unwrap_or(into);
        fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
        fs::copy(&file, &target).with_context(|| format!("failed to copy {}", file.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_made_again_when_its_source_or_the_sdk_changed() {
        let folder = tempfile::tempdir().unwrap();
        let [source, sdk] = ["source", "sdk"].map(|name| folder.path().join(name));
        fs::create_dir_all(sdk.join("build")).unwrap();
        fs::create_dir_all(&source).unwrap();
        let touch = |path: &Path, seconds: u64| {
            fs::write(path, "").unwrap();
            let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        };
        let (index, tool, out) = (source.join("index.ts"), sdk.join("build/main.mjs"), folder.path().join("out.wasm"));
        touch(&index, 1);
        touch(&tool, 1);
        assert!(!is_newer_than_inputs(&out, &source, &[&sdk]), "it was never made");
        touch(&out, 2);
        assert!(is_newer_than_inputs(&out, &source, &[&sdk]));
        touch(&tool, 3);
        assert!(!is_newer_than_inputs(&out, &source, &[&sdk]));
        touch(&tool, 1);
        touch(&index, 3);
        assert!(!is_newer_than_inputs(&out, &source, &[&sdk]));
    }

    #[test]
    fn a_copied_folder_has_nothing_that_the_old_one_had() {
        let folder = tempfile::tempdir().unwrap();
        let [from, into] = ["from", "into"].map(|name| folder.path().join(name));
        fs::create_dir_all(from.join("a/node_modules/x")).unwrap();
        fs::write(from.join("a/one"), "1").unwrap();
        fs::write(from.join("a/node_modules/x/two"), "2").unwrap();
        fs::create_dir_all(&into).unwrap();
        fs::write(into.join("old"), "").unwrap();
        copy_folder(&from, &into).unwrap();
        assert_eq!(fs::read_to_string(into.join("a/one")).unwrap(), "1");
        assert!(!into.join("old").exists() && !into.join("a/node_modules").exists());
    }
}
