//! `cargo xtask guests`: every example and test guest, compiled to `guests/NAME.wasm` in the target folder.
//!
//! A guest is a crate of its own (its own lock file, outside the workspace), so that an example can be copied out of the
//! repository and builds there with plain `cargo build --release`: its target, profile and linker flags are in its own
//! `Cargo.toml` and `.cargo/config.toml`. This task adds what only the repository needs: a toolchain where rustup has
//! none to offer, and path remapping, so that the same sources and toolchain give the same bytes anywhere.
//!
//! ```text
//! crates ──▶ toolchain ──▶ cargo build, one per guest ──▶ target/guests/NAME.wasm
//! (source)   installed, unpacked before, rustup,  (compile)   (renamed into place, and only
//!            or the distribution's (debian)                    when the bytes changed)
//! ```
//!
//! Several runs at once (a demo beside a test) take turns on a lock file. Everything lives under the target folder:
//! deleting it is the recovery from anything.

mod compile;
mod debian;
mod source;
mod toolchain;

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

pub(crate) use self::toolchain::Origin;
use crate::workspace;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Which guests to build; all of them when none is named
    names: Vec<String>,
    /// Where the compiler comes from
    #[arg(long, value_enum, default_value_t)]
    toolchain: Origin,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let names: Vec<&str> = options.names.iter().map(String::as_str).collect();
    for (_, file) in build(&names, options.toolchain)? {
        println!("{}", file.display());
    }
    Ok(())
}

/// Builds the named guests, or all when `names` is empty, and returns their files by name.
pub(crate) fn build(names: &[&str], origin: Origin) -> Result<BTreeMap<String, PathBuf>> {
    let sources = source::select(source::all(&workspace::root())?, names)?;
    let target = workspace::target_dir()?;
    fs::create_dir_all(&target).with_context(|| format!("failed to create {}", target.display()))?;
    let _turn = take_turn(&target.join("guests.lock"))?;
    let toolchain = toolchain::find(origin, &target.join("guests-toolchain"))?;
    let mut built = BTreeMap::new();
    for source in sources {
        let file = compile::compile(&source, &toolchain, &target)
            .with_context(|| format!("failed to build guest {}", source.name))?;
        built.insert(source.name, file);
    }
    Ok(built)
}

/// The folders of all guest crates.
pub(crate) fn folders() -> Result<Vec<PathBuf>> {
    Ok(source::all(&workspace::root())?.into_iter().map(|source| source.dir).collect())
}

/// Whether the installed toolchain, with its lints, compiles for the guests' targets.
pub(crate) fn installed_toolchain_serves() -> Result<bool> {
    Ok(toolchain::has_targets(&toolchain::installed_sysroot()?))
}

/// Held until dropped; the system releases it when the process dies.
fn take_turn(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| format!("failed to create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => say("waiting for another build of the guests"),
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("failed to lock {}", path.display()));
        }
    }
    file.lock().with_context(|| format!("failed to lock {}", path.display()))?;
    Ok(file)
}

fn say(line: impl std::fmt::Display) {
    eprintln!("guests: {line}");
}
