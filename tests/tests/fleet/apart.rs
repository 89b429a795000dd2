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

/// Requests through the gateways of those that are left.
const PER_SECOND: u32 = 200;

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

/// Who is asked has no replica, or one, and the machine that is lost has one: so every request may be on its way there.
#[test]
fn requests_through_the_others_survive_a_machine_that_is_lost() {
    let Some(mut fleet) = Fleet::on_machines("requests_through_the_others_survive") else { return };
    join_all(&mut fleet, 3);
    deploy(&fleet, "hello", "hello", "2");
    fleet.until_past_grace();
    for is_killed in [true, false] {
        let has = nodes_of(&fleet.replicas(), "hello");
        assert!(has.len() == 2 && has[0] != has[1], "{has:?}");
        let lost = has[0].clone();
        let others: Vec<&str> = ["n1", "n2", "n3"].into_iter().filter(|node| *node != lost).collect();
        for node in &others {
            fleet.eventually_answers(node, "hello.test", "/", 200);
        }
        let load = Load::start(&fleet, &others, ("hello.test", "/"), PER_SECOND);
        let before = Instant::now();
        within(Duration::from_secs(10), "requests are on their way", || (load.so_far().answered > 100).then_some(()));
        match is_killed {
            true => fleet.kill_node(&lost),
            false => fleet.machines().cut(&lost, true),
        }
        fleet.until_replicas("two replicas are ready on the machines that are left", |replicas| {
            let ready = |node: &&String| **node != lost && !node.ends_with('?');
            nodes_of(replicas, "hello").iter().filter(ready).count() == 2
        });
        let report = load.stop();
        let (how, rate) =
            (if is_killed { "killed" } else { "cut off" }, report.answered as f64 / before.elapsed().as_secs_f64());
        eprintln!(
            "MEASURED: a machine {how}: {} requests through the others, {rate:.0} a second, {} failed, the slowest {:?}",
            report.answered,
            report.failed.len(),
            report.slowest
        );
        assert_eq!(report.failed, [], "a machine was {how}, of {}", report.answered);
        match is_killed {
            true => fleet.start_node(&lost),
            false => fleet.machines().cut(&lost, false),
        }
        fleet.until_liveness(&lost, "Alive");
        fleet.until_replicas("two replicas on two machines", |replicas| {
            let nodes = nodes_of(replicas, "hello");
            nodes.len() == 2 && nodes.iter().all(|node| !node.ends_with('?'))
        });
        // What came to lie together moves apart, for the next round.
        if nodes_of(&fleet.replicas(), "hello")[0] == nodes_of(&fleet.replicas(), "hello")[1] {
            fleet.skiff(&["rebalance"]).ok();
            fleet.until_replicas("replicas lie apart", |replicas| {
                let nodes = nodes_of(replicas, "hello");
                nodes.len() == 2 && nodes[0] != nodes[1] && nodes.iter().all(|node| !node.ends_with('?'))
            });
        }
    }
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
