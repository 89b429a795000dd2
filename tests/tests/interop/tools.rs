//! skopeo, podman, oras and wkg against the cluster's registry: what they push runs, what is here they pull.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use skiff_tests::{Cluster, Run, guest};

use super::foreign::DockerRegistry;
use super::image::{hello, tar};
use skiff_tests::programs::{crates_program, done, program};

fn push_hello(cluster: &Cluster, image: &str) {
    cluster.skiff(&["push", image, guest("hello").to_str().unwrap()]).ok();
}

fn runs(cluster: &Cluster, image: &str, name: &str) -> Run {
    let host = format!("{name}.test");
    let run = cluster.skiff(&["run", image, "--name", name, "--host", &host]).ok();
    assert_eq!(cluster.get_host(&host, "/").text(), "Hello from Skiff!\n", "{image}");
    run
}

/// `docker login`, as Skiff does it for the others.
fn log_in(cluster: &Cluster) -> String {
    cluster.skiff(&["login", "--docker"]).ok();
    cluster.path("docker/config.json").to_str().unwrap().to_owned()
}

#[test]
fn skopeo_copies_in_and_out_lists_and_deletes() {
    let skopeo = program("skopeo", "skopeo");
    let cluster = Cluster::start();
    let authfile = log_in(&cluster);
    let here = format!("docker://{}", cluster.api_addr());
    let skopeo = |args: &[&str]| {
        let mut command = Command::new(&skopeo);
        command.args(["--insecure-policy", args[0]]).args(&args[1..]).current_dir(cluster.path("."));
        done(command.env("REGISTRY_AUTH_FILE", &authfile))
    };
    push_hello(&cluster, "hello:1");
    let (out, back) = (format!("{here}/default/hello:1"), format!("{here}/default/back:1"));
    skopeo(&["copy", "--src-tls-verify=false", &out, "oci:layout:1"]);
    skopeo(&["copy", "--dest-tls-verify=false", "oci:layout:1", &back]);
    runs(&cluster, "back:1", "back");
    // By way of docker's registry, in whose hands it stays the same.
    let other = DockerRegistry::open();
    let foreign = format!("docker://{}/acme/hello:1", other.addr);
    skopeo(&["copy", "--src-tls-verify=false", "--dest-tls-verify=false", &out, &foreign]);
    let raw = |image: &str| skopeo(&["inspect", "--raw", "--tls-verify=false", image]);
    assert_eq!(raw(&foreign), raw(&out));
    skopeo(&[
        "copy",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        &foreign,
        &format!("{here}/default/round:1"),
    ]);
    runs(&cluster, "round:1", "round");
    skopeo(&["copy", "--src-tls-verify=false", "--dest-tls-verify=false", &out, &format!("{here}/default/hello:2")]);
    let tags: Value =
        serde_json::from_str(&skopeo(&["list-tags", "--tls-verify=false", &format!("{here}/default/hello")])).unwrap();
    assert_eq!(tags["Tags"], serde_json::json!(["1", "2"]));
    skopeo(&["delete", "--tls-verify=false", &back]);
    cluster.skiff(&["pull", "back:1"]).fails_with(3);
}

#[test]
fn skopeo_is_refused_without_a_login() {
    let skopeo = program("skopeo", "skopeo");
    let cluster = Cluster::start();
    push_hello(&cluster, "hello:1");
    let image = format!("docker://{}/default/hello:1", cluster.api_addr());
    let mut command = Command::new(skopeo);
    command
        .args(["inspect", "--raw", "--tls-verify=false", &image])
        .env("REGISTRY_AUTH_FILE", cluster.write("none.json", "{}"));
    let output = command.output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("unauthorized") || text.contains("authentication required"), "{text}");
}

#[test]
fn what_podman_makes_and_pushes_runs() {
    let podman = program("podman", "podman");
    let cluster = Cluster::start();
    let authfile = log_in(&cluster);
    let storage = tempfile::tempdir().unwrap();
    let podman = |args: &[&str]| {
        let mut command = Command::new(&podman);
        let (root, run) = (storage.path().join("root"), storage.path().join("run"));
        command.arg("--root").arg(root).arg("--runroot").arg(run).args(["--storage-driver", "vfs"]);
        done(command.args(args).env("REGISTRY_AUTH_FILE", &authfile).env("TMPDIR", storage.path()))
    };
    let files = cluster.write("files.tar", tar(&[("app/hello.wasm", &hello())]));
    let image = |name: &str| format!("{}/default/{name}:1", cluster.api_addr());
    let made = ["import", "--os", "wasi", "--arch", "wasm", "--change", "ENTRYPOINT [\"/app/hello.wasm\"]", &files];
    podman(&[&made[..], &[&image("made")]].concat());
    for (name, more) in [
        ("oci", &["--format", "oci"][..]),
        ("v2s2", &["--format", "v2s2"]),
        ("zstd", &["--format", "oci", "--compression-format", "zstd"]),
    ] {
        let to = format!("docker://{}", image(name));
        podman(&[&["push", "--tls-verify=false"], more, &[&image("made"), &to]].concat());
        runs(&cluster, &format!("{name}:1"), name);
    }
    podman(&["rmi", &image("made")]);
    podman(&["pull", "--tls-verify=false", "--os", "wasi", "--arch", "wasm", &image("oci")]);
    podman(&["save", "-o", storage.path().join("saved.tar").to_str().unwrap(), &image("oci")]);
}

/// Packages of Python's registry, in an environment of their own in that folder: its programs.
///
/// # Panics
/// When they cannot be installed.
pub(crate) fn python(environment: &Path, package: &str) -> PathBuf {
    let bin = environment.join("bin");
    let made = Command::new(program("python3", "python3")).args(["-m", "venv"]).arg(environment).output();
    let mut install = Command::new(bin.join("pip"));
    let installed = made.is_ok_and(|made| made.status.success())
        && install.args(["install", "-q", package]).output().is_ok_and(|done| done.status.success());
    assert!(installed, "{package} cannot be installed from Python's registry (hint: python3-venv, and a way to it)");
    bin
}

#[test]
fn what_oras_pushes_runs_and_it_pulls_what_is_here() {
    let cluster = Cluster::start();
    let folder = tempfile::tempdir().unwrap();
    let python = python(&folder.path().join("oras"), "oras==0.2.30").join("python");
    let program = r#"
import os, sys, oras.client
client = oras.client.OrasClient(hostname=sys.argv[1], insecure=True, auth_backend="basic")
client.auth.set_basic_auth("token", sys.argv[2])
client.push(target=sys.argv[1] + "/default/oras:1", files=["hello.wasm"], disable_path_validation=True)
client.push(target=sys.argv[1] + "/default/typed:1", files=["hello.wasm:application/wasm"], disable_path_validation=True)
print(client.pull(target=sys.argv[1] + "/default/oras:1", outdir="out"))
"#;
    cluster.write("hello.wasm", hello());
    let mut command = Command::new(python);
    command.args(["-c", program, &cluster.api_addr().to_string(), &cluster.token()]).current_dir(cluster.path("."));
    done(&mut command);
    assert_eq!(std::fs::read(cluster.path("out/hello.wasm")).unwrap(), hello());
    runs(&cluster, "oras:1", "oras");
    runs(&cluster, "typed:1", "typed");
}

#[test]
fn what_wkg_pushes_runs_and_it_pulls_what_is_here() {
    let wkg = crates_program("wkg", "0.16.1");
    let cluster = Cluster::start();
    log_in(&cluster);
    let registry = cluster.api_addr().to_string();
    let image = |name: &str| format!("{registry}/default/{name}");
    let folder = cluster.path(".");
    let wkg = |args: &[&str], config: &Path| {
        let mut command = Command::new(&wkg);
        command.args(["oci", args[0], "--insecure", &registry]).args(&args[1..]).current_dir(&folder);
        // Its caches are the user's, which the test is not.
        command.env("HOME", &folder).env("XDG_CONFIG_HOME", &folder).env("XDG_CACHE_HOME", &folder);
        command.env("DOCKER_CONFIG", config);
        command
    };
    let logged_in = cluster.path("docker");
    cluster.write("hello.wasm", hello());
    done(&mut wkg(&["push", &image("wkg:1"), "hello.wasm"], &logged_in));
    runs(&cluster, "wkg:1", "wkg");
    push_hello(&cluster, "ours:1");
    done(&mut wkg(&["pull", &image("ours:1"), "--output", "pulled.wasm"], &logged_in));
    assert_eq!(std::fs::read(cluster.path("pulled.wasm")).unwrap(), hello());
    let stranger =
        wkg(&["pull", &image("ours:1"), "--output", "stranger.wasm"], &cluster.path("nobody")).output().unwrap();
    assert!(!stranger.status.success() && !cluster.path("stranger.wasm").exists(), "a login is asked for");
}
