//! Where other people's programs come from: the machine, else its package manager or a registry.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use crate::places::target_folder;

/// One package manager at a time.
static INSTALLING: Mutex<()> = Mutex::new(());

/// A program, installed from the Debian package of this name if the machine does not have it.
///
/// # Panics
/// When it is not there and cannot be installed: a client that is not tested is a failure, not a success.
pub fn program(name: &str, package: &str) -> PathBuf {
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(path) = find(name) {
        return path;
    }
    eprintln!("installing {package} for {name}");
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        command
            .output()
            .unwrap_or_else(|error| panic!("there is no {name}, and no apt-get to install {package}: {error}"))
    };
    let install = ["install", "-y", "-q", "--no-install-recommends", package];
    let mut output = apt(&install);
    if !output.status.success() {
        // The lists may be too old, or none.
        apt(&["update", "-q"]);
        output = apt(&install);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    find(name).unwrap_or_else(|| {
        panic!("there is no {name}, and apt-get cannot install {package} (hint: as root it can): {said}")
    })
}

/// A program of the registry of crates, compiled once into the target folder. `version` is exact: what is tested is known.
///
/// # Panics
/// When it cannot be compiled: a client that is not tested is a failure, not a success.
pub fn crates_program(name: &str, version: &str) -> PathBuf {
    let _one_at_a_time = INSTALLING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let tools = target_folder().join("tools");
    let (root, built) = (tools.join(format!("{name}-{version}")), tools.join("build"));
    let path = root.join("bin").join(name);
    if !path.is_file() {
        eprintln!("compiling {name} {version}, which takes some minutes once");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["install", "--quiet", "--locked", "--debug", "--version", version, name, "--root"]).arg(root);
        // It runs for a moment: nobody waits for its speed, or debugs it.
        cargo.env("CARGO_TARGET_DIR", &built).env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_INCREMENTAL", "0");
        done(&mut cargo);
        // It is not needed again, and large.
        drop(std::fs::remove_dir_all(built));
    }
    path
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Runs a command to its end and returns what it printed.
///
/// # Panics
/// When it fails.
#[track_caller]
pub fn done(command: &mut Command) -> String {
    let output =
        command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("failed to start {command:?}: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} ended with {:?}\n{out}{err}", output.status.code());
    out.into_owned()
}
