//! Finding a compiler for the guests' targets.
//!
//! In this order: the installed toolchain, when it has the targets; one unpacked from the distribution's packages before;
//! `rustup target add`; the distribution's packages, fetched now. The unpacked one comes before rustup so that a machine
//! which cannot reach rustup's server asks it once, not on every build. When all fail, the error says why each did.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{debian, say};
use crate::command;

/// wasip2 makes components; wasip1 makes the core module that tests the adaptation at push.
pub(super) const TARGETS: [&str; 2] = ["wasm32-wasip2", "wasm32-wasip1"];

/// Where the compiler comes from.
#[derive(Clone, Copy, Default, clap::ValueEnum)]
pub(crate) enum Origin {
    /// The installed toolchain, with rustup's help; the distribution where that fails
    #[default]
    Any,
    /// The distribution's packages, even where the installed toolchain would do
    Debian,
}

pub(super) struct Toolchain {
    pub(super) sysroot: PathBuf,
    unpacked: Option<debian::Unpacked>,
}

impl Toolchain {
    /// Makes `cargo` compile with this toolchain.
    pub(super) fn configure(&self, cargo: &mut Command) {
        if let Some(unpacked) = &self.unpacked {
            unpacked.configure(cargo);
        }
    }

    fn unpacked(unpacked: debian::Unpacked) -> Self {
        Self { sysroot: unpacked.sysroot(), unpacked: Some(unpacked) }
    }
}

/// Finds a toolchain, or fetches one into `dir`.
pub(super) fn find(origin: Origin, dir: &Path) -> Result<Toolchain> {
    let sysroot = installed_sysroot()?;
    let installed = || Toolchain { sysroot: sysroot.clone(), unpacked: None };
    if matches!(origin, Origin::Any) && has_targets(&sysroot) {
        return Ok(installed());
    }
    if let Some(unpacked) = debian::Unpacked::find(dir, &sysroot) {
        return Ok(Toolchain::unpacked(unpacked));
    }
    let rustup = match origin {
        Origin::Any => add_by_rustup(),
        Origin::Debian => Err(anyhow::anyhow!("not tried: the distribution's packages were asked for")),
    };
    let rustup = match rustup {
        Ok(()) if has_targets(&sysroot) => return Ok(installed()),
        Ok(()) => anyhow::anyhow!("rustup added the targets to another toolchain than {}", sysroot.display()),
        Err(error) => error,
    };
    match debian::fetch(dir, &sysroot) {
        Ok(unpacked) => Ok(Toolchain::unpacked(unpacked)),
        Err(debian) => bail!(
            "failed to find a compiler for {}\nthe installed toolchain, {}, lacks them\nrustup: {rustup:#}\n\
             the distribution's packages: {debian:#}\n\
             (hint: with rustup and a network that reaches its server, `rustup target add {}`)",
            TARGETS.join(" and "),
            sysroot.display(),
            TARGETS.join(" "),
        ),
    }
}

/// Whether a sysroot holds the standard library of every target.
pub(super) fn has_targets(sysroot: &Path) -> bool {
    TARGETS.iter().all(|target| {
        let Ok(files) = fs::read_dir(sysroot.join("lib/rustlib").join(target).join("lib")) else { return false };
        files.flatten().any(|file| {
            let name = file.file_name();
            let name = name.to_string_lossy();
            name.starts_with("libstd-") && name.ends_with(".rlib")
        })
    })
}

pub(super) fn installed_sysroot() -> Result<PathBuf> {
    let sysroot = command::output(Command::new("rustc").args(["--print", "sysroot"]))
        .context("failed to find the installed toolchain (hint: install Rust)")?;
    Ok(PathBuf::from(sysroot.trim_end()))
}

fn add_by_rustup() -> Result<()> {
    say(format_args!("asking rustup for {}", TARGETS.join(" and ")));
    // One attempt: a server that cannot be reached is the expected case, and the next source is at hand.
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add"]).args(TARGETS).env("RUSTUP_MAX_RETRIES", "0");
    command::output(&mut rustup).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sysroot_needs_the_standard_library_of_every_target() {
        let sysroot = tempfile::tempdir().unwrap();
        for target in TARGETS {
            assert!(!has_targets(sysroot.path()));
            let lib = sysroot.path().join("lib/rustlib").join(target).join("lib");
            fs::create_dir_all(&lib).unwrap();
            fs::write(lib.join("libstd-0123.rlib"), "").unwrap();
        }
        assert!(has_targets(sysroot.path()));
    }
}
