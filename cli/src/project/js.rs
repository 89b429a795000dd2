//! A JavaScript or TypeScript service, by npm and the SDK's own builder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use super::{run, template};
use crate::exit::{Exit, Failure};

const NO_NPM: &str = "(hint: install Node.js 20 or later with its npm)";

pub(super) fn build(folder: &Path) -> Result<PathBuf, Failure> {
    let builder = builder(folder)?;
    run(Command::new("node").arg(builder).args(["build", "dist/service.wasm"]).current_dir(folder), NO_NPM)?;
    Ok(folder.join("dist/service.wasm"))
}

/// A service that an engine reads.
#[derive(Debug, Deserialize)]
pub(crate) struct Readable {
    /// The engine's file.
    pub(crate) engine: PathBuf,
    /// The values that it reads, in their order.
    pub(crate) parts: Vec<String>,
}

/// Makes what an engine can read, and the engine if it is not there; `None` for what runs on its own, and where the
/// project's SDK is one that cannot.
pub(super) fn readable(folder: &Path) -> Result<Option<Readable>, Failure> {
    let builder = builder(folder)?;
    if !builder.with_file_name("dev.mjs").exists() {
        return Ok(None);
    }
    run(Command::new("node").arg(builder).args(["dev", "dist"]).current_dir(folder), NO_NPM)?;
    let path = folder.join("dist/dev.json");
    let text = fs::read_to_string(&path).map_err(|error| Failure::io("read", &path, error))?;
    let read: Option<Readable> = serde_json::from_str(&text)
        .map_err(|error| Failure::new(Exit::Internal, error).during(format!("failed to read {}", path.display())))?;
    Ok(read.map(|read| Readable { engine: folder.join("dist").join(read.engine), ..read }))
}

/// The type check of a project, to be run beside other things.
pub(super) fn types(folder: &Path) -> Result<Command, Failure> {
    let mut command = Command::new("node");
    command.arg(builder(folder)?).arg("types").current_dir(folder);
    Ok(command)
}

/// The SDK's builder, and all that it needs.
fn builder(folder: &Path) -> Result<PathBuf, Failure> {
    template::complete_js(folder)?;
    install(folder)?;
    let builder = folder.join("node_modules/.bin/skiff-js");
    if !builder.exists() {
        let text = format!(
            "failed to find the builder of components: {} does not depend on skiff-sdk (hint: add \"skiff-sdk\": \"file:vendor/skiff-sdk\" to its dependencies, and run `npm install`)",
            folder.join("package.json").display()
        );
        return Err(Failure::message(Exit::Invalid, text));
    }
    let dist = folder.join("dist");
    fs::create_dir_all(&dist).map_err(|error| Failure::io("make", &dist, error))?;
    builder.canonicalize().map_err(|error| Failure::io("find", &builder, error))
}

/// What the lock file names, if it is not there yet. npm keeps a copy of the lock file of what it has installed.
fn install(folder: &Path) -> Result<(), Failure> {
    let modified = |name: &str| fs::metadata(folder.join(name)).and_then(|meta| meta.modified()).ok();
    let installed = modified("node_modules/.package-lock.json");
    let wanted = modified("package-lock.json").max(modified("package.json"));
    if installed.is_some() && installed >= wanted {
        return Ok(());
    }
    eprintln!("fetching what the service depends on");
    // Without a lock file there is nothing to be exact about; one that does not fit package.json any more is npm's to mend.
    let verb = if folder.join("package-lock.json").exists() && installed.is_none() { "ci" } else { "install" };
    run(Command::new("npm").args([verb, "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(folder), NO_NPM)?;
    // An npm that found nothing to do leaves the old time, and would be asked again each time.
    let stamp = folder.join("node_modules/.package-lock.json");
    if let Ok(file) = fs::File::options().append(true).open(&stamp) {
        file.set_modified(std::time::SystemTime::now()).map_err(|error| Failure::io("mark", &stamp, error))?;
    }
    Ok(())
}
