//! What may run in one place only: while the node holds its lease, and no longer.

use std::time::{Duration, Instant};

use http::StatusCode;
use skiff_api::resource::Phase;
use skiff_api::wire::{Assignment, FromNode, LEASE_MS};
use skiff_host::{Node, NodeOptions};

use crate::support::{Control, Web, World, assignment, replica, routes};

const NAME: &str = "app-1-a";

fn exclusive(world: &World, image: &str) -> Assignment {
    let mut template = world.template(image);
    template.exclusive = true;
    // What ends a request here is the lease.
    template.timeout.first_byte = "none".parse().unwrap();
    assignment("app", NAME, template)
}

async fn next_question(control: &mut Control) -> u64 {
    loop {
        if let FromNode::Lease { asked_ms } = control.next().await {
            return asked_ms;
        }
    }
}

#[tokio::test]
async fn requests_are_cut_with_the_lease_and_it_begins_again_with_the_next() {
    let world = World::new().await;
    // Requests in flight would have as long as that.
    let drain = Duration::from_secs(300);
    let node = Node::start(NodeOptions { drain, ..world.options() }).await.unwrap();
    let web = Web::h1(node.gateway_addr());
    let mut control = Control::of(&node).await;
    control.leases = false;
    control.route([routes("app", &[(None, "/")])]).await;
    control.desire([exclusive(&world, "probe")]).await;
    control.until(|control| control.statuses.get(&replica(NAME)).is_some_and(|it| it.reason == "NoLease")).await;
    assert_eq!(web.get("/").await.code(), "no-replica");

    control.leases = true;
    control.until_ready(NAME).await;
    assert_eq!(web.get("/").await.status, 200);
    // The last answer that it gets.
    next_question(&mut control).await;
    let granted = Instant::now();
    control.leases = false;
    let (cut, ended) = tokio::join!(web.try_get("/sleep?ms=600000"), async {
        control.until(|control| control.phase(NAME) != Some(Phase::Ready)).await;
        granted.elapsed()
    });
    let took = granted.elapsed();
    let (least, most) = (Duration::from_millis(LEASE_MS - 2_000), Duration::from_millis(LEASE_MS + 2_000));
    assert!((least..most).contains(&ended), "it was given up after {ended:?}");
    let cut = cut.map(|answer| answer.status);
    assert!(took < most && cut != Ok(StatusCode::OK), "a request went on for {took:?}: {cut:?}");
    control.until(|control| control.statuses[&replica(NAME)].reason == "NoLease").await;
    assert!(!control.statuses[&replica(NAME)].ended);

    control.leases = true;
    control.until_ready(NAME).await;
    assert_eq!(web.get("/").await.status, 200);
}

#[tokio::test]
async fn told_to_stop_it_says_that_it_has() {
    let world = World::new().await;
    let node = world.node().await;
    let mut control = Control::of(&node).await;
    control.route([routes("app", &[(None, "/")])]).await;
    control.desire([exclusive(&world, "probe")]).await;
    control.until_ready(NAME).await;
    let stopped = Assignment { stop: true, ..exclusive(&world, "probe") };
    control.change(vec![stopped], Vec::new()).await;
    control.until(|control| control.statuses[&replica(NAME)].ended).await;
    assert_eq!(Web::h1(node.gateway_addr()).get("/").await.code(), "no-replica");
    control.change(Vec::new(), vec![replica(NAME)]).await;
    control.until(|control| !control.statuses.contains_key(&replica(NAME))).await;
}

#[tokio::test]
async fn another_process_begins_nothing_before_it_has_a_lease() {
    let world = World::new().await;
    let node = world.node().await;
    let mut control = Control::of(&node).await;
    control.route([routes("app", &[(None, "/")])]).await;
    control.desire([exclusive(&world, "probe")]).await;
    control.until_ready(NAME).await;
    node.shutdown().await;

    // All that it needs to serve is on its disk.
    let node = world.node().await;
    let web = Web::h1(node.gateway_addr());
    assert_eq!(web.get("/").await.code(), "no-replica");
    let mut control = Control::of(&node).await;
    control.leases = false;
    // It asks, although nothing has changed; and an answer counts once it has heard what is wanted.
    let asked_ms = next_question(&mut control).await;
    control.send(skiff_api::wire::ToNode::Lease { asked_ms }).await;
    assert_eq!(control.phase(NAME), Some(Phase::Pending));
    assert_eq!(web.get("/").await.code(), "no-replica");
    control.desire([exclusive(&world, "probe")]).await;
    control.until_ready(NAME).await;
    assert_eq!(web.get("/").await.status, 200);
}
