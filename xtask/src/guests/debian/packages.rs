//! Downloading and unpacking packages of a newer suite with the machine's apt and dpkg, without touching its state.
//!
//! Apt gets lists, cache and an empty list of installed packages in a folder of our own, so it resolves every library
//! down to libc, takes no lock of the system's, and works for an ordinary user. It verifies signatures and hashes as
//! usual.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{super::say, sources::Mirror};
use crate::command;

/// The suites with a recent compiler; in this order, as the first is the one that holds together.
const SUITES: [&str; 2] = ["testing", "unstable"];

/// Fetched with everything they depend on: the standard libraries, and with them the compiler's own.
const WITH_DEPENDENCIES: [&str; 2] = ["libstd-rust-dev", "libstd-rust-dev-wasm32"];

/// Fetched alone: it depends on gcc and binutils, which are the machine's own here.
const ALONE: &str = "rustc";

/// Unpacks the compiler into `root`, from the first mirror and suite that has it; `work` is scratch space.
pub(super) fn fetch(mirrors: &[Mirror], work: &Path, root: &Path) -> Result<()> {
    let mut failures = String::new();
    for suite in SUITES {
        for mirror in mirrors {
            say(format_args!("fetching a compiler (190 MB) from {suite} at {}", mirror.uri));
            match Apt::new(work, mirror, suite).and_then(|apt| apt.download()) {
                Ok(files) => return unpack(&files, root),
                Err(error) => failures.push_str(&format!("\n{suite} at {}: {error:#}", mirror.uri)),
            }
        }
    }
    bail!("failed to fetch {} and {ALONE}{failures}", WITH_DEPENDENCIES.join(", "))
}

fn unpack(files: &[PathBuf], root: &Path) -> Result<()> {
    say(format_args!("unpacking {} packages", files.len()));
    files.iter().try_for_each(|file| command::run(Command::new("dpkg-deb").arg("--extract").arg(file).arg(root)))
}

/// An apt that knows one suite and no installed package.
struct Apt {
    work: PathBuf,
}

impl Apt {
    fn new(work: &Path, mirror: &Mirror, suite: &str) -> Result<Self> {
        let failed = || format!("failed to set up {}", work.display());
        if work.exists() {
            fs::remove_dir_all(work).with_context(failed)?;
        }
        for dir in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(work.join(dir)).with_context(failed)?;
        }
        let signed = mirror.keyring.as_ref().map(|file| format!("[signed-by={file}] ")).unwrap_or_default();
        fs::write(work.join("sources.list"), format!("deb {signed}{} {suite} main\n", mirror.uri))
            .with_context(failed)?;
        fs::write(work.join("state/status"), "").with_context(failed)?;
        Ok(Self { work: work.to_owned() })
    }

    fn download(&self) -> Result<Vec<PathBuf>> {
        command::output(self.get().arg("update"))?;
        let options = ["--yes", "--no-install-recommends", "--download-only", "install"];
        command::output(self.get().args(options).args(WITH_DEPENDENCIES))?;
        let archives = self.work.join("cache/archives");
        command::output(self.get().args(["download", ALONE]).current_dir(&archives))?;
        let failed = || format!("failed to list {}", archives.display());
        let mut files = Vec::new();
        for entry in fs::read_dir(&archives).with_context(failed)? {
            let file = entry.with_context(failed)?.path();
            if file.extension().is_some_and(|ext| ext == "deb") {
                files.push(file);
            }
        }
        files.sort();
        Ok(files)
    }

    fn get(&self) -> Command {
        let mut apt = Command::new("apt-get");
        apt.arg("--quiet");
        let work = self.work.display();
        for option in [
            format!("Dir::Etc::sourcelist={work}/sources.list"),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            // The machine's pins are about its own suite.
            "Dir::Etc::preferences=/dev/null".to_owned(),
            "Dir::Etc::preferencesparts=/dev/null".to_owned(),
            format!("Dir::State={work}/state"),
            format!("Dir::State::status={work}/state/status"),
            format!("Dir::Cache={work}/cache"),
            // As root, apt would download as a user who may not enter the target folder.
            "APT::Sandbox::User=root".to_owned(),
            // Package indexes are all that is read here; desktop metadata would double the download.
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
        ] {
            apt.args(["-o", &option]);
        }
        apt
    }
}
