//! Components of other projects: made by their own tools from the examples in their own packages, which nobody here has
//! changed, and run by Skiff as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use skiff_tests::places::target_folder;
use skiff_tests::programs::done;
use skiff_tests::{Cluster, Request, Response};

use crate::tools::python;

const WSTD: (&str, &str) = ("wstd", "0.6.8");
const WASI: (&str, &str) = ("wasi", "0.14.2");
const COMPONENTIZE_PY: &str = "0.25.1";

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// A folder of the target folder with the sources of a published crate.
fn sources((name, version): (&str, &str)) -> PathBuf {
    let folder = target_folder().join("tools/foreign").join(name);
    let project = folder.join("asks");
    fs::create_dir_all(project.join("src")).unwrap();
    fs::write(project.join("src/lib.rs"), "").unwrap();
    let manifest = format!(
        "[package]\nname = \"asks\"\nedition = \"2021\"\n[dependencies]\n{name} = \"={version}\"\n[workspace]\n"
    );
    fs::write(project.join("Cargo.toml"), manifest).unwrap();
    let metadata = done(cargo().args(["metadata", "--format-version=1"]).current_dir(&project));
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    let package = metadata["packages"].as_array().unwrap().iter().find(|package| package["name"] == name).unwrap();
    let published = Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap();
    let copy = folder.join("crate");
    if !copy.exists() {
        done(Command::new("cp").arg("-r").arg(published).arg(&copy));
    }
    copy
}

/// Makes an example of a crate, as its authors do.
fn example(sources: &Path, name: &str) -> PathBuf {
    let target = target_folder().join("tools/foreign/target");
    let mut build = cargo();
    build.args(["build", "--quiet", "--release", "--target", "wasm32-wasip2", "--example", name]).current_dir(sources);
    done(build.env("CARGO_TARGET_DIR", &target).env_remove("RUSTFLAGS"));
    target.join("wasm32-wasip2/release/examples").join(format!("{name}.wasm"))
}

fn serve(cluster: &Cluster, name: &str, component: &Path) {
    cluster.skiff(&["push", name, component.to_str().unwrap()]).ok();
    cluster.skiff(&["run", name, "--timeout", "600s"]).ok();
}

fn ask(cluster: &Cluster, name: &str, method: &str, path: &str, body: &str) -> Response {
    let request = Request::new(cluster.gateway_addr(), method, path).host(&format!("{name}.default.localhost"));
    request.body(body).send().unwrap()
}

#[test]
fn the_examples_of_wstd_run() {
    let cluster = Cluster::start();
    serve(&cluster, "wstd", &example(&sources(WSTD), "http_server"));
    let ask = |method: &str, path: &str, body: &str| ask(&cluster, "wstd", method, path, body);
    assert_eq!(ask("GET", "/", "").text(), "Hello, wasi:http/proxy world!\n");
    assert!(ask("GET", "/wait-body", "").text().starts_with("slept for 1"));
    assert_eq!(ask("POST", "/echo", "as it was").text(), "as it was");
    assert_eq!(ask("GET", "/nowhere", "").status, 404);
    let logs = cluster.skiff(&["logs", "wstd"]).ok().stdout;
    assert!(logs.contains("serving /echo\n"), "{logs}");
}

#[test]
fn the_examples_of_the_wasi_crate_run() {
    let cluster = Cluster::start();
    let sources = sources(WASI);
    serve(&cluster, "proxy", &example(&sources, "http-proxy").with_file_name("http_proxy.wasm"));
    assert_eq!(ask(&cluster, "proxy", "GET", "/", "").text(), "Hello, WASI!");
    let command = example(&sources, "cli-command").with_file_name("cli_command.wasm");
    cluster.skiff(&["push", "command", command.to_str().unwrap()]).ok();
    assert_eq!(cluster.skiff(&["run", "--rm", "command"]).ok().stdout, "Hello, WASI!");
}

#[test]
fn the_examples_of_componentize_py_run() {
    let folder = tempfile::tempdir().unwrap();
    let package = format!("componentize-py=={COMPONENTIZE_PY}");
    let bin = python(&folder.path().join("environment"), &package);
    let mut fetch = Command::new(bin.join("pip"));
    done(fetch.args(["download", "-q", "--no-deps", "--no-binary", "componentize-py", &package]).current_dir(&folder));
    let name = format!("componentize_py-{COMPONENTIZE_PY}");
    done(Command::new("tar").args(["xzf", &format!("{name}.tar.gz")]).current_dir(&folder));
    let sources = folder.path().join(name);
    let make = |example: &str, world: &str| {
        let made = folder.path().join(format!("{example}.wasm"));
        let mut make = Command::new(bin.join("componentize-py"));
        make.args(["-d", "../../wit", "-w", world, "componentize", "app", "-o"]).arg(&made);
        done(make.current_dir(sources.join("examples").join(example)));
        made
    };
    let cluster = Cluster::start();
    serve(&cluster, "py", &make("http", "wasi:http/proxy@0.2.0"));
    assert_eq!(ask(&cluster, "py", "POST", "/echo", "Twas brillig").text(), "Twas brillig");
    let command = make("cli", "wasi:cli/command@0.2.0");
    cluster.skiff(&["push", "pycli", command.to_str().unwrap()]).ok();
    let ran = cluster.skiff(&["run", "--rm", "--timeout", "600s", "pycli"]).ok();
    assert_eq!(ran.stdout, "Hello, world!\n");
}
