//! Processes that die, and what goes on without them.

use std::time::{Duration, Instant};

use skiff_tests::eventually;
use skiff_tests::fleet::load::Load;

use super::{deploy, fleet, nodes_of, starts};

/// From a node's last word until its replicas answer elsewhere.
const ELSEWHERE: Duration = Duration::from_secs(7);
/// Longer than it takes a node to miss its control plane, and to dial more than once.
const AWAY: Duration = Duration::from_secs(6);

#[test]
fn what_a_killed_node_had_is_soon_elsewhere() {
    let mut fleet = fleet(3);
    deploy(&fleet, "hello", "hello", "2");
    let lost = nodes_of(&fleet.replicas(), "hello").remove(0);
    fleet.until_past_grace();
    fleet.kill_node(&lost);
    let killed = Instant::now();
    let replicas = fleet.until_replicas("two replicas are ready on the nodes that are left", |replicas| {
        let nodes = nodes_of(replicas, "hello");
        nodes.iter().filter(|node| **node != lost && !node.ends_with('?')).count() == 2
    });
    let took = killed.elapsed();
    assert!(took <= ELSEWHERE, "it took {took:?}: {replicas:#?}");
    eprintln!("MEASURED: replicas of a killed node ready elsewhere after {took:?}");
    assert_eq!(fleet.liveness(&lost), "Dead");

    // It comes back, and nothing is there twice.
    fleet.start_node(&lost);
    fleet.until_liveness(&lost, "Alive");
    fleet.until_replicas("two replicas, not three", |replicas| {
        let nodes = nodes_of(replicas, "hello");
        nodes.len() == 2 && nodes.iter().all(|node| !node.ends_with('?'))
    });
}

#[test]
fn nodes_serve_and_restart_nothing_while_the_control_plane_is_away() {
    let mut fleet = fleet(2);
    deploy(&fleet, "hello", "hello", "every-node");
    let (before, started) = (fleet.replicas(), starts(&fleet));
    let load = Load::start(&fleet, &["n1", "n2"], ("hello.test", "/"), 100);
    fleet.kill_server();
    let away = Instant::now();
    eventually("the control plane was away for a while", || (away.elapsed() >= AWAY).then_some(()));
    fleet.start_server();
    for node in ["n1", "n2"] {
        fleet.until_liveness(node, "Alive");
    }
    let back = away.elapsed();
    // What was there stays there: it is looked at for as long as a wrong plan would need.
    let settled = Instant::now();
    while settled.elapsed() < Duration::from_secs(3) {
        assert_eq!(fleet.replicas(), before);
    }
    let report = load.stop();
    assert_eq!(report.failed, [], "after {} that were answered", report.answered);
    assert!(report.answered > 500, "{report:?}");
    assert_eq!(starts(&fleet), started, "a replica was restarted");
    eprintln!("MEASURED: {} requests, none failed; nodes back {:?} after the kill", report.answered, back);
    // And it is in charge again.
    deploy(&fleet, "new", "hello", "2");
    assert_eq!(nodes_of(&fleet.replicas(), "new"), ["n1", "n2"]);
}

#[test]
fn nodes_start_and_serve_with_nobody_to_ask() {
    let mut fleet = fleet(2);
    deploy(&fleet, "hello", "hello", "every-node");
    let before = fleet.replicas();
    fleet.kill_server();
    for node in ["n1", "n2"] {
        fleet.kill_node(node);
    }
    for node in ["n1", "n2"] {
        let began = Instant::now();
        fleet.start_node(node);
        let response = fleet.get(node, "hello.test", "/").unwrap();
        let took = began.elapsed();
        assert_eq!(response.text(), "Hello from Skiff!\n");
        // A second from its start, on a machine that has nothing else to do.
        assert!(took < Duration::from_secs(3), "{node} serves after {took:?}");
        eprintln!("MEASURED: {node} serves {took:?} after its start, with nobody to ask");
    }
    fleet.start_server();
    for node in ["n1", "n2"] {
        fleet.until_liveness(node, "Alive");
    }
    fleet.until_replicas("all is as it was", |replicas| replicas == before);
}

#[test]
fn a_node_that_is_stopped_in_order_finishes_what_it_has_begun() {
    let mut fleet = fleet(1);
    deploy(&fleet, "probe", "probe", "1");
    let gateway = fleet.gateway("n1");
    std::thread::scope(|scope| {
        let slow =
            scope.spawn(move || skiff_tests::Request::new(gateway, "GET", "/sleep?ms=1500").host("probe.test").send());
        eventually("the request is on its way", || {
            fleet.skiff(&["get", "nodes"]).ok();
            (!slow.is_finished()).then_some(())
        });
        assert_eq!(fleet.terminate_node("n1"), Some(0));
        assert_eq!(slow.join().unwrap().unwrap().status, 200);
    });
}
