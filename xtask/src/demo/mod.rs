//! `cargo xtask demo`: from a checkout to running services, in Rust and JavaScript, and their answers, in one command.
//!
//! It does what a newcomer would do by hand, with the real command line, and shows each command before it runs: build the
//! examples and `skiff`, start a cluster on an empty folder, push, apply, ask: hello first, then a shop of four services in both
//! languages that call each other. Then the cluster stays up until Ctrl-C,
//! with commands to try. `skiff` is built by the dev profile: its dependencies are optimised there too, and it is compiled
//! in a fraction of the time that a release build takes.
//!
//! Everything is under `demo/N` in the target folder, emptied at each start; N is 1 unless other demos are running, each
//! of which holds a lock on its own. Deleting the folder is the recovery from anything.

mod cluster;
mod request;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::cluster::Cluster;
use crate::binary::{self, Profile};
use crate::{guests, workspace};

/// Where `skiff up` listens by itself.
const API_PORT: u16 = 7070;
const GATEWAY_PORT: u16 = 8080;
const STEPS: u8 = 5;

/// An example that is deployed.
struct Example {
    what: &'static str,
    /// Guests, and what they are pushed as.
    images: &'static [(&'static str, &'static str)],
    manifest: &'static str,
    path: &'static str,
    /// What is sent, and where to, once it has answered.
    sent: Option<(&'static str, &'static str)>,
}

const EXAMPLES: [Example; 2] = [
    Example {
        what: "a service in Rust",
        images: &[("hello", "hello")],
        manifest: "examples/hello/skiff.yaml",
        path: "/",
        sent: None,
    },
    Example {
        what: "a shop: a front in JavaScript, before three services in Rust that call each other",
        images: &[
            ("shop-catalog", "shop/catalog"),
            ("shop-prices", "shop/prices"),
            ("shop-orders", "shop/orders"),
            ("shop-web", "shop/web"),
        ],
        manifest: "examples/shop/skiff.yaml",
        path: "/shop",
        sent: Some(("/shop/orders", r#"{"item": "skiff", "count": 10}"#)),
    },
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Stop after the first answer instead of staying up
    #[arg(long)]
    once: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let built = built()?;
    let folder = Folder::take(&workspace::target_dir()?.join("demo"))?;
    let since = Instant::now();
    let mut cluster = started(&built, &folder)?;
    let outcome = deployed(&built, &folder, &cluster, since).and_then(|()| match options.once {
        true => Ok(()),
        false => {
            println!("{}", to_try(&built, &folder, &cluster));
            cluster.wait()
        }
    });
    if outcome.is_ok() {
        println!("\nStopping the cluster");
        cluster.stop()?;
    }
    outcome
}

/// What the demo runs.
struct Built {
    skiff: PathBuf,
    guests: BTreeMap<String, PathBuf>,
}

fn built() -> Result<Built> {
    let names: Vec<&str> = EXAMPLES.iter().flat_map(|example| example.images).map(|(guest, _)| *guest).collect();
    let guests =
        step(1, "build the examples, in Rust and JavaScript", || guests::build(&names, guests::Origin::default()))?;
    let skiff = step(2, "build skiff", || binary::build("skiff", "skiff", Profile::Dev))?;
    Ok(Built { skiff, guests })
}

fn started(built: &Built, folder: &Folder) -> Result<Cluster> {
    step(3, "start a cluster: control plane, registry and node in one process", || {
        let (api, gateway) = (cluster::free_address(API_PORT), cluster::free_address(GATEWAY_PORT));
        for (address, port) in [(&api, API_PORT), (&gateway, GATEWAY_PORT)] {
            if address.ends_with(":0") {
                println!("    (port {port} is in use: taking a free one)");
            }
        }
        let data = folder.path.join("data");
        let mut up = skiff(built, folder, &["up", "--listen", &api, "--gateway", &gateway, "--data"]);
        up.arg(&data);
        println!("    $ export SKIFF_CONFIG={}", quoted(&folder.config().to_string_lossy()));
        println!("    $ {}", shown(&up));
        let cluster = Cluster::start(&mut up, &folder.path.join("skiff.log"))?;
        println!("    the API answers on {}, services on {}", cluster.api, cluster.gateway);
        Ok(cluster)
    })
}

/// Pushes, applies, asks.
fn deployed(built: &Built, folder: &Folder, cluster: &Cluster, since: Instant) -> Result<()> {
    let mut outcome = Ok(());
    for (number, example) in (4..).zip(&EXAMPLES) {
        outcome = outcome.and_then(|()| deploy(built, folder, cluster, number, example));
        if outcome.is_ok() && number == 4 {
            println!("\nFrom an empty folder to the first answer: {}", seconds(since.elapsed()));
        }
    }
    outcome.with_context(|| format!("the demo failed; {}\n", cluster.tail()))
}

fn deploy(built: &Built, folder: &Folder, cluster: &Cluster, number: u8, example: &Example) -> Result<()> {
    let Example { what, images, manifest, path, sent } = example;
    step(number, &format!("deploy {what}, and ask"), || {
        for (guest, image) in *images {
            let file = built.guests.get(*guest).with_context(|| format!("failed to build {guest}"))?;
            let mut push = skiff(built, folder, &["push", image]);
            echoed(push.arg(relative(file)))?;
        }
        // A JavaScript engine takes the dev profile's compiler a while.
        echoed(&mut skiff(built, folder, &["apply", "--wait", "--timeout", "300s", "-f", manifest]))?;
        println!("    $ curl {}{path}", cluster.gateway);
        let answer = request::get(&cluster.gateway, path)?;
        println!("{}", answer.body.trim_end());
        if let Some((path, body)) = sent {
            println!("    $ curl {}{path} -d {}", cluster.gateway, quoted(body));
            println!("{}", request::post(&cluster.gateway, path, body)?.body.trim_end());
        }
        Ok(())
    })
}

/// What to do next, to be pasted into another terminal.
fn to_try(built: &Built, folder: &Folder, cluster: &Cluster) -> String {
    let bin = built.skiff.parent().unwrap_or(&built.skiff);
    let gateway = &cluster.gateway;
    format!(
        "\nThe cluster stays up until Ctrl-C. In another terminal:\n
    export SKIFF_CONFIG={config}
    export PATH={bin}:\"$PATH\"
    curl {gateway}/ {gateway}/shop
    skiff ps -A
    skiff get services
    skiff scale hello --replicas 3
    skiff get replicas
    skiff logs orders -n shop
    skiff describe service hello
    skiff logs hello
    skiff delete service hello
\nIts log is {log}",
        config = quoted(&folder.config().to_string_lossy()),
        bin = quoted(&bin.to_string_lossy()),
        log = folder.path.join("skiff.log").display(),
    )
}

/// A demo's own folder, for as long as this lives.
struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Takes the first one in `parent` that no other demo has, and empties it.
    fn take(parent: &Path) -> Result<Self> {
        fs::create_dir_all(parent).with_context(|| format!("failed to create {}", parent.display()))?;
        for number in 1..=u8::MAX {
            let lock_path = parent.join(format!("{number}.lock"));
            let failed = || format!("failed to lock {}", lock_path.display());
            let lock = File::create(&lock_path).with_context(failed)?;
            match lock.try_lock() {
                Ok(()) => return Self::emptied(parent.join(number.to_string()), lock),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error).with_context(failed),
            }
        }
        bail!("failed to find a free folder in {}: {} demos are running", parent.display(), u8::MAX);
    }

    fn emptied(path: PathBuf, lock: File) -> Result<Self> {
        let failed = || format!("failed to empty {}", path.display());
        if path.exists() {
            fs::remove_dir_all(&path).with_context(failed)?;
        }
        fs::create_dir_all(&path).with_context(failed)?;
        Ok(Self { path, _lock: lock })
    }

    fn config(&self) -> PathBuf {
        self.path.join("context.json")
    }
}

/// A command of the demo's `skiff`, for the demo's cluster and no other.
fn skiff(built: &Built, folder: &Folder, args: &[&str]) -> Command {
    let mut command = Command::new(&built.skiff);
    command.args(args).current_dir(workspace::root()).env("SKIFF_CONFIG", folder.config());
    for variable in ["SKIFF_SERVER", "SKIFF_TOKEN", "SKIFF_LOG"] {
        command.env_remove(variable);
    }
    command
}

/// Shows the command, then runs it.
fn echoed(command: &mut Command) -> Result<()> {
    println!("    $ {}", shown(command));
    crate::command::run(command)
}

/// As it would be typed in the repository's root.
fn shown(command: &Command) -> String {
    let mut line = String::from("skiff");
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&quoted(&relative(Path::new(arg)).to_string_lossy()));
    }
    line
}

/// Relative to the repository's root, if below.
fn relative(path: &Path) -> PathBuf {
    path.strip_prefix(workspace::root()).unwrap_or(path).to_path_buf()
}

/// For a shell: as it is where that is safe.
fn quoted(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "/._-:=".contains(c);
    match text.chars().all(safe) && !text.is_empty() {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// Runs one step under its heading and says how long it took.
fn step<T>(number: u8, what: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("\n[{number}/{STEPS}] {what}");
    let since = Instant::now();
    let result = run()?;
    println!("    done in {}", seconds(since.elapsed()));
    Ok(result)
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_for_a_shell_only_where_they_must_be() {
        assert_eq!(quoted("/a/b-1.json"), "/a/b-1.json");
        assert_eq!(quoted("/a b/it's"), r"'/a b/it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn two_demos_have_two_folders_and_each_is_empty() {
        let parent = tempfile::tempdir().unwrap();
        let first = Folder::take(parent.path()).unwrap();
        fs::write(first.path.join("old"), "").unwrap();
        let second = Folder::take(parent.path()).unwrap();
        assert_ne!(first.path, second.path);
        let path = first.path.clone();
        drop(first);
        let again = Folder::take(parent.path()).unwrap();
        assert_eq!(again.path, path);
        assert!(fs::read_dir(&again.path).unwrap().next().is_none());
    }
}
