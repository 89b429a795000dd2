//! `cargo xtask guests`: every example and test guest, compiled to `guests/NAME.wasm` in the target folder.
//!
//! A guest in Rust is a crate of its own (its own lock file, outside the workspace), so that an example can be copied out of the
//! repository and builds there with plain `cargo build --release`: its target, profile and linker flags are in its own
//! `Cargo.toml` and `.cargo/config.toml`. This task adds what only the repository needs: a toolchain where rustup has
//! none to offer, and path remapping, so that the same sources and toolchain give the same bytes anywhere.
//!
//! A guest in JavaScript is a folder with a `package.json` (see [`js`]). Where Node.js is missing, a build of all guests
//! leaves it out and says so; one that names it fails.
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
mod js;
mod source;
mod toolchain;

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use self::source::Language;
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
    let without_js = js::missing().filter(|_| names.is_empty());
    let mut built = BTreeMap::new();
    for source in sources {
        let file = match source.language {
            Language::Rust => compile::compile(&source, &toolchain, &target),
            Language::JavaScript => match without_js {
                Some(missing) => {
                    say(format_args!("SKIPPED {}: {missing}", source.name));
                    continue;
                }
                None => js::compile(&source, &target),
            },
        };
        let file = file.with_context(|| format!("failed to build guest {}", source.name))?;
        built.insert(source.name, file);
    }
    Ok(built)
}

/// The variables with which cargo compiles guests, for tests that call it as a user does: JSON, names and values.
pub(crate) fn environment() -> Result<String> {
    let toolchain = toolchain::find(Origin::Any, &workspace::target_dir()?.join("guests-toolchain"))?;
    let mut cargo = Command::new("cargo");
    toolchain.configure(&mut cargo);
    let set = cargo.get_envs().filter_map(|(name, value)| Some((name.to_str()?, value?.to_str()?)));
    serde_json::to_string(&set.collect::<BTreeMap<_, _>>()).context("failed to write the guests' variables")
}

/// The folders of all guests that are crates.
pub(crate) fn folders() -> Result<Vec<PathBuf>> {
    let all = source::all(&workspace::root())?.into_iter();
    Ok(all.filter(|source| source.language == Language::Rust).map(|source| source.dir).collect())
}

/// Whether the installed toolchain, with its lints, compiles for the guests' targets.
pub(crate) fn installed_toolchain_serves() -> Result<bool> {
    Ok(toolchain::has_targets(&toolchain::installed_sysroot()?))
}

/// The names of all guests that are crates: they need nothing but a compiler, and are made in seconds.
pub(crate) fn crates() -> Result<Vec<String>> {
    let all = source::all(&workspace::root())?.into_iter();
    Ok(all.filter(|source| source.language == Language::Rust).map(|source| source.name).collect())
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
