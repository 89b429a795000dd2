//! Components that run on their own: begun when they are placed, begun again when they end, told to stop.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};
use skiff_tests::{Cluster, eventually};

use super::push;
use super::updates::{APP, under_load};

/// The core guest as a worker that does as `args` say.
fn apply(cluster: &Cluster, name: &str, args: &[&str], more: Value) {
    let mut service = json!({"kind": "Service", "name": name, "image": "core", "args": args});
    service.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
    let file = cluster.write(&format!("{name}.json"), service.to_string());
    cluster.skiff(&["apply", "-f", &file]).ok();
}

/// The state of its replica, once it is as it should be.
fn eventually_is(cluster: &Cluster, service: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("{service} is {what}"), || {
        let list = cluster.skiff(&["get", "replicas", "-o", "json"]).ok().json();
        let replicas = list["items"].as_array().unwrap().clone();
        let of_it = |replica: &Value| replica["spec"]["service"] == service && holds(&replica["status"]);
        replicas.into_iter().find(of_it).map(|replica| replica["status"].clone())
    })
}

fn is_running(status: &Value) -> bool {
    status["phase"] == "Ready"
}

fn eventually_logs(cluster: &Cluster, service: &str, line: &str) {
    eventually(&format!("{service} logs {line:?}"), || {
        let logs = cluster.skiff(&["logs", service]);
        logs.stdout.lines().chain(logs.stderr.lines()).any(|found| found == line).then_some(())
    });
}

#[test]
fn a_worker_runs_survives_its_node_and_is_told_to_stop() {
    let mut cluster = Cluster::start();
    push(&cluster, "core", "core");
    let args = ["say=hello", "env=MODE", "until-end"];
    apply(&cluster, "worker", &args, json!({"env": {"MODE": "batch"}}));
    eventually_is(&cluster, "worker", "running", is_running);
    eventually_logs(&cluster, "worker", r#"core ran with ["say=hello", "env=MODE", "until-end"]"#);
    eventually_logs(&cluster, "worker", r#"MODE is Ok("batch")"#);
    assert_eq!(cluster.get_host("worker.default.localhost", "/").status, 404);
    let service = cluster.skiff(&["get", "service", "worker", "-o", "json"]).ok().json();
    assert_eq!(service["spec"]["worker"], true, "{service}");
    // Round: what was read may be written.
    let file = cluster.write("again.json", service.to_string());
    cluster.skiff(&["apply", "-f", &file]).ok();

    cluster.kill9();
    cluster.restart();
    eventually_is(&cluster, "worker", "running again", is_running);

    let mut command = cluster.command(&["logs", "worker", "-f"]);
    let mut follow = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("MODE")), "it follows");
    cluster.skiff(&["scale", "worker", "--replicas", "0"]).ok();
    assert!(lines.any(|line| line == "was asked to stop"), "it learned of its end");
    follow.kill().unwrap();
    follow.wait().unwrap();
    eventually("no replica is left", || {
        cluster.skiff(&["get", "replicas", "-o", "name"]).ok().stdout.is_empty().then_some(())
    });
}

#[test]
fn a_worker_runs_without_a_manifest() {
    let cluster = Cluster::start();
    push(&cluster, "core", "core");
    let run = cluster.skiff(&["run", "core", "--name", "watch", "--", "say=-e A", "sleep"]).ok();
    assert_eq!(run.stdout, "service/watch created\n", "it answers nowhere");
    eventually_logs(&cluster, "watch", "-e A");
}

#[test]
fn a_worker_that_ends_begins_again_and_says_why() {
    let cluster = Cluster::start();
    push(&cluster, "core", "core");
    apply(&cluster, "worker", &["say=no luck", "exit=3"], json!({}));
    let status = eventually_is(&cluster, "worker", "waiting for its third run", |status| {
        status["reason"] == "CrashLoopBackOff" && status["retries"] == 2
    });
    let message = status["message"].as_str().unwrap();
    // The adapter of core modules knows of no other status than 0 and 1.
    for part in ["exited with status 1 after ", "no luck", "; it starts again in 4 s"] {
        assert!(message.contains(part), "{part} is in {message}");
    }
    let described = cluster.skiff(&["describe", "service", "worker"]).ok().stdout;
    assert!(described.contains("Exited") && described.contains("exited with status 1"), "{described}");
    // One that ends well has ended, too.
    apply(&cluster, "done", &[], json!({}));
    let status = eventually_is(&cluster, "done", "waiting", |status| status["reason"] == "CrashLoopBackOff");
    assert!(status["message"].as_str().unwrap().contains("exited with status 0"), "{status}");
}

#[test]
fn workers_that_take_all_they_can_cost_their_neighbours_nothing() {
    let cluster = Cluster::start();
    push(&cluster, "core", "core");
    push(&cluster, "app", "hello");
    cluster.write("app.yaml", APP);
    cluster.skiff(&["apply", "-f", "app.yaml", "--wait"]).ok();
    let ((), asked) = under_load(&cluster, || {
        apply(&cluster, "spinner", &["spin"], json!({"replicas": 3}));
        apply(&cluster, "eater", &["eat"], json!({}));
        eventually_is(&cluster, "spinner", "running", is_running);
        let status = eventually_is(&cluster, "eater", "stopped", |status| status["reason"] == "CrashLoopBackOff");
        let message = status["message"].as_str().unwrap();
        assert!(message.contains("instance.memory") && message.contains("64Mi"), "{message}");
        let events = cluster.skiff(&["get", "events"]).ok().stdout;
        assert!(events.contains("MemoryLimit"), "{events}");
        // Neither can be told; both are gone all the same.
        for name in ["spinner", "eater"] {
            cluster.skiff(&["delete", "service", name]).ok();
        }
        eventually("only the neighbour is left", || {
            (cluster.skiff(&["get", "replicas", "-o", "name"]).ok().stdout.lines().count() == 2).then_some(())
        });
    });
    assert!(asked > 0);
}

#[test]
fn what_makes_no_sense_for_a_worker_is_refused() {
    let cluster = Cluster::start();
    push(&cluster, "core", "core");
    push(&cluster, "hello", "hello");
    let refused = |image: &str, more: &str| {
        let file = cluster.write("bad.yaml", format!("kind: Service\nname: bad\nimage: {image}\n{more}\n"));
        cluster.skiff(&["apply", "-f", &file]).fails_with(4).stderr
    };
    let text = refused("core", "http: {routes: [{path: /}]}");
    assert!(text.contains("http.routes: image core is a worker and answers no requests"), "{text}");
    let text = refused("core", "instance: {requests: 5}");
    assert!(text.contains("instance.requests: image core is a worker"), "{text}");
    let text = refused("hello", "worker: true");
    assert!(text.contains("worker: image hello answers requests"), "{text}");
    let text = refused("core", "worker: false");
    assert!(text.contains("worker: image core runs on its own"), "{text}");
    // Nor may a field come later that the image was never asked about.
    apply(&cluster, "late", &["sleep"], json!({}));
    let file = cluster.write("late.yaml", "kind: Service\nname: late\nimage: core\nhttp: {inFlight: 3}\n");
    let text = cluster.skiff(&["apply", "-f", &file]).fails_with(4).stderr;
    assert!(text.contains("http.inFlight: image core"), "{text}");
}

#[test]
fn the_example_counts_on_and_stops_when_it_is_asked() {
    let cluster = Cluster::start();
    push(&cluster, "worker", "worker");
    cluster.write("skiff.yaml", include_str!("../../../../examples/worker/skiff.yaml"));
    cluster.skiff(&["apply", "--wait", "-f", "skiff.yaml"]).ok();
    eventually_logs(&cluster, "worker", "beat 2");
    cluster.skiff(&["scale", "worker", "--replicas", "0"]).ok();
    let logs = cluster.data().join("node/logs/default/worker");
    eventually("it says that it stops", || {
        let replica = std::fs::read_dir(&logs).ok()?.next()?.ok()?;
        let text = std::fs::read_to_string(replica.path().join("current.ndjson")).ok()?;
        text.contains("\"text\":\"stops\"").then_some(())
    });
    cluster.skiff(&["scale", "worker", "--replicas", "1"]).ok();
    eventually_logs(&cluster, "worker", "beat 4");
}
