//! A fleet of real processes: a server, and nodes that are killed, cut off, rebooted, drained and told lies.
//!
//! - [`together`]: nodes join, services are placed on them, logs come back.
//! - [`exclusive`]: a service of which one copy runs at most.
//! - [`jobs`]: tasks whose machine is cut off or killed.
//! - [`keyvalue`]: values in buckets.
//! - [`lost`]: a node dies, the server dies, all of them are started again without it.
//! - [`apart`]: machines that are cut off from one another, and come back.
//! - [`verbs`]: what operators do to nodes.
//! - [`mistakes`]: each mistake with its own words and exit code.
//! - [`secrets`]: where a secret is, and where it is not.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod apart;
mod exclusive;
mod jobs;
mod keyvalue;
mod lost;
mod mistakes;
mod secrets;
mod together;
mod verbs;

use skiff_tests::fleet::Placed;
use skiff_tests::{Fleet, guest};

/// A fleet on loopback with so many nodes, `n1` and on.
fn fleet(nodes: usize) -> Fleet {
    let mut fleet = Fleet::on_loopback();
    join_all(&mut fleet, nodes);
    fleet
}

fn join_all(fleet: &mut Fleet, nodes: usize) {
    (1..=nodes).for_each(|number| fleet.join(&format!("n{number}"), &[]));
}

/// Runs the guest as a service of that name, at host `NAME.test`, and waits until all of it is ready.
#[track_caller]
fn deploy(fleet: &Fleet, name: &str, image: &str, replicas: &str) {
    let file = guest(image);
    fleet.skiff(&["push", image, file.to_str().unwrap()]).ok();
    let manifest = format!(
        "kind: Service\nname: {name}\nimage: {image}\nreplicas: {replicas}\nhttp:\n  routes: [{{host: {name}.test, path: /}}]\n"
    );
    let file = fleet.write(&format!("{name}.yaml"), manifest);
    fleet.skiff(&["apply", "-f", &file, "--wait"]).ok();
}

fn of<'a>(replicas: &'a [Placed], service: &str) -> Vec<&'a Placed> {
    replicas.iter().filter(|replica| replica.service == service).collect()
}

/// On which nodes a service's replicas are, sorted; one that is not ready has a `?` behind its node.
fn nodes_of(replicas: &[Placed], service: &str) -> Vec<String> {
    let shown = |replica: &&Placed| format!("{}{}", replica.node, if replica.phase == "Ready" { "" } else { "?" });
    let mut nodes: Vec<String> = of(replicas, service).iter().map(shown).collect();
    nodes.sort();
    nodes
}

/// How often any replica was started since the fleet began, as events tell: a replica that was restarted is one more.
#[track_caller]
fn starts(fleet: &Fleet) -> u64 {
    let events = fleet.skiff(&["get", "events", "-A", "-o", "json"]).ok().json();
    let events = events["items"].as_array().cloned().unwrap_or_default();
    let started = events.iter().filter(|event| event["spec"]["reason"] == "Started");
    started.map(|event| event["spec"]["count"].as_u64().unwrap_or(1)).sum()
}
