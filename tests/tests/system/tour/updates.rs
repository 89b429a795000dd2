//! Another image under load, back again, one that fails; and draining.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use skiff_tests::{Cluster, Request, Run, eventually};

use super::{PROBE_HOST, push, run_probe};

pub(super) const APP: &str = "kind: Service\nname: app\nimage: app\nreplicas: 2\nhttp:\n  routes: [{path: /}]\n";

/// Asks all the while that `act` takes, and returns how often the gateway was asked.
pub(super) fn under_load<T>(cluster: &Cluster, act: impl FnOnce() -> T) -> (T, usize) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let askers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut asked = 0;
                    while !stop.load(Ordering::Relaxed) {
                        let answer = Request::new(cluster.gateway_addr(), "GET", "/").send();
                        match answer {
                            Ok(response) if response.status == 200 => asked += 1,
                            other => panic!("request {asked} was lost: {other:?}"),
                        }
                    }
                    asked
                })
            })
            .collect();
        let done = act();
        stop.store(true, Ordering::Relaxed);
        (done, askers.into_iter().map(|asker| asker.join().unwrap()).sum())
    })
}

#[test]
fn an_update_and_the_way_back_lose_no_request() {
    let cluster = Cluster::start();
    cluster.write("app.yaml", APP);
    let first = push(&cluster, "app", "hello");
    let apply = |args: &[&str]| cluster.skiff(&[&["apply", "-f", "app.yaml"], args].concat());
    apply(&["--wait"]).ok();
    assert_eq!(cluster.get("/").text(), "Hello from Skiff!\n");

    let second = push(&cluster, "app", "probe");
    let (update, asked): (Run, _) = under_load(&cluster, || apply(&["--wait"]).ok());
    assert!(asked > 0);
    let short = |digest: &str| digest[..19].to_owned();
    let moved = format!("service/app configured (app moved {} -> {})\n", short(&first), short(&second));
    assert_eq!(update.stdout, moved);
    eventually("the new image answers alone", || (cluster.get("/").text() == "probe\n").then_some(()));

    // Back again: the tag is moved back, and nothing is compiled anew.
    push(&cluster, "app", "hello");
    let (_, asked) = under_load(&cluster, || apply(&["--wait"]).ok());
    assert!(asked > 0);
    eventually("the old image answers again", || (cluster.get("/").text() == "Hello from Skiff!\n").then_some(()));
}

#[test]
fn an_update_that_cannot_start_leaves_the_old_serving() {
    let cluster = Cluster::start();
    push(&cluster, "app", "hello");
    cluster.write("app.yaml", APP);
    cluster.skiff(&["apply", "-f", "app.yaml", "--wait"]).ok();
    push(&cluster, "app", "probe");
    // Less than the probe's own memory: it cannot be made.
    cluster.write("app.yaml", format!("{APP}instance: {{memory: 64Ki}}\n"));
    let (failed, asked) = under_load(&cluster, || {
        cluster.skiff(&["apply", "-f", "app.yaml", "--wait", "--timeout", "20s"]).fails_with(8)
    });
    assert!(asked > 0);
    assert!(failed.stderr.contains("app-2"), "it names the revision: {failed}");
    assert!(failed.stderr.contains("memory"), "it says why: {failed}");
    assert_eq!(cluster.get("/").text(), "Hello from Skiff!\n");
}

#[test]
fn a_stop_finishes_what_is_in_flight() {
    let mut cluster = Cluster::start();
    run_probe(&cluster);
    let gateway = cluster.gateway_addr();
    let slow = thread::spawn(move || Request::new(gateway, "GET", "/sleep?ms=1500").host(PROBE_HOST).send());
    // The request is there once the gateway counts it.
    eventually("the slow request is in flight", || {
        let metrics = cluster.api("GET", "/metrics").send().unwrap().text();
        let in_flight = metrics.lines().find(|line| line.starts_with("skiff_gateway_requests_in_flight"));
        in_flight.is_some_and(|line| line.ends_with(" 1")).then_some(())
    });
    assert_eq!(cluster.terminate(), Some(0));
    assert_eq!(slow.join().unwrap().unwrap().status, 200);
}
