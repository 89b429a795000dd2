//! The distribution's compiler, unpacked into a folder, for machines whose network has a Debian mirror but not rustup's
//! server.
//!
//! Debian's newer suites carry rustc with the standard library of the wasm targets. Installing it would replace half the
//! system (it wants a newer libc), so its packages and every library they need are only unpacked, and rustc runs under
//! the dynamic loader that came with them. Two things stay the machine's own: gcc links build scripts and proc macros,
//! and the installed Rust toolchain gives the wasm linkers, which are the same for every rustc of about its age.
//!
//! A folder that exists is complete: it is filled under another name, flushed to disk and then renamed. An interrupted
//! run leaves only the other name, which the next run empties. Deleting the folder fetches everything again, which is
//! also how to update it.

mod packages;
mod sources;

use std::{
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{
    say,
    toolchain::{self, TARGETS},
};
use crate::command;

/// A compiler unpacked below `dir`.
pub(super) struct Unpacked {
    dir: PathBuf,
    /// Folder of the wasm linkers in the installed toolchain.
    linkers: PathBuf,
}

impl Unpacked {
    /// The complete toolchain in `dir`, if there is one.
    pub(super) fn find(dir: &Path, installed_sysroot: &Path) -> Option<Self> {
        let layout = Layout::of_this_machine().ok()?;
        let linkers = layout.linkers(installed_sysroot);
        (dir.join("rustc").is_file() && linkers.is_dir()).then(|| Self { dir: dir.to_owned(), linkers })
    }

    pub(super) fn sysroot(&self) -> PathBuf {
        self.dir.join(SYSROOT)
    }

    /// Makes `cargo` use this compiler and the installed linkers.
    pub(super) fn configure(&self, cargo: &mut Command) {
        cargo.env("RUSTC", self.dir.join("rustc"));
        cargo.env("CARGO_TARGET_WASM32_WASIP2_LINKER", self.linkers.join("wasm-component-ld"));
        cargo.env("CARGO_TARGET_WASM32_WASIP1_LINKER", self.linkers.join("rust-lld"));
        // wasm-component-ld looks for wasm-ld on the path.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let dirs = [self.linkers.clone(), self.linkers.join("gcc-ld")].into_iter().chain(std::env::split_paths(&path));
        // Fails only on a folder with a colon in its name, which could not be on the path anyway.
        cargo.env("PATH", std::env::join_paths(dirs).unwrap_or(path));
    }
}

/// Fetches the newest toolchain of the distribution into `dir`.
pub(super) fn fetch(dir: &Path, installed_sysroot: &Path) -> Result<Unpacked> {
    let layout = Layout::of_this_machine()?;
    let linkers = layout.linkers(installed_sysroot);
    if !linkers.join("wasm-component-ld").is_file() {
        bail!("the installed toolchain has no wasm linkers in {}", linkers.display());
    }
    let sources = sources::of_this_machine()?;
    let partial = dir.with_extension("partial");
    for old in [dir, &partial] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("failed to remove {}", old.display()))?;
        }
    }
    let root = partial.join("root");
    fs::create_dir_all(&root).with_context(|| format!("failed to create {}", root.display()))?;

    packages::fetch(&sources, &partial.join("apt"), &root)?;
    let work = partial.join("apt");
    fs::remove_dir_all(&work).with_context(|| format!("failed to remove {}", work.display()))?;
    write_wrapper(&partial.join("rustc"), &layout)?;
    check(&partial)?;

    // Without this, a power cut after the rename could leave a complete-looking folder of empty files.
    command::run(Command::new("sync").arg("--file-system").arg(&partial))?;
    fs::rename(&partial, dir).with_context(|| format!("failed to rename {} into place", partial.display()))?;
    say(format_args!("unpacked the distribution's compiler into {}", dir.display()));
    Unpacked::find(dir, installed_sysroot).context("failed to find the toolchain just unpacked")
}

const SYSROOT: &str = "root/usr";

/// Where Debian puts things on one architecture.
struct Layout {
    loader: &'static str,
    libraries: &'static str,
    /// The host triple, whose folder in the installed toolchain holds the linkers.
    host: &'static str,
}

impl Layout {
    fn of_this_machine() -> Result<Self> {
        match ARCH {
            "x86_64" => Ok(Self {
                loader: "lib64/ld-linux-x86-64.so.2",
                libraries: "lib/x86_64-linux-gnu",
                host: "x86_64-unknown-linux-gnu",
            }),
            "aarch64" => Ok(Self {
                loader: "lib/ld-linux-aarch64.so.1",
                libraries: "lib/aarch64-linux-gnu",
                host: "aarch64-unknown-linux-gnu",
            }),
            other => {
                bail!("unpacking the distribution's compiler works on x86_64 and aarch64, this machine is {other}")
            }
        }
    }

    fn linkers(&self, installed_sysroot: &Path) -> PathBuf {
        installed_sysroot.join("lib/rustlib").join(self.host).join("bin")
    }
}

/// A script that runs the unpacked rustc; it finds everything from its own place, so the folder can be renamed.
fn write_wrapper(path: &Path, layout: &Layout) -> Result<()> {
    let Layout { loader, libraries, .. } = layout;
    let script = format!(
        "#!/bin/sh\nusr=\"$(dirname \"$0\")/{SYSROOT}\"\nexec \"$usr/{loader}\" --library-path \"$usr/{libraries}\" \
         --argv0 \"$usr/bin/rustc\" \"$usr/bin/rustc\" --sysroot \"$usr\" \"$@\"\n"
    );
    let failed = || format!("failed to write {}", path.display());
    fs::write(path, script).with_context(failed)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(path, mode).with_context(failed)
}

/// Compiles an empty crate for every target: while a suite moves, its compiler and standard library can differ in version.
fn check(partial: &Path) -> Result<()> {
    if !toolchain::has_targets(&partial.join(SYSROOT)) {
        bail!("the distribution's packages lack the standard library of {}", TARGETS.join(" or "));
    }
    let scratch = partial.join("check");
    fs::create_dir(&scratch).with_context(|| format!("failed to create {}", scratch.display()))?;
    let source = scratch.join("empty.rs");
    fs::write(&source, "").with_context(|| format!("failed to write {}", source.display()))?;
    for target in TARGETS {
        // Into a folder of our own: rustc renames its output into place, so a device named with `-o`, even the null
        // one, would be replaced by a file when this runs as root.
        let mut rustc = Command::new(partial.join("rustc"));
        rustc.args(["--crate-type=lib", "--emit=metadata", "--target", target, "--out-dir"]);
        command::output(rustc.args([&scratch, &source]))?;
    }
    fs::remove_dir_all(&scratch).with_context(|| format!("failed to remove {}", scratch.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_being_filled_is_not_a_toolchain() {
        let target = tempfile::tempdir().unwrap();
        let sysroot = target.path().join("installed");
        let layout = Layout::of_this_machine().unwrap();
        fs::create_dir_all(layout.linkers(&sysroot)).unwrap();
        let dir = target.path().join("guests-toolchain");
        let partial = dir.with_extension("partial");
        fs::create_dir_all(&partial).unwrap();
        write_wrapper(&partial.join("rustc"), &layout).unwrap();
        assert!(Unpacked::find(&dir, &sysroot).is_none());
        fs::rename(&partial, &dir).unwrap();
        assert!(Unpacked::find(&dir, &sysroot).is_some());
    }
}
