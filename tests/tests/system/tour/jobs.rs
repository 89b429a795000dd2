//! What runs to its end: now, or whenever a schedule says so.

use std::time::Duration;

use serde_json::Value;
use skiff_tests::wait::within;
use skiff_tests::{Cluster, eventually};

use super::push;

fn apply(cluster: &Cluster, manifest: &str) -> skiff_tests::Run {
    let file = cluster.write("job.yaml", manifest);
    cluster.skiff(&["apply", "-f", &file, "--wait"])
}

fn job(cluster: &Cluster, name: &str) -> Value {
    cluster.skiff(&["get", "job", name, "-o", "json"]).ok().json()
}

#[test]
fn a_job_runs_its_tasks_and_ends() {
    let cluster = Cluster::start();
    push(&cluster, "core", "core");
    let manifest = "kind: Job\nname: report\nimage: core\nargs: [say=done]\ncompletions: 3\nparallelism: 2\n";
    apply(&cluster, manifest).ok();
    let report = job(&cluster, "report");
    assert_eq!(report["status"]["succeeded"], 3, "{report}");
    let table = cluster.skiff(&["get", "jobs"]).ok().stdout;
    assert!(table.contains("Complete") && table.contains("3/3"), "{table}");
    let logs = cluster.skiff(&["logs", "-f", "job/report"]).ok();
    assert_eq!(logs.stderr.lines().filter(|line| *line == "done").count(), 3, "{}", logs.stderr);
    // The same again changes nothing, other arguments are another run.
    assert!(apply(&cluster, manifest).ok().stdout.contains("unchanged"));
    apply(&cluster, "kind: Job\nname: report\nimage: core\nargs: [say=again]\n").ok();
    let logs = cluster.skiff(&["logs", "job/report"]).ok();
    assert_eq!(logs.stderr, "again\n");
    cluster.skiff(&["delete", "job", "report"]).ok();
    eventually("its tasks are gone", || {
        cluster.skiff(&["get", "replicas", "-o", "name"]).ok().stdout.is_empty().then_some(())
    });
}

#[test]
fn one_that_fails_too_often_says_why() {
    let cluster = Cluster::start();
    push(&cluster, "core", "core");
    let run =
        apply(&cluster, "kind: Job\nname: bad\nimage: core\nargs: [say=no luck, exit=3]\nretries: 1\n").fails_with(8);
    for part in ["job bad has failed: 2 tasks have failed", "no luck", "skiff logs job/bad"] {
        assert!(run.stderr.contains(part), "{part} is in {}", run.stderr);
    }
    let described = cluster.skiff(&["describe", "job", "bad"]).ok().stdout;
    assert!(described.contains("0 of 1 succeeded, 2 failed, 0 active") && described.contains("Exited"), "{described}");
    // One that may not take so long.
    let run = apply(&cluster, "kind: Job\nname: slow\nimage: core\nargs: [sleep]\ndeadline: 1s\n").fails_with(8);
    assert!(run.stderr.contains("0 of 1 tasks had succeeded after 1s"), "{}", run.stderr);
    eventually("its task is stopped", || (job(&cluster, "slow")["status"]["active"] == 0).then_some(()));
}

#[test]
fn a_task_whose_node_was_killed_is_run_again() {
    let mut cluster = Cluster::start();
    push(&cluster, "core", "core");
    let file = cluster.write("job.yaml", "kind: Job\nname: long\nimage: core\nargs: [ms=3000]\nretries: 0\n");
    cluster.skiff(&["apply", "-f", &file]).ok();
    eventually("it runs", || {
        let replicas = cluster.skiff(&["get", "replicas", "-o", "json"]).ok().json();
        (replicas["items"][0]["status"]["phase"] == "Ready").then_some(())
    });
    cluster.kill9();
    cluster.restart();
    within(Duration::from_secs(60), "it has ended", || {
        job(&cluster, "long")["status"]["finished"].as_str().map(|_| ())
    });
    let long = job(&cluster, "long");
    assert_eq!((&long["status"]["succeeded"], &long["status"]["failed"]), (&1.into(), &0.into()), "{long}");
    let events = cluster.skiff(&["get", "events"]).ok().stdout;
    assert!(events.contains("was interrupted by a restart of its node"), "{events}");
}

#[test]
fn a_task_that_is_deleted_ends_before_another_begins() {
    let cluster = Cluster::start();
    push(&cluster, "core", "core");
    let file = cluster.write("job.yaml", "kind: Job\nname: long\nimage: core\nargs: [tick]\nretries: 0\n");
    cluster.skiff(&["apply", "-f", &file]).ok();
    let running = || {
        let replicas = cluster.skiff(&["get", "replicas", "-o", "json"]).ok().json();
        let replica = replicas["items"][0].clone();
        (replica["status"]["phase"] == "Ready").then(|| replica["metadata"]["name"].as_str().unwrap().to_owned())
    };
    let first = eventually("it runs", running);
    cluster.skiff(&["delete", "replica", &first]).ok();
    eventually("another one runs", || running().filter(|name| *name != first));
    let long = job(&cluster, "long");
    assert_eq!((&long["status"]["active"], &long["status"]["failed"]), (&1.into(), &0.into()), "{long}");
    let events = cluster.skiff(&["get", "events"]).ok().stdout;
    assert!(events.contains(&format!("{first} was interrupted: was stopped")), "{events}");
}

#[test]
fn a_job_is_run_as_a_command() {
    let cluster = Cluster::start();
    push(&cluster, "core", "core");
    let run = cluster.skiff(&["run", "--rm", "core", "-e", "MODE=once", "--", "say=to stderr", "env=MODE"]).ok();
    assert!(run.stdout.contains(r#"MODE is Ok("once")"#), "{}", run.stdout);
    assert_eq!(run.stderr, "to stderr\n");
    cluster.skiff(&["run", "--rm", "core", "--", "exit=1"]).fails_with(1);
    let eaten = cluster.skiff(&["run", "--rm", "core", "--", "eat"]).fails_with(8);
    assert!(eaten.stderr.contains("instance.memory"), "{}", eaten.stderr);
    assert_eq!(cluster.skiff(&["get", "jobs", "-o", "name"]).ok().stdout, "", "nothing stays");
}

#[test]
fn its_standard_streams_are_those_of_the_command() {
    let cluster = Cluster::start();
    push(&cluster, "core", "core");
    let run = |args: &[&str], input: &[u8]| {
        let args: Vec<&str> = ["run", "--rm", "-i", "core", "--", "quiet"].iter().chain(args).copied().collect();
        cluster.skiff_with_input(&args, input)
    };
    assert_eq!(run(&["ask"], b"Ada\n").ok().stdout, "name? hello Ada\n");
    assert_eq!(run(&["cat", "say=end", "exit=1"], b"").fails_with(1).stderr, "end\n");
    // More than any buffer on the way holds, and more than a log would take.
    let line = format!("{}\n", "0123456789".repeat(10));
    let much = line.repeat(80_000);
    assert!(run(&["cat"], much.as_bytes()).ok().stdout == much, "what went in came out");
    assert_eq!(run(&["tty"], b"").ok().stdout, "a terminal: false false\n");
    let told = cluster.skiff(&["run", "--rm", "-t", "core", "--", "quiet", "tty"]).ok().stdout;
    assert_eq!(told, "a terminal: true true\n");
    let refused = cluster.skiff(&["run", "--rm", "-it", "core"]).fails_with(4).stderr;
    assert!(refused.contains("standard input is no terminal (hint: leave out -t)"), "{refused}");
    // A job that says nothing of it takes no clients.
    apply(&cluster, "kind: Job\nname: plain\nimage: core\n").ok();
    let plain = cluster.api("POST", "/v1/namespaces/default/jobs/plain/attach").send().unwrap();
    let text = plain.text();
    assert!(
        plain.status == 409 && text.contains("job plain takes no clients") && text.contains("attach: true"),
        "{text}"
    );
    assert_eq!(cluster.skiff(&["get", "jobs", "-o", "name"]).ok().stdout, "job/plain\n");
}

#[test]
fn a_task_that_nobody_attaches_to_runs_alone() {
    let cluster = Cluster::start();
    push(&cluster, "core", "core");
    let manifest = "kind: Job\nname: alone\nimage: core\nargs: [flood=2]\nattach: true\n";
    let file = cluster.write("job.yaml", manifest);
    cluster.skiff(&["apply", "-f", &file]).ok();
    within(Duration::from_secs(90), "it has ended", || {
        job(&cluster, "alone")["status"]["finished"].as_str().map(|_| ())
    });
    assert_eq!(job(&cluster, "alone")["status"]["succeeded"], 1, "nothing held it up");
    let refused = apply(&cluster, "kind: Job\nname: two\nimage: core\ncompletions: 2\nattach: true\n").fails_with(4);
    assert!(refused.stderr.contains("with attach: true it can only be 1"), "{}", refused.stderr);
}

#[test]
fn a_schedule_makes_jobs() {
    let cluster = Cluster::start();
    push(&cluster, "core", "core");
    apply(&cluster, "kind: Job\nname: tick\nimage: core\nschedule: \"* * * * *\"\ntimeZone: Europe/Berlin\n").ok();
    let tick = job(&cluster, "tick");
    assert!(tick["status"]["nextScheduled"].is_string(), "{tick}");
    let made = within(Duration::from_secs(90), "a job is made and ends", || {
        let jobs = cluster.skiff(&["get", "jobs", "-o", "json"]).ok().json();
        let ended = |job: &&Value| job["status"]["finished"].is_string();
        let made = jobs["items"].as_array().unwrap().iter().find(ended)?;
        made["metadata"]["name"].as_str().map(str::to_owned)
    });
    assert!(made.starts_with("tick-"), "{made}");
    cluster.skiff(&["delete", "job", "tick"]).ok();
    eventually("those that it made are gone", || {
        cluster.skiff(&["get", "jobs", "-o", "name"]).ok().stdout.is_empty().then_some(())
    });
}

#[test]
fn what_makes_no_sense_for_a_job_is_refused() {
    let cluster = Cluster::start();
    push(&cluster, "core", "core");
    push(&cluster, "hello", "hello");
    let refused = |code: i32, manifest: &str| apply(&cluster, manifest).fails_with(code).stderr;
    let text = refused(4, "kind: Job\nname: a\nimage: hello\n");
    assert!(text.contains("does not export wasi:cli/run") && text.contains("kind: Service"), "{text}");
    let text = refused(4, "kind: Job\nname: a\nimage: core\nschedule: nightly\n");
    assert!(text.contains("job.yaml:4:11") && text.contains("is not a schedule: it has 1 fields"), "{text}");
    let text = refused(4, "kind: Job\nname: a\nimage: core\nschedule: \"@daily\"\ntimeZone: Mars\n");
    assert!(text.contains("there is no time zone \"Mars\""), "{text}");
    let text = refused(4, "kind: Job\nname: a\nimage: core\nhttp: {}\n");
    assert!(text.contains("http") && text.contains("unknown"), "{text}");
    cluster.skiff(&["run", "core", "--name", "both", "--", "sleep"]).ok();
    let text = refused(5, "kind: Job\nname: both\nimage: core\n");
    assert!(text.contains("service/default/both"), "{text}");
    apply(&cluster, "kind: Job\nname: first\nimage: core\n").ok();
    let text = refused(5, "kind: Service\nname: first\nimage: core\n");
    assert!(text.contains("job/default/first"), "{text}");
}
