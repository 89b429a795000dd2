//! One JavaScript guest to one WebAssembly file, by npm's componentize-js.
//!
//! Everything happens in a folder of the target folder, so that the sources stay clean. The WIT files are those of the
//! wasmtime-wasi-http crate: the engine inside the component speaks an earlier patch version of the same interfaces, so
//! only the number is replaced. A guest is made again when one of its files is newer: a component takes ten seconds.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::source::Source;
use crate::{command, workspace};

/// What the embedded engine exports. It accepts no other.
const WASI_VERSION: &str = "0.2.10";

/// The world of the component, beside the packages it includes.
const WORLD: &str = "package skiff:guest;\n\nworld service {\n  include wasi:http/proxy@0.2.10;\n  \
                     import wasi:cli/environment@0.2.10;\n}\n";

/// What a guest is made of. What else is in its folder is for people.
const INPUTS: [&str; 4] = ["package.json", "package-lock.json", "build.mjs", "index.js"];

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
    if is_newer_than_inputs(&out, &source.dir) {
        return Ok(out);
    }
    if let Some(missing) = missing() {
        bail!(missing);
    }
    let folder = target.join("guests-js").join(&source.name);
    let wit = folder.join("wit/deps");
    fs::create_dir_all(&wit).with_context(|| format!("failed to create {}", wit.display()))?;
    for name in INPUTS {
        fs::copy(source.dir.join(name), folder.join(name)).with_context(|| format!("failed to copy {name}"))?;
    }
    copy_wit(&wit)?;
    fs::write(folder.join("wit/world.wit"), WORLD).context("failed to write the world")?;
    super::say(format_args!("making a component of {}", source.name));
    command::run(Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--silent"]).current_dir(&folder))?;
    let made = folder.join("made.wasm");
    let mut node = Command::new("node");
    node.args(["build.mjs", "index.js", "wit"]).arg(&made).current_dir(&folder);
    command::run(&mut node)?;
    fs::create_dir_all(target.join("guests")).context("failed to create the guests' folder")?;
    fs::rename(&made, &out).with_context(|| format!("failed to move {}", out.display()))?;
    Ok(out)
}

fn is_newer_than_inputs(out: &Path, source: &Path) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let Some(made) = modified(out) else { return false };
    INPUTS.iter().all(|name| modified(&source.join(name)).is_some_and(|changed| changed < made))
}

/// The WASI packages of the crate that the node links, in the engine's version.
fn copy_wit(into: &Path) -> Result<()> {
    let deps = crate_folder("wasmtime-wasi-http")?.join("wit/deps");
    let files = fs::read_dir(&deps).with_context(|| format!("failed to read {}", deps.display()))?;
    for file in files {
        let file = file.with_context(|| format!("failed to read {}", deps.display()))?;
        let text = fs::read_to_string(file.path()).with_context(|| format!("failed to read {:?}", file.file_name()))?;
        let version =
            text.lines().find_map(|line| line.strip_prefix("package ")?.trim_end_matches(';').rsplit_once('@'));
        let text = match version {
            Some((_, version)) => text.replace(version, WASI_VERSION),
            None => text,
        };
        fs::write(into.join(file.file_name()), text)
            .with_context(|| format!("failed to write {:?}", file.file_name()))?;
    }
    Ok(())
}

/// Where cargo has the sources of a dependency.
fn crate_folder(name: &str) -> Result<PathBuf> {
    let mut metadata = Command::new(workspace::cargo());
    metadata.args(["metadata", "--format-version=1", "--locked"]).current_dir(workspace::root());
    let metadata: serde_json::Value =
        serde_json::from_str(&command::output(&mut metadata)?).context("failed to parse cargo's metadata")?;
    let packages = metadata["packages"].as_array().context("failed to find packages in cargo's metadata")?;
    let package = packages.iter().find(|package| package["name"] == name);
    let manifest = package.and_then(|package| package["manifest_path"].as_str());
    let manifest = manifest.with_context(|| format!("failed to find {name} in cargo's metadata"))?;
    Ok(Path::new(manifest).parent().unwrap_or(Path::new("/")).to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wit_files_are_those_of_one_version() {
        let folder = std::env::temp_dir().join(format!("skiff-wit-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        copy_wit(&folder).unwrap();
        let http = fs::read_to_string(folder.join("http.wit")).unwrap();
        assert!(http.contains(&format!("package wasi:http@{WASI_VERSION};")), "{http}");
        fs::remove_dir_all(folder).unwrap();
    }
}
