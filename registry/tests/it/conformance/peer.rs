//! Debian's `docker-registry` under the same cases.
//!
//! The package is fetched with apt and unpacked below `target`, not installed: installing it would start a service.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::Suite;

/// Where version 2.8 fails, in the order of the cases; why stands in its comments.
const KNOWN: &str = include_str!("docker-registry-2.8.txt");

#[tokio::test]
async fn docker_registry_fails_where_it_is_known_to() {
    let Some(peer) = Peer::start() else {
        eprintln!("SKIPPED docker_registry_fails_where_it_is_known_to: there is no docker-registry, and apt has none");
        return;
    };
    let cases = Suite::run(&peer.endpoint).await;
    let known: Vec<&str> = KNOWN.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let failed: Vec<&str> =
        cases.iter().filter(|(_, outcome)| outcome.is_err()).map(|(name, _)| name.as_str()).collect();
    let why: Vec<_> =
        cases.iter().filter(|(name, outcome)| outcome.is_err() && !known.contains(&name.as_str())).collect();
    assert_eq!(failed, known, "{why:#?}");
}

/// A running registry; stopped when dropped.
struct Peer {
    process: Child,
    endpoint: String,
    _dir: tempfile::TempDir,
}

impl Peer {
    fn start() -> Option<Self> {
        let program = program()?;
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.yml");
        let data = dir.path().join("data");
        let text = format!(
            "version: 0.1\nlog: {{level: info, formatter: json}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp: {{addr: \"127.0.0.1:0\"}}\n",
            data.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(program);
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        while log.read_line(&mut line).unwrap() > 0 {
            if let Some((_, rest)) = line.split_once("listening on ") {
                let endpoint = rest.split(['"', ' ', ',', '\n']).next().unwrap().to_owned();
                // What it says later must not fill the pipe.
                std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
                return Some(Self { process, endpoint, _dir: dir });
            }
            line.clear();
        }
        process.wait().unwrap();
        panic!("docker-registry ended: {line}");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An installed one, or the package's, unpacked.
fn program() -> Option<PathBuf> {
    let installed = std::env::var_os("PATH").and_then(|path| {
        std::env::split_paths(&path).map(|dir| dir.join("docker-registry")).find(|program| program.is_file())
    });
    if installed.is_some() {
        return installed;
    }
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?.join("target/tools");
    let program = tools.join("docker-registry/usr/bin/docker-registry");
    if !program.is_file() {
        std::fs::create_dir_all(&tools).unwrap();
        let fresh = tempfile::tempdir_in(&tools).unwrap();
        let run = |program: &str, args: &[&str]| {
            Command::new(program)
                .args(args)
                .current_dir(fresh.path())
                .stdout(Stdio::null())
                .status()
                .is_ok_and(|s| s.success())
        };
        if !run("apt-get", &["download", "docker-registry"]) {
            // On a fresh machine apt knows no package yet.
            run("apt-get", &["update", "--quiet=2"]);
            if !run("apt-get", &["download", "docker-registry"]) {
                return None;
            }
        }
        let package = std::fs::read_dir(fresh.path())
            .ok()?
            .flatten()
            .find(|entry| entry.path().extension().is_some_and(|e| e == "deb"))?;
        if !run("dpkg-deb", &["-x", package.path().to_str()?, "unpacked"]) {
            return None;
        }
        // Whoever was faster did the same.
        let _ = std::fs::rename(fresh.path().join("unpacked"), tools.join("docker-registry"));
    }
    program.is_file().then_some(program)
}
