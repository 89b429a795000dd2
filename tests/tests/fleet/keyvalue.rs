//! Values in buckets, from guests on several nodes: what was answered is kept, once, whoever dies.

use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::Instant;

use skiff_tests::{Fleet, eventually, guest};

use super::fleet;

const APP: &str = "kind: Service\nname: app\nimage: keeper\nreplicas: every-node\nkeyvalue: [{bucket: all}, {bucket: own, scope: node}]\nhttp:\n  routes: [{host: app.test, path: /}]\n  timeout: {firstByte: 60s}\n";

fn deploy(fleet: &Fleet) {
    fleet.skiff(&["push", "keeper", guest("keeper").to_str().unwrap()]).ok();
    let app = fleet.write("app.yaml", APP);
    fleet.skiff(&["apply", "-f", &app, "--wait"]).ok();
}

/// What a node's guest says, if it is a 200.
fn ask(fleet: &Fleet, node: &str, query: &str) -> Result<String, String> {
    let response = fleet.get(node, "app.test", &format!("/keyvalue?{query}"));
    let response = response.ok_or("no answer")?;
    match response.status {
        200 => Ok(response.text().trim_end().to_owned()),
        status => Err(format!("{status} {}", response.text())),
    }
}

#[test]
fn increments_from_three_nodes_are_exact() {
    count(3_000);
}

#[test]
#[ignore = "long: a hundred thousand of them"]
fn a_hundred_thousand_increments_are_exact() {
    count(100_000);
}

/// Increments so often, about, from guests on three nodes, two at a time on each.
fn count(times: i64) {
    const AT_ONCE: i64 = 25;
    let each = times / 3 / AT_ONCE / 2 * 2 + 2;
    let fleet = fleet(3);
    deploy(&fleet);
    let began = Instant::now();
    thread::scope(|scope| {
        for node in ["n1", "n2", "n3"] {
            let fleet = &fleet;
            for _ in 0..2 {
                scope.spawn(move || {
                    for _ in 0..each / 2 {
                        ask(fleet, node, &format!("bucket=all&do=add&key=n&value=1&n={AT_ONCE}")).unwrap();
                    }
                });
            }
        }
    });
    let sum = (3 * each * AT_ONCE).to_string();
    for node in ["n1", "n2", "n3"] {
        assert_eq!(ask(&fleet, node, "bucket=all&do=get&key=n").unwrap(), sum);
    }
    eprintln!("MEASURED: {sum} increments in {:?}", began.elapsed());
}

#[test]
fn what_was_answered_is_kept_when_a_node_dies() {
    let mut fleet = fleet(3);
    deploy(&fleet);
    let (asked, answered) = (AtomicI64::new(0), AtomicI64::new(0));
    let mut lost = 0;
    thread::scope(|scope| {
        let askers: Vec<_> = ["n1", "n2", "n3"]
            .map(|node| {
                let (fleet, asked, answered) = (&fleet, &asked, &answered);
                scope.spawn(move || {
                    let mut failed = 0;
                    for _ in 0..150 {
                        asked.fetch_add(1, Ordering::SeqCst);
                        match ask(fleet, node, "bucket=all&do=add&key=n") {
                            Ok(_) => _ = answered.fetch_add(1, Ordering::SeqCst),
                            Err(_) => failed += 1,
                        }
                    }
                    failed
                })
            })
            .into_iter()
            .collect();
        eventually("some were answered", || (answered.load(Ordering::SeqCst) > 60).then_some(()));
        kill(fleet.pid_of("n3"));
        lost = askers.into_iter().map(|asker| asker.join().unwrap()).sum();
    });
    let (asked, answered) = (asked.into_inner(), answered.into_inner());
    let now: i64 = ask(&fleet, "n1", "bucket=all&do=get&key=n").unwrap().parse().unwrap();
    assert!(lost > 0, "the node died amid it");
    assert!(answered <= now && now <= asked, "{answered} answered, {now} counted, {asked} asked");
    fleet.kill_node("n3");
}

#[test]
fn own_buckets_need_nobody_and_those_of_the_cluster_say_that_they_do() {
    let mut fleet = fleet(2);
    deploy(&fleet);
    ask(&fleet, "n1", "bucket=own&do=set&key=k&value=here").unwrap();
    ask(&fleet, "n1", "bucket=all&do=set&key=k&value=everywhere").unwrap();
    assert_eq!(ask(&fleet, "n2", "bucket=own&do=get&key=k").unwrap(), "none");
    assert_eq!(ask(&fleet, "n2", "bucket=all&do=get&key=k").unwrap(), "everywhere");
    fleet.kill_server();
    fleet.kill_node("n1");
    fleet.start_node("n1");
    assert_eq!(ask(&fleet, "n1", "bucket=own&do=get&key=k").unwrap(), "here");
    let refused = ask(&fleet, "n1", "bucket=all&do=get&key=k").unwrap_err();
    assert!(refused.contains("the control plane cannot be reached, which keeps the buckets"), "{refused}");
    fleet.start_server();
    let back = eventually("it is back", || ask(&fleet, "n1", "bucket=all&do=get&key=k").ok());
    assert_eq!(back, "everywhere");

    // A service that does not name it has no such bucket.
    let other = fleet.write("other.yaml", APP.replace("{bucket: all}, ", "").replace("app", "other"));
    fleet.skiff(&["apply", "-f", &other, "--wait"]).ok();
    let denied = fleet.get("n1", "other.test", "/keyvalue?bucket=all&do=get&key=k").unwrap();
    assert!(denied.status == 502 && denied.text().starts_with("there is no bucket all"), "{}", denied.text());
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
