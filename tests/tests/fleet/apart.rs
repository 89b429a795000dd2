//! Machines that are cut off from one another, and come back.

use std::time::{Duration, Instant};

use skiff_tests::Fleet;
use skiff_tests::fleet::Placed;
use skiff_tests::fleet::load::Load;
use skiff_tests::wait::within;

use super::{deploy, join_all, nodes_of, starts};

/// How long a machine is cut off: for long enough that the control plane gives it up, and places elsewhere what it had. In
/// a long run, for long enough that connections and caches of all kinds give up too.
fn cut() -> Duration {
    Duration::from_secs(if is_long() { 180 } else { 12 })
}

fn lossy() -> Duration {
    Duration::from_secs(if is_long() { 60 } else { 20 })
}

fn is_long() -> bool {
    std::env::var_os("SKIFF_LONG").is_some()
}

/// Of a machine's packets, each way.
const LOST_PERCENT: u32 = 20;

#[test]
fn a_partition_that_heals_leaves_nothing_twice_and_restarts_nothing() {
    let Some(mut fleet) = Fleet::on_machines("a_partition_that_heals") else { return };
    join_all(&mut fleet, 3);
    deploy(&fleet, "hello", "hello", "2");
    deploy(&fleet, "all", "hello", "every-node");
    fleet.until_past_grace();
    let (started, before) = (starts(&fleet), fleet.replicas());
    let lost = nodes_of(&before, "hello").remove(0);
    let others: Vec<&str> = ["n1", "n2", "n3"].into_iter().filter(|node| *node != lost).collect();

    let load = Load::start(&fleet, &others, ("all.test", "/"), 100);
    fleet.machines().cut(&lost, true);
    let began = Instant::now();
    fleet.until_replicas("two replicas are ready on the machines that are left", |replicas| {
        let ready = |node: &&String| **node != lost && !node.ends_with('?');
        nodes_of(replicas, "hello").iter().filter(ready).count() == 2
    });
    eprintln!("MEASURED: replicas of a machine that was cut off ready elsewhere after {:?}", began.elapsed());
    assert!(began.elapsed() <= Duration::from_secs(7), "it took {:?}", began.elapsed());
    within(2 * cut(), "it was cut off for a while", || (began.elapsed() >= cut()).then_some(()));
    // One replica more than before, which is the moved one.
    assert_eq!(starts(&fleet), started + 1);
    fleet.machines().cut(&lost, false);
    fleet.until_liveness(&lost, "Alive");
    fleet.until_replicas("nothing is there twice", |replicas| {
        let (hello, all) = (nodes_of(replicas, "hello"), nodes_of(replicas, "all"));
        hello.len() == 2 && all == ["n1", "n2", "n3"] && hello.iter().all(|node| !node.ends_with('?'))
    });
    let report = load.stop();
    assert_eq!(report.failed, [], "of {}", report.answered);
    assert_eq!(starts(&fleet), started + 1, "what did not change was not restarted");
    fleet.eventually_answers(&lost, "all.test", "/", 200);
}

#[test]
fn a_lossy_network_moves_nothing() {
    let Some(mut fleet) = Fleet::on_machines("a_lossy_network_moves_nothing") else { return };
    join_all(&mut fleet, 2);
    deploy(&fleet, "hello", "hello", "2");
    fleet.until_past_grace();
    let (before, started) = (fleet.replicas(), starts(&fleet));
    for node in ["n1", "n2"] {
        fleet.machines().lose(node, LOST_PERCENT, true);
    }
    let began = Instant::now();
    while began.elapsed() < lossy() {
        let names = |replicas: &[Placed]| -> Vec<_> {
            replicas.iter().map(|replica| (replica.name.clone(), replica.node.clone())).collect()
        };
        assert_eq!(names(&fleet.replicas()), names(&before), "after {:?}", began.elapsed());
    }
    let links = fleet.server_log().matches("a node's link ended").count();
    let (share, span) = (LOST_PERCENT, lossy());
    eprintln!("MEASURED: {share} % of packets lost for {span:?}: {links} connections of nodes broke, no replica moved");
    for node in ["n1", "n2"] {
        fleet.machines().lose(node, LOST_PERCENT, false);
        fleet.until_liveness(node, "Alive");
    }
    assert_eq!(starts(&fleet), started);
}
