//! From `skiff new` to a served request, as somebody new does it: with the language's own tools.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use skiff_tests::{Cluster, Request, Run, finish, guest_env, within};

/// Cargo compiles the SDK and its dependencies for WebAssembly, on a machine that does much else.
const BUILD_MAX: Duration = Duration::from_secs(300);

fn skiff(cluster: &Cluster, folder: &str, args: &[&str]) -> Run {
    finish(command(cluster, folder, args), args, b"")
}

pub(super) fn command(cluster: &Cluster, folder: &str, args: &[&str]) -> Command {
    let mut command = cluster.command(args);
    command.current_dir(cluster.path(folder)).envs(guest_env());
    command
}

fn replace(cluster: &Cluster, file: &str, from: &str, to: &str) {
    let text = fs::read_to_string(cluster.path(file)).unwrap();
    assert!(text.contains(from), "{file} has {from:?}");
    fs::write(cluster.path(file), text.replace(from, to)).unwrap();
}

#[test]
fn a_new_rust_service_is_built_deployed_and_changed() {
    let cluster = Cluster::start();
    let made = cluster.skiff(&["new", "shop"]).ok();
    assert!(made.stdout.contains("cd shop && skiff dev"), "{made}");
    let again = cluster.skiff(&["new", "shop"]).fails_with(5);
    assert!(again.stderr.contains("not empty"), "{again}");

    let built = skiff(&cluster, "shop", &["build", "-o", "shop.wasm"]).ok();
    assert!(built.stdout.starts_with("built shop.wasm ("), "{built}");
    assert!(fs::metadata(cluster.path("shop/shop.wasm")).unwrap().len() < 200 << 10, "{built}");

    let deployed = skiff(&cluster, "shop", &["deploy"]).ok();
    assert!(
        deployed.stdout.contains("service/shop created\n") && deployed.stdout.contains("answers at */"),
        "{deployed}"
    );
    assert_eq!(cluster.get("/").text(), "Hello from Skiff!\n");
    let same = skiff(&cluster, "shop", &["deploy"]).ok();
    assert!(same.stdout.contains("service/shop unchanged\n"), "{same}");

    replace(&cluster, "shop/src/lib.rs", "Hello from Skiff!", "Hello from the shop!");
    let changed = skiff(&cluster, "shop", &["deploy"]).ok();
    assert!(changed.stdout.contains("service/shop configured (shop moved sha256:"), "{changed}");
    within(BUILD_MAX, "the new one answers", || (cluster.get("/").text() == "Hello from the shop!\n").then_some(()));

    // A mistake is said with its place, and what runs goes on.
    replace(&cluster, "shop/src/lib.rs", "Response::text(", "Response::txt(");
    let wrong = skiff(&cluster, "shop", &["deploy"]).fails_with(4);
    assert!(wrong.stderr.contains("src/lib.rs:") && wrong.stderr.contains("failed to build the service"), "{wrong}");
    assert_eq!(cluster.get("/").text(), "Hello from the shop!\n");
}

#[test]
fn a_folder_that_is_no_service_and_a_compiler_that_cannot_are_said() {
    let cluster = Cluster::start();
    let nothing = cluster.skiff(&["build"]).fails_with(3);
    assert!(nothing.stderr.contains("neither a Cargo.toml nor a package.json"), "{nothing}");
    cluster.skiff(&["new", "shop"]).ok();
    // A compiler that knows no such target.
    let rustc = cluster.write("rustc", "#!/bin/sh\necho /nowhere\n");
    Command::new("chmod").args(["+x", &rustc]).status().unwrap();
    let mut build = command(&cluster, "shop", &["build"]);
    build.env("RUSTC", &rustc);
    let missing = finish(build, &["build"], b"").fails_with(3);
    assert!(missing.stderr.contains("rustup target add wasm32-wasip2"), "{missing}");
    let mut build = command(&cluster, "shop", &["build"]);
    build.env("PATH", "/nowhere").env_remove("RUSTC").env_remove("CARGO");
    let missing = finish(build, &["build"], b"").fails_with(3);
    assert!(missing.stderr.contains("install Rust"), "{missing}");
}

#[test]
fn another_image_is_set_for_a_service_of_the_manifest_only() {
    let cluster = Cluster::start();
    cluster.write("skiff.yaml", "kind: Service\nname: shop\nimage: nowhere\n");
    let hello = skiff_tests::guest("hello");
    cluster.skiff(&["push", "hello:2", hello.to_str().unwrap()]).ok();
    cluster.skiff(&["apply", "--wait", "-f", "skiff.yaml", "--set-image", "shop=hello:2"]).ok();
    let image = cluster.skiff(&["get", "service", "shop", "-o", "json"]).ok().json();
    assert!(image.pointer("/spec/image").unwrap().as_str().unwrap().starts_with("hello:2@sha256:"), "{image}");
    let unknown = cluster.skiff(&["diff", "-f", "skiff.yaml", "--set-image", "cart=hello:2"]).fails_with(3);
    assert!(unknown.stderr.contains("no manifest has that service"), "{unknown}");
    let wrong = cluster.skiff(&["apply", "-f", "skiff.yaml", "--set-image", "shop"]).fails_with(2);
    assert!(wrong.stderr.contains("SERVICE=IMAGE"), "{wrong}");
}

/// How long `skiff dev` and its cluster may take to end.
const STOP_MAX: Duration = Duration::from_secs(40);

/// `skiff dev`, and what it prints on both streams.
pub(super) struct Dev {
    child: Child,
    lines: Receiver<String>,
}

impl Dev {
    pub(super) fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (send, lines) = mpsc::channel();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        for stream in [Box::new(stdout) as Box<dyn std::io::Read + Send>, Box::new(stderr)] {
            let send = send.clone();
            thread::spawn(move || {
                BufReader::new(stream).lines().map_while(Result::ok).try_for_each(|line| send.send(line))
            });
        }
        Self { child, lines }
    }

    /// Waits for a line with this in it.
    #[track_caller]
    pub(super) fn says(&self, text: &str) -> String {
        let (deadline, mut seen) = (Instant::now() + BUILD_MAX, Vec::new());
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("it never said {text:?}, but:\n{}", seen.join("\n")),
            }
        }
    }

    /// Ctrl-C, and the exit code.
    fn interrupt(&mut self) -> Option<i32> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        within(BUILD_MAX, "skiff dev ends", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Asked first: killed, it would leave its cluster behind.
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let _ = pid.map(|pid| kill_process(pid, Signal::INT));
        let deadline = Instant::now() + STOP_MAX;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn dev_starts_a_cluster_and_serves_each_change() {
    // Only for its folder and its commands: `dev` starts a cluster of its own.
    let mut cluster = Cluster::start();
    cluster.terminate();
    cluster.skiff(&["new", "shop"]).ok();
    let mut dev = Dev::start(command(&cluster, "shop", &["dev", "--local", "--gateway", "127.0.0.1:0"]));
    let started = dev.says("its services answer at http://");
    let gateway = started.rsplit("http://").next().unwrap().parse().unwrap();
    let answer = || Request::new(gateway, "GET", "/").send().unwrap().text();
    // The old replica goes on for the moment in which its node learns that the new one is ready.
    let answers = |text: &str| within(BUILD_MAX, text, || (answer() == text).then_some(()));
    dev.says("served after ");
    assert_eq!(answer(), "Hello from Skiff!\n");

    replace(&cluster, "shop/src/lib.rs", "Hello from Skiff!", "Changed {}");
    dev.says("lib.rs changed");
    dev.says("served after ");
    answers("Changed {}\n");

    replace(&cluster, "shop/src/lib.rs", "Response::text(", "Response::txt(");
    dev.says("src/lib.rs:");
    dev.says("failed to build the service");
    assert_eq!(answer(), "Changed {}\n", "what ran goes on");

    let logging = "{ skiff_sdk::info!(\"asked\"); Ok(Response::text(\"Logged\\n\")) }";
    replace(&cluster, "shop/src/lib.rs", "Ok(Response::txt(\"Changed {}\\n\"))", logging);
    dev.says("served after ");
    answers("Logged\n");
    dev.says("INFO asked");
    assert_eq!(dev.interrupt(), Some(0));
    assert!(Request::new(gateway, "GET", "/").send().is_err(), "its cluster ended with it");
}

#[test]
#[ignore = "long: fetches what JavaScript needs, and compiles a JavaScript engine"]
fn a_new_typescript_service_says_where_it_is_wrong() {
    let cluster = Cluster::start();
    cluster.skiff(&["new", "shop", "--lang", "ts"]).ok();
    skiff(&cluster, "shop", &["deploy"]).ok();
    assert_eq!(cluster.get("/").text(), "Hello from Skiff!\n");

    replace(&cluster, "shop/index.ts", "status: 405", "status: \"405\"");
    let types = skiff(&cluster, "shop", &["build"]).fails_with(4);
    assert!(types.stderr.contains("index.ts(7,55): error TS2322"), "{types}");
    replace(&cluster, "shop/index.ts", "status: \"405\"", "status: 405");

    let handler = "fetch(request: Request): Response {\n";
    replace(
        &cluster,
        "shop/index.ts",
        handler,
        &format!("{handler}    if (request.url) throw new RangeError(\"no boats\");\n"),
    );
    skiff(&cluster, "shop", &["deploy"]).ok();
    assert_eq!(cluster.get("/").status, 500);
    within(BUILD_MAX, "the log says where", || {
        let logs = cluster.skiff(&["logs", "shop"]).ok();
        logs.stderr.contains("ERROR RangeError: no boats\n    at fetch (index.ts:6)").then_some(())
    });

    replace(&cluster, "shop/index.ts", handler, "fetch(request: Request): Response {{{\n");
    let syntax = skiff(&cluster, "shop", &["build"]).fails_with(4);
    assert!(syntax.stderr.contains("index.ts:"), "{syntax}");
}

#[test]
#[ignore = "long: fetches what JavaScript needs, and compiles a JavaScript engine"]
fn dev_serves_a_change_of_typescript_without_a_new_component() {
    let mut cluster = Cluster::start();
    cluster.terminate();
    cluster.skiff(&["new", "shop", "--lang", "ts"]).ok();
    let dev = Dev::start(command(&cluster, "shop", &["dev", "--local", "--gateway", "127.0.0.1:0"]));
    let started = dev.says("its services answer at http://");
    let gateway = started.rsplit("http://").next().unwrap().parse().unwrap();
    let answer = || Request::new(gateway, "GET", "/").send().unwrap();
    dev.says("served after ");
    dev.says("waiting for a change");
    assert_eq!(answer().text(), "Hello from Skiff!\n");

    replace(&cluster, "shop/index.ts", "Hello from Skiff!", "Changed {}");
    dev.says("config/shop-source-0 configured");
    dev.says("service/shop unchanged");
    within(BUILD_MAX, "it is served", || (answer().text() == "Changed {}\n").then_some(()));

    // What the types forbid runs, and is said.
    replace(&cluster, "shop/index.ts", "status: 405", "status: \"405\"");
    dev.says("index.ts(7,55): error TS2322");

    let handler = "fetch(request: Request): Response {\n";
    let throwing = format!("{handler}    if (request.url) throw new RangeError(\"no boats\");\n");
    replace(&cluster, "shop/index.ts", handler, &throwing);
    within(BUILD_MAX, "it throws", || (answer().status == 500).then_some(()));
    dev.says("ERROR RangeError: no boats");
    dev.says("at fetch (index.ts:6)");

    replace(&cluster, "shop/index.ts", handler, "fetch(request: Request): Response {{{\n");
    dev.says("index.ts:");
    dev.says("failed to build the service");
    assert_eq!(answer().status, 500, "what ran goes on");
}

#[test]
#[ignore = "long: fetches what JavaScript needs, and compiles a JavaScript engine"]
fn dev_makes_a_component_of_a_worker() {
    let mut cluster = Cluster::start();
    cluster.terminate();
    cluster.skiff(&["new", "beats", "--lang", "js", "--template", "worker"]).ok();
    let dev = Dev::start(command(&cluster, "beats", &["dev", "--local", "--gateway", "127.0.0.1:0"]));
    dev.says("served after ");
    dev.says("beat ");
    replace(&cluster, "beats/index.js", "`beat ", "`tick ");
    dev.says("tick ");
}
