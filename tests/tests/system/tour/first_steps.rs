//! Push, run, see, read logs, remove; the tools around it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;

use skiff_tests::{Cluster, Request, eventually, guest};

use super::{PROBE_HOST, push, run_probe};

#[test]
fn from_nothing_to_an_answer_and_back() {
    let mut cluster = Cluster::start();
    let digest = push(&cluster, "hello", "hello");
    assert_eq!(push(&cluster, "hello:again", "hello"), digest, "the same bytes have the same digest");
    let run = cluster.skiff(&["run", "hello", "--path", "/"]).ok();
    assert_eq!(run.stdout, "service/hello created\nanswers at */\n");
    assert_eq!(cluster.get("/").text(), "Hello from Skiff!\n");

    let table = cluster.skiff(&["get", "services"]).ok().stdout;
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(lines.next().unwrap(), ["NAME", "READY", "REVISION", "IMAGE", "AGE"]);
    assert_eq!(lines.next().unwrap()[..3], ["hello", "1/1", "hello-1"]);
    assert!(cluster.skiff(&["get", "services", "-o", "wide"]).ok().stdout.contains("ROUTES"));
    assert_eq!(cluster.skiff(&["get", "services", "-o", "name"]).ok().stdout, "service/hello\n");
    let list = cluster.skiff(&["get", "services", "-o", "json"]).ok().json();
    assert_eq!(list["items"][0]["spec"]["image"], format!("hello@{digest}"));
    assert!(cluster.skiff(&["get", "service", "hello", "-o", "yaml"]).ok().stdout.contains("kind: Service\n"));
    for kind in ["replicas", "revisions", "nodes", "namespaces", "events"] {
        assert!(cluster.skiff(&["get", kind]).ok().stdout.lines().count() > 1, "get {kind} lists something");
    }
    let described = cluster.skiff(&["describe", "service", "hello"]).ok().stdout;
    for part in ["Routes:", "*/", "1 wanted, 1 there, 1 updated, 1 ready", "Events:", "RevisionCreated", "Started"] {
        assert!(described.contains(part), "describe says {part}:\n{described}");
    }

    cluster.skiff(&["scale", "hello", "--replicas", "3"]).ok();
    eventually("three replicas are ready", || {
        cluster.skiff(&["get", "services"]).stdout.contains(" 3/3 ").then_some(())
    });
    cluster.skiff(&["scale", "service/hello", "--replicas", "1"]).ok();
    eventually("one replica is left", || {
        (cluster.skiff(&["get", "replicas", "-o", "name"]).stdout.lines().count() == 1).then_some(())
    });

    // Nothing is pushed again: a crash and a stop lose nothing.
    cluster.kill9();
    cluster.restart();
    cluster.eventually_answers("/", 200);
    assert_eq!(cluster.terminate(), Some(0));
    cluster.restart();
    cluster.eventually_answers("/", 200);

    assert_eq!(cluster.skiff(&["delete", "service", "hello"]).ok().stdout, "service/hello deleted\n");
    cluster.eventually_answers("/", 404);
}

#[test]
fn logs_are_read_whole_in_part_and_as_they_come() {
    let cluster = Cluster::start();
    run_probe(&cluster);
    assert_eq!(cluster.get_host(PROBE_HOST, "/log?lines=3").status, 200);
    // What it wrote to standard output and to standard error come out there.
    let (out, err) = eventually("six lines are logged", || {
        let logs = cluster.skiff(&["logs", "probe"]).ok();
        (logs.stdout.lines().count() == 3 && logs.stderr.lines().count() == 3).then_some((logs.stdout, logs.stderr))
    });
    let tail = cluster.skiff(&["logs", "probe", "--tail", "2"]).ok();
    assert_eq!(tail.stdout.lines().count() + tail.stderr.lines().count(), 2, "{tail}");
    assert!(out.ends_with(&tail.stdout) && err.ends_with(&tail.stderr), "{tail}");
    assert_eq!(cluster.skiff(&["logs", "service/probe", "--since", "1h"]).ok().stdout, out);
    let prefixed = cluster.skiff(&["logs", "probe", "--prefix", "--timestamps"]).ok().stdout;
    assert!(prefixed.lines().all(|line| line.starts_with("[probe-1-") && line.contains("Z ")), "{prefixed}");

    let mut command = cluster.command(&["logs", "probe", "-f", "--tail", "0"]);
    let mut follow = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    // It may not be listening yet: lines are written until one comes.
    let first = thread::scope(|scope| {
        let came = scope.spawn(|| lines.next());
        eventually("a followed line", || {
            cluster.get_host(PROBE_HOST, "/log?lines=1");
            came.is_finished().then_some(())
        });
        came.join().unwrap()
    });
    follow.kill().unwrap();
    follow.wait().unwrap();
    let first = first.unwrap().unwrap();
    assert!(out.lines().any(|line| line == first), "{first:?} is none of {out}");
}

#[test]
fn a_watch_prints_what_changes() {
    let cluster = Cluster::start();
    push(&cluster, "hello", "hello");
    let mut command = cluster.command(&["get", "services", "--watch", "-o", "name"]);
    let mut watch = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    cluster.skiff(&["run", "hello"]).ok();
    assert_eq!(lines.next().unwrap().unwrap(), "service/hello");
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn a_core_module_is_adapted_and_answers_nothing() {
    let cluster = Cluster::start();
    let push = cluster.skiff(&["push", "core", guest("core").to_str().unwrap()]).ok();
    assert!(push.stderr.contains("adapted the core module"), "{push}");
    let run = cluster.skiff(&["run", "core", "--host", "a.example.com"]).fails_with(4);
    assert!(run.stderr.contains("http.routes: image core is a worker"), "{run}");
}

#[test]
fn the_tools_around_it() {
    let cluster = Cluster::start();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = cluster.skiff(&["completions", shell]).ok().stdout;
        assert!(script.contains("skiff") && script.contains("namespace"), "the script for {shell}: {script}");
    }
    let version = cluster.skiff(&["version"]).ok().stdout;
    assert_eq!(version.lines().count(), 2, "{version}");
    assert!(version.contains(&format!("at http://{}", cluster.api_addr())), "{version}");

    // Any user name, the token as the password: as docker, oras and the like log in.
    let token = cluster.skiff(&["token", "show"]).ok().stdout;
    assert_eq!(token.trim(), cluster.token());
    let base = |credentials: &str| {
        let request = Request::new(cluster.api_addr(), "GET", "/v2/");
        request.header("authorization", &format!("Basic {}", base64(credentials))).send().unwrap().status
    };
    assert_eq!(base(&format!("anyone:{}", token.trim())), 200);
    assert_eq!(base("anyone:wrong"), 401);
}

#[test]
fn a_reader_that_leaves_early_is_no_failure() {
    let cluster = Cluster::start();
    for args in [&["completions", "bash"][..], &["get", "namespaces", "-o", "yaml"], &["token", "show"]] {
        let mut child = cluster.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "what {args:?} says to nobody");
    }
}

#[test]
fn http2_is_spoken_without_an_upgrade() {
    let cluster = Cluster::start();
    push(&cluster, "hello", "hello");
    cluster.skiff(&["run", "hello", "--path", "/"]).ok();
    let url = format!("http://{}/", cluster.gateway_addr());
    let asked = Command::new("curl")
        .args(["--silent", "--http2-prior-knowledge", "--write-out", "%{http_version} %{http_code}", &url])
        .output();
    let Ok(output) = asked else {
        eprintln!("SKIPPED: there is no curl to speak HTTP/2");
        return;
    };
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Hello from Skiff!\n2 200");
}

fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.as_bytes().chunks(3).flat_map(|chunk| {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        (0..4)
            .map(move |i| if i <= chunk.len() { char::from(DIGITS[(bits >> (18 - 6 * i)) as usize & 63]) } else { '=' })
    });
    digits.collect()
}
