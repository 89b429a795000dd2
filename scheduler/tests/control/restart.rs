//! A control plane that is replaced.

use skiff_scheduler::store::Store;

use crate::cluster::Cluster;
use crate::node::{FakeNode, View, hello, ready};

#[tokio::test]
async fn a_new_control_plane_sends_the_same_set_with_a_higher_fence_and_writes_nothing_new() {
    let cluster = Cluster::start().await;
    let mut node = FakeNode::connect(cluster.control.connect_node(), hello("n"), View::default(), ready()).await;
    for service in ["a", "b", "c"] {
        cluster.apply(service, |spec| spec.replicas = (2).into()).await;
    }
    for service in ["a", "b", "c"] {
        cluster.ready(service).await;
    }
    node.wait("all", |view| view.assigned.len() == 6).await;
    let Cluster { store, control, .. } = cluster;
    control.shutdown().await;
    let had = node.stop().await;
    assert_eq!(had.assigned.len(), 6, "a control plane that stops takes nothing along");

    let before = store.revision().await.unwrap();
    let cluster = Cluster::start_on(store).await;
    let mut node = FakeNode::connect(cluster.control.connect_node(), hello("n"), had.clone(), ready()).await;
    let view = node.wait("the whole", |view| view.wholes == 1).await;
    assert_eq!(view.assigned, had.assigned);
    assert_eq!(view.routes, had.routes);
    assert_eq!((view.started, view.stopped), (0, 0));
    assert!(view.desired.term > had.desired.term && view.desired.epoch == had.desired.epoch);

    // A later write shows that all earlier ones are through: the term, the node twice at most, and the service's own.
    cluster.apply("d", |_| {}).await;
    cluster.ready("d").await;
    let own = ["created", "revision and replica", "replica ready", "service ready"].len() as u64;
    let writes = cluster.store.revision().await.unwrap().get() - before.get();
    assert!(writes <= 1 + 2 + own + 1, "{writes} writes");
}

#[tokio::test]
async fn an_idle_control_plane_writes_nothing() {
    let cluster = Cluster::start().await;
    let _node = FakeNode::connect(cluster.control.connect_node(), hello("n"), View::default(), ready()).await;
    cluster.apply("hello", |_| {}).await;
    cluster.ready("hello").await;
    let before = cluster.store.revision().await.unwrap();
    // Hours pass at once: whatever works by the clock would show.
    tokio::time::pause();
    tokio::time::sleep(std::time::Duration::from_secs(3 * 3600)).await;
    assert_eq!(cluster.store.revision().await.unwrap(), before);
}

#[tokio::test]
async fn compacted_history_is_made_up_for() {
    let cluster = Cluster::start().await;
    let _node = FakeNode::connect(cluster.control.connect_node(), hello("n"), View::default(), ready()).await;
    cluster.apply("hello", |_| {}).await;
    cluster.ready("hello").await;
    for round in 0..50u32 {
        cluster.apply("hello", |spec| spec.replicas = (round % 3 + 1).into()).await;
        let now = cluster.store.revision().await.unwrap();
        cluster.store.compact(now).await.unwrap();
    }
    cluster.ready("hello").await;
}
