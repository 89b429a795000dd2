//! Services whose images are in another registry: Debian's `docker-registry`, with and without a login.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use skiff_tests::{Cluster, eventually, guest};

use skiff_tests::programs::program;

/// A `docker-registry`; killed when dropped.
pub(super) struct DockerRegistry {
    pub(super) addr: SocketAddr,
    child: Child,
    _folder: tempfile::TempDir,
}

impl DockerRegistry {
    /// One that lets everybody do everything.
    pub(super) fn open() -> Self {
        Self::start("")
    }

    fn start(auth: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Free a moment ago: the program takes no port 0 that it would tell.
        let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let root = folder.path().join("data");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\nhttp: {{addr: \"{addr}\"}}\n{auth}",
            root.display()
        );
        let config = folder.path().join("config.yml");
        std::fs::write(&config, text).unwrap();
        let child = Command::new(program("docker-registry", "docker-registry"))
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self { addr, child, _folder: folder };
        eventually("docker-registry listens", || TcpStream::connect(addr).ok());
        registry
    }

    pub(super) fn stop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        self.stop();
    }
}

fn push(cluster: &Cluster, image: &str, name: &str) -> String {
    let run = cluster.skiff(&["push", image, guest(name).to_str().unwrap()]).ok();
    run.stdout.split_whitespace().nth(1).unwrap().to_owned()
}

#[test]
fn a_service_runs_from_another_registry_and_outlives_it() {
    let mut other = DockerRegistry::open();
    let mut cluster = Cluster::start();
    let image = format!("{}/acme/hello:1", other.addr);
    let pushed = push(&cluster, &image, "hello");
    assert_eq!(push(&cluster, &image, "hello"), pushed, "again is no change");
    cluster.skiff(&["pull", &image, "back.wasm"]).ok();
    assert_eq!(std::fs::read(cluster.path("back.wasm")).unwrap(), std::fs::read(guest("hello")).unwrap());
    assert!(cluster.skiff(&["inspect", &image]).ok().stdout.contains("runs as a service"));

    let manifest = format!("kind: Service\nname: hello\nimage: {image}\nhttp: {{routes: [{{path: /}}]}}\n");
    let manifest = cluster.write("hello.yaml", manifest);
    cluster.skiff(&["apply", "-f", &manifest, "--wait"]).ok();
    assert_eq!(cluster.get("/").text(), "Hello from Skiff!\n");
    let service: Value = cluster.skiff(&["get", "service", "hello", "-o", "json"]).ok().json();
    assert_eq!(service["spec"]["image"], format!("{image}@{pushed}"), "it keeps its name");
    let host = other.addr.to_string().replace(':', "_");
    let copies = cluster.skiff(&["images", "-o", "name"]).ok().stdout;
    assert_eq!(copies, format!("default/mirror/{host}/acme/hello:1\n"));
    assert!(cluster.skiff(&["apply", "-f", &manifest]).ok().stdout.contains("unchanged"));

    // A tag that moves there is told at the next apply.
    let moved = push(&cluster, &image, "probe");
    assert_ne!(moved, pushed);
    let applied = cluster.skiff(&["apply", "-f", &manifest, "--dry-run"]).ok().stdout;
    assert!(applied.contains(&format!("{image} moved sha256:{}", &pushed[7..19])), "{applied}");

    other.stop();
    cluster.skiff(&["scale", "hello", "--replicas", "2"]).ok();
    cluster.kill9();
    cluster.restart();
    cluster.eventually_answers("/", 200);
    let offline = cluster.skiff(&["apply", "-f", &manifest]).fails_with(7);
    assert!(
        offline.stderr.contains("failed to copy image") && offline.stderr.contains("failed to connect"),
        "{offline}"
    );
    // Pinned, it needs nobody.
    let pinned = format!("kind: Service\nname: hello\nimage: {image}@{pushed}\nhttp: {{routes: [{{path: /}}]}}\n");
    let pinned = cluster.write("pinned.yaml", pinned);
    cluster.skiff(&["apply", "-f", &pinned, "--wait"]).ok();
}

#[test]
fn a_registry_that_wants_a_login_gets_that_of_docker() {
    let folder = tempfile::tempdir().unwrap();
    let users = folder.path().join("users");
    let hash =
        skiff_tests::programs::done(Command::new(program("htpasswd", "apache2-utils")).args(["-Bbn", "ann", "secret"]));
    std::fs::write(&users, hash).unwrap();
    let auth = format!("auth: {{htpasswd: {{realm: here, path: {}}}}}\n", users.display());
    let other = DockerRegistry::start(&auth);
    let cluster = Cluster::start();
    let image = format!("{}/acme/hello:1", other.addr);
    let address = other.addr.to_string();
    let refused = cluster.skiff(&["push", &image, guest("hello").to_str().unwrap()]).fails_with(6);
    assert!(
        refused.stderr.contains(&format!("wants a login for acme/hello:1 (hint: skiff login {address}")),
        "{refused}"
    );
    let login = ["login", &address, "-u", "ann", "--password-stdin"];
    let wrong = cluster.skiff_with_input(&login, b"guessed").fails_with(6);
    assert!(wrong.stderr.contains("does not accept the login"), "{wrong}");
    cluster.skiff_with_input(&login, b"secret\n").ok();
    push(&cluster, &image, "hello");
    // The control plane runs as the same user, whose login it finds.
    cluster.skiff(&["run", &image, "--name", "hello", "--path", "/"]).ok();
    assert_eq!(cluster.get("/").status, 200);
    cluster.skiff(&["logout", &address]).ok();
    cluster.skiff(&["pull", &image]).fails_with(6);
    let unknown = cluster.skiff(&["run", &format!("{address}/acme/other:1"), "--name", "other"]).fails_with(4);
    assert!(unknown.stderr.contains("log in as that one"), "{unknown}");
}

#[test]
fn a_mirror_is_asked_first() {
    let other = DockerRegistry::open();
    let cluster = Cluster::builder().arg("--mirror").arg(&format!("registry.example={}", other.addr)).start();
    push(&cluster, &format!("{}/acme/hello:1", other.addr), "hello");
    // The registry itself does not exist.
    cluster.skiff(&["run", "registry.example/acme/hello:1", "--name", "hello", "--path", "/"]).ok();
    assert_eq!(cluster.get("/").status, 200);
    let images = cluster.skiff(&["images", "-o", "name"]).ok().stdout;
    assert_eq!(images, "default/mirror/registry.example/acme/hello:1\n");
}
