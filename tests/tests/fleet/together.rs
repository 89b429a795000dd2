//! Nodes join, services are placed on them, logs come back.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::thread;

use skiff_tests::eventually;

use super::{deploy, fleet, nodes_of, of};

#[test]
fn three_nodes_join_and_share_the_work() {
    let fleet = fleet(3);
    let nodes = fleet.skiff(&["get", "nodes", "-o", "name"]).ok().stdout;
    assert_eq!(nodes, "node/n1\nnode/n2\nnode/n3\n");
    for node in ["n1", "n2", "n3"] {
        let identity = fleet.path(node).join("node/identity");
        let mode = std::fs::metadata(identity).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "only its owner reads a node's key");
        assert!(!fleet.path(node).join("node/key").exists(), "the key is in the identity");
    }

    deploy(&fleet, "hello", "hello", "3");
    assert_eq!(nodes_of(&fleet.replicas(), "hello"), ["n1", "n2", "n3"]);
    for node in ["n1", "n2", "n3"] {
        assert_eq!(fleet.get(node, "hello.test", "/").unwrap().text(), "Hello from Skiff!\n", "through {node}");
    }
    deploy(&fleet, "all", "probe", "every-node");
    assert_eq!(nodes_of(&fleet.replicas(), "all"), ["n1", "n2", "n3"]);
}

#[test]
fn logs_come_from_the_node_that_has_them() {
    let fleet = fleet(2);
    deploy(&fleet, "probe", "probe", "every-node");
    for node in ["n1", "n2"] {
        assert_eq!(fleet.get(node, "probe.test", "/log?lines=3").unwrap().status, 200);
        let replicas = fleet.replicas();
        let replica = of(&replicas, "probe").into_iter().find(|replica| replica.node == node).unwrap();
        eventually("six lines are logged", || {
            let logs = fleet.skiff(&["logs", &format!("replica/{}", replica.name)]).ok();
            (logs.stdout.lines().count() == 3 && logs.stderr.lines().count() == 3).then_some(())
        });
    }
    // All of a service, from both nodes.
    let logs = fleet.skiff(&["logs", "probe", "--prefix"]).ok();
    assert_eq!(logs.stdout.lines().count(), 6, "{logs}");

    let mut command = fleet.command(&["logs", "probe", "-f", "--tail", "0"]);
    let mut follow = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    // It may not be listening yet: lines are written until one comes.
    let first = thread::scope(|scope| {
        let came = scope.spawn(|| lines.next());
        eventually("a followed line", || {
            fleet.get("n2", "probe.test", "/log?lines=1");
            came.is_finished().then_some(())
        });
        came.join().unwrap()
    });
    follow.kill().unwrap();
    follow.wait().unwrap();
    assert!(first.is_some_and(|line| line.is_ok()));
}

#[test]
fn what_the_operator_says_of_a_node_is_known() {
    let mut fleet = fleet(0);
    fleet.join("edge", &["--site", "north", "--label", "disk=ssd", "--label", "zone=a", "--advertise", "edge.example"]);
    let node = fleet.skiff(&["get", "node", "edge", "-o", "json"]).ok().json();
    assert_eq!(node["status"]["site"], "north");
    assert_eq!(node["metadata"]["labels"]["disk"], "ssd");
    assert_eq!(node["metadata"]["labels"]["zone"], "a");
    let gateway = format!("edge.example:{}", fleet.gateway("edge").port());
    assert_eq!(node["status"]["gateway"], gateway);
    let picked = fleet.skiff(&["get", "nodes", "-l", "disk=ssd", "-o", "name"]).ok().stdout;
    assert_eq!(picked, "node/edge\n");
}
