//! A real Docker engine against the cluster's registry: what it pushes runs, what is here it pulls and runs; without a
//! login it is refused. Once over TLS, by a host's name and from another machine, so that docker's exemption for loopback
//! hides nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use skiff_tests::docker::{Docker, Engine, static_program};
use skiff_tests::programs::{done, program};
use skiff_tests::{Cluster, Fleet, guest};

use super::image::{hello, tar};

/// An image of one file that is started, made by docker itself.
pub(super) fn import(docker: &Docker<'_>, folder: &Path, file: (&str, &[u8]), image: &str) {
    let path = folder.join(format!("{}.tar", file.0));
    std::fs::write(&path, tar(&[file])).unwrap();
    let entry = format!("ENTRYPOINT [\"/{}\"]", file.0);
    docker.ok(&["import", "--change", &entry, path.to_str().unwrap(), image]);
}

/// A program, as bytes.
fn native(folder: &Path) -> Vec<u8> {
    std::fs::read(static_program(folder, "native", "puts(\"native code\"); return 0;")).unwrap()
}

/// Where a registry is, and how docker is told who asks.
pub(super) fn log_in(docker: &Docker<'_>, registry: &str, token: &str) {
    docker.ok(&["login", registry, "--username", "anybody", "--password", token]);
}

/// The digest that docker says it pushed.
pub(super) fn pushed(docker: &Docker<'_>, image: &str) -> String {
    let said = docker.ok(&["push", image]);
    let digest = said.lines().find_map(|line| line.split_once("digest: ")?.1.split(' ').next().map(str::to_owned));
    digest.unwrap_or_else(|| panic!("docker push names no digest: {said}"))
}

/// Pushed, forgotten, pulled and run: it says what it should.
fn goes_round(docker: &Docker<'_>, image: &str) -> String {
    let digest = pushed(docker, image);
    docker.ok(&["rmi", image]);
    docker.ok(&["pull", image]);
    assert_eq!(docker.ok(&["run", "--rm", "--network", "none", image]), "native code\n");
    digest
}

#[test]
fn docker_pushes_pulls_and_runs() {
    let cluster = Cluster::builder().arg("--docker=none").start();
    let (engine, folder) = (Engine::start(), tempfile::tempdir().unwrap());
    let docker = engine.docker("logged-in");
    let image = |name: &str| format!("{}/default/{name}", cluster.api_addr());
    log_in(&docker, &cluster.api_addr().to_string(), &cluster.token());

    // A component in a file system.
    import(&docker, folder.path(), ("hello.wasm", &hello()), &image("made:1"));
    let digest = pushed(&docker, &image("made:1"));
    let images = cluster.skiff(&["images"]).ok().stdout;
    assert!(images.contains("made") && images.contains(&digest[7..19]), "{digest}:\n{images}");
    cluster.skiff(&["run", "made:1", "--name", "made", "--path", "/"]).ok();
    assert_eq!(cluster.get("/").text(), "Hello from Skiff!\n");

    // Native code, by tag and by digest; the tag that Skiff gives it is one for docker.
    import(&docker, folder.path(), ("native", &native(folder.path())), &image("native:1"));
    let digest = goes_round(&docker, &image("native:1"));
    docker.ok(&["pull", &image(&format!("native@{digest}"))]);
    cluster.skiff(&["tag", "native:1", "native:stable"]).ok();
    docker.ok(&["pull", &image("native:stable")]);
    // Nobody is there to run it.
    cluster.write("native.yaml", "kind: Service\nname: native\nimage: native:1\n");
    cluster.skiff(&["apply", "-f", "native.yaml"]);
    let why = cluster.skiff(&["why", "native"]).ok().stdout;
    assert!(why.contains("no Docker engine"), "{why}");
    cluster.skiff(&["delete", "service", "native"]).ok();
    // What is pushed again is there already.
    assert_eq!(pushed(&docker, &image("native:1")), digest);

    cluster.skiff(&["rmi", "native:1", "native:stable"]).ok();
    let gone = docker.fails(&["pull", &image("native:1")]);
    assert!(gone.contains("not found") || gone.contains("manifest unknown"), "{gone}");
}

#[test]
fn docker_without_a_login_gets_what_anybody_may() {
    let cluster = Cluster::builder().arg("--anonymous-pull=pub/*").start();
    cluster.write("pub.yaml", "kind: Namespace\nname: pub\n");
    cluster.skiff(&["apply", "-f", "pub.yaml"]).ok();
    let (engine, folder) = (Engine::start(), tempfile::tempdir().unwrap());
    let (docker, stranger) = (engine.docker("logged-in"), engine.docker("stranger"));
    let registry = cluster.api_addr().to_string();
    let image = |name: &str| format!("{registry}/{name}");
    let wrong = docker.fails(&["login", &registry, "--username", "anybody", "--password", "wrong"]);
    assert!(wrong.contains("unauthorized") || wrong.contains("401"), "{wrong}");
    log_in(&docker, &registry, &cluster.token());
    let native = native(folder.path());
    for name in ["default/native:1", "pub/native:1"] {
        import(&docker, folder.path(), ("native", &native), &image(name));
        goes_round(&docker, &image(name));
        docker.ok(&["rmi", &image(name)]);
    }
    stranger.ok(&["pull", &image("pub/native:1")]);
    let refused = stranger.fails(&["pull", &image("default/native:1")]);
    assert!(refused.contains("unauthorized") || refused.contains("no basic auth credentials"), "{refused}");
    let refused = stranger.fails(&["push", &image("pub/native:1")]);
    assert!(refused.contains("unauthorized") || refused.contains("no basic auth credentials"), "{refused}");
}

/// The server's name, which no resolver knows.
const NAME: &str = "control.example";

/// Runs a program on a machine that knows the server by its name, and where docker finds the cluster's authority.
fn knowing(fleet: &Fleet, machine: &str, folder: &Path, program: &Path) -> Command {
    let machines = fleet.machines();
    let hosts = folder.join("hosts");
    std::fs::write(&hosts, format!("127.0.0.1 localhost\n{} {NAME}\n", machines.address("server"))).unwrap();
    let mut command = machines.command_beside(machine, Path::new("unshare"));
    // In a file system of its own: nothing of this machine's is changed.
    let script = "mount --bind \"$1\" /etc/hosts; mkdir -p /etc/docker; mount -t tmpfs none /etc/docker; \
        mkdir -p \"/etc/docker/certs.d/$2\"; cp \"$3\" \"/etc/docker/certs.d/$2/ca.crt\"; shift 3; exec \"$@\"";
    let authority = folder.join("ca.crt");
    command
        .args(["--mount", "sh", "-ec", script, "sh"])
        .arg(hosts)
        .arg(format!("{NAME}:7070"))
        .arg(authority)
        .arg(program);
    command
}

#[test]
fn docker_and_skopeo_reach_it_by_name_over_tls() {
    let test = "docker_and_skopeo_reach_it_by_name_over_tls";
    let Some(mut fleet) = Fleet::on_machines_with(test, &["--name", NAME]) else { return };
    fleet.plug("desk");
    let folder = tempfile::tempdir().unwrap();
    let context: serde_json::Value =
        serde_json::from_slice(&std::fs::read(fleet.path("context.json")).unwrap()).unwrap();
    let text = |name: &str| context[name].as_str().unwrap_or_else(|| panic!("{context} has no {name}")).to_owned();
    std::fs::write(folder.path().join("ca.crt"), text("ca")).unwrap();
    let engine = Engine::start_by(|engine| knowing(&fleet, "desk", folder.path(), engine));
    let docker = engine.docker("logged-in");
    let registry = format!("{NAME}:7070");
    let image = |name: &str| format!("{registry}/default/{name}");
    log_in(&docker, &registry, &text("token"));
    import(&docker, folder.path(), ("native", &native(folder.path())), &image("native:1"));
    goes_round(&docker, &image("native:1"));
    import(&docker, folder.path(), ("hello.wasm", &hello()), &image("made:1"));
    pushed(&docker, &image("made:1"));
    let stranger = engine.docker("stranger").fails(&["pull", &image("made:1")]);
    assert!(stranger.contains("no basic auth credentials") || stranger.contains("unauthorized"), "{stranger}");

    // By its address too, which docker has no authority for: it is no loopback.
    let address = fleet.server_url().replace("https://", "");
    let refused = docker.fails(&["login", &address, "--username", "anybody", "--password", &text("token")]);
    assert!(refused.contains("certificate"), "{refused}");

    // skopeo, with the logins that docker wrote, and nothing but the cluster's own authority.
    let certificates = folder.path().join("certificates");
    std::fs::create_dir(&certificates).unwrap();
    std::fs::copy(folder.path().join("ca.crt"), certificates.join("ca.crt")).unwrap();
    let logins = docker.config().join("config.json");
    let skopeo = |args: &[&str], options: &[(&str, &PathBuf)]| {
        let mut command = knowing(&fleet, "desk", folder.path(), &program("skopeo", "skopeo"));
        command.args(["--insecure-policy", args[0]]);
        for (option, value) in options {
            command.arg(option).arg(value);
        }
        done(command.args(&args[1..]).env("REGISTRY_AUTH_FILE", &logins).current_dir(folder.path()))
    };
    let remote = |name: &str| format!("docker://{}", image(name));
    skopeo(&["copy", &remote("made:1"), "oci:layout:1"], &[("--src-cert-dir", &certificates)]);
    skopeo(&["copy", "oci:layout:1", &remote("again:1")], &[("--dest-cert-dir", &certificates)]);
    let tags = skopeo(&["list-tags", &remote("again")], &[("--cert-dir", &certificates)]);
    assert!(tags.contains("\"1\""), "{tags}");

    fleet.skiff(&["push", "plain:1", guest("hello").to_str().unwrap()]).ok();
    skopeo(&["copy", &remote("plain:1"), "oci:plain:1"], &[("--src-cert-dir", &certificates)]);

    // A node pulls it with its certificate, and it answers.
    fleet.join("edge", &[]);
    fleet.skiff(&["run", "again:1", "--name", "again", "--host", "again.test"]).ok();
    assert_eq!(fleet.eventually_answers("edge", "again.test", "/", 200).text(), "Hello from Skiff!\n");
}
