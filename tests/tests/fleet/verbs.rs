//! What operators do to nodes.

use std::time::Duration;

use skiff_tests::eventually;
use skiff_tests::fleet::load::Load;

use super::{deploy, fleet, nodes_of, starts};

#[test]
fn a_drain_moves_everything_and_loses_no_request() {
    let fleet = fleet(2);
    deploy(&fleet, "hello", "hello", "every-node");
    deploy(&fleet, "one", "hello", "1");
    let on = nodes_of(&fleet.replicas(), "one").remove(0);
    let other = if on == "n1" { "n2" } else { "n1" };
    let load = Load::start(&fleet, &[other], ("hello.test", "/"), 100);
    let drained = fleet.skiff(&["drain", &on]).ok();
    assert!(drained.stdout.ends_with(&format!("node/{on} drained\n")), "{drained}");
    assert_eq!(nodes_of(&fleet.replicas(), "one"), [other]);
    fleet.eventually_answers(other, "one.test", "/", 200);
    let report = load.stop();
    assert_eq!(report.failed, [], "of {}", report.answered);

    // Nothing new goes there, until it may.
    fleet.skiff(&["scale", "one", "--replicas", "3"]).ok();
    fleet.until_replicas("three replicas on the other node", |replicas| {
        nodes_of(replicas, "one") == [other, other, other]
    });
    fleet.skiff(&["uncordon", &on]).ok();
    fleet.skiff(&["scale", "one", "--replicas", "4"]).ok();
    fleet.until_replicas("the fourth replica is where it may be again", |replicas| {
        nodes_of(replicas, "one").contains(&on)
    });
}

#[test]
fn a_cordon_keeps_what_is_there_and_lets_nothing_new_in() {
    let fleet = fleet(2);
    deploy(&fleet, "hello", "hello", "2");
    fleet.skiff(&["cordon", "n1"]).ok();
    fleet.skiff(&["scale", "hello", "--replicas", "4"]).ok();
    let is_so = |replicas: &[_]| nodes_of(replicas, "hello") == ["n1", "n2", "n2", "n2"];
    fleet.until_replicas("what is new is on n2", is_so);
    fleet.skiff(&["uncordon", "n1"]).ok();
}

#[test]
fn taints_and_labels_decide_where_a_service_may_be() {
    let fleet = fleet(2);
    deploy(&fleet, "hello", "hello", "2");
    fleet.skiff(&["taint", "node", "n1", "edge=far:NoExecute"]).ok();
    fleet.until_replicas("all is where it is tolerated", |replicas| nodes_of(replicas, "hello") == ["n2", "n2"]);
    fleet.skiff(&["taint", "node", "n1", "edge:NoExecute-"]).ok();

    fleet.skiff(&["label", "node", "n1", "disk=ssd"]).ok();
    let manifest = "kind: Service\nname: fast\nimage: hello\nreplicas: 2\nplacement: {require: {disk: ssd}}\n";
    let file = fleet.write("fast.yaml", manifest);
    fleet.skiff(&["apply", "-f", &file, "--wait"]).ok();
    assert_eq!(nodes_of(&fleet.replicas(), "fast"), ["n1", "n1"]);
    let why = fleet.skiff(&["why", "fast"]).ok().stdout;
    assert!(why.contains("n1"), "{why}");

    // It stays so when node and control plane have lost one another for a moment.
    let picked = fleet.skiff(&["get", "nodes", "-l", "disk=ssd", "-o", "name"]).ok().stdout;
    assert_eq!(picked, "node/n1\n");
}

#[test]
fn a_rebalancing_evens_out_and_then_finds_nothing_to_do() {
    let mut fleet = fleet(1);
    for number in 0..6 {
        deploy(&fleet, &format!("s{number}"), "hello", "1");
    }
    fleet.join("n2", &[]);
    let dry = fleet.skiff(&["rebalance", "--dry-run"]).ok();
    fleet.skiff(&["rebalance"]).ok();
    let on = |node: &str| fleet.replicas().iter().filter(|replica| replica.node == node).count();
    eventually("replicas move until nodes are evenly full, or nothing was to be moved", || {
        let replicas = fleet.replicas();
        let is_settled = replicas.len() == 6 && replicas.iter().all(|replica| replica.phase == "Ready");
        (is_settled && (on("n2") > 0 || dry.stdout.contains("nothing"))).then_some(())
    });
    let started = starts(&fleet);
    let again = fleet.skiff(&["rebalance"]).ok();
    let until = std::time::Instant::now();
    while until.elapsed() < Duration::from_secs(1) {
        assert_eq!(starts(&fleet), started, "a second run moves nothing: {again}");
    }
}

#[test]
fn a_removed_node_stops_and_is_let_in_nowhere() {
    let mut fleet = fleet(2);
    deploy(&fleet, "hello", "hello", "2");
    fleet.skiff(&["node", "remove", "n1"]).ok();
    assert_eq!(fleet.node("n1").wait(), Some(6), "it stops by itself: {}", fleet.node_log("n1"));
    assert!(fleet.node_log("n1").contains("the cluster has removed this node"), "{}", fleet.node_log("n1"));
    fleet.until_replicas("all is on the node that is left", |replicas| nodes_of(replicas, "hello") == ["n2", "n2"]);
    // Nor does it serve at its next start, also with nobody to ask.
    let output = fleet.node_command("n1", "127.0.0.1:0").output().unwrap();
    assert_eq!(output.status.code(), Some(6));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("its cluster has removed it"), "{said}");
}
