//! Nodes that leave: by a drain, and without a word.

use std::collections::BTreeSet;
use std::sync::Arc;

use skiff_api::resource::{Liveness, NodeSpec, Phase, ServiceSpec};
use skiff_api::wire::{Endpoint, Hello};
use skiff_scheduler::objects::Change;
use skiff_scheduler::plan::liveness::LivenessOptions;
use skiff_scheduler::store::MemoryStore;

use crate::cluster::{Cluster, key};
use crate::node::{FakeNode, View, hello, ready};

const QUICK: LivenessOptions = LivenessOptions { dead_after_ms: 300, grace_ms: 0 };

async fn join(cluster: &Cluster, name: &str, had: View) -> FakeNode {
    let node = FakeNode::connect(cluster.control.connect_node(), hello(name), had, ready()).await;
    cluster.node_is(name, Liveness::Alive).await;
    node
}

async fn change(cluster: &Cluster, name: &str, change: impl Fn(&mut NodeSpec)) {
    loop {
        let seen = cluster.objects.find::<NodeSpec>(None, name).await.unwrap();
        let mut wanted = seen.clone();
        change(&mut wanted.spec);
        match cluster.objects.write_spec(&seen, &wanted, Change::new()).await {
            Ok(_) => return,
            Err(error) if error.is_conflict() => {}
            Err(error) => panic!("{error}"),
        }
    }
}

async fn are_on(cluster: &Cluster, nodes: &[&str]) {
    let wanted: BTreeSet<String> = nodes.iter().map(ToString::to_string).collect();
    cluster
        .eventually("replicas on the right nodes", async |objects| {
            let replicas = objects.list::<skiff_api::resource::ReplicaSpec>(None, &Default::default()).await.unwrap();
            let settled = |replica: &skiff_api::resource::Replica| replica.status.phase == Phase::Ready;
            let on = replicas.items.iter().filter_map(|replica| Some(replica.spec.node.as_ref()?.to_string()));
            (replicas.items.iter().all(settled) && on.collect::<BTreeSet<_>>() == wanted).then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_drained_node_keeps_a_replica_until_another_answers() {
    let cluster = Cluster::start().await;
    let mut a = join(&cluster, "a", View::default()).await;
    cluster.apply("hello", |spec| spec.replicas = 2.into()).await;
    cluster.ready("hello").await;
    a.wait("two", |view| view.assigned.len() == 2).await;
    // Nobody can take them: they stay.
    change(&cluster, "a", |spec| (spec.unschedulable, spec.draining) = (true, true)).await;
    cluster.service("hello", "a surplus that waits", |service| service.status.replicas == 3).await;
    assert_eq!(a.view.borrow().assigned.len(), 2);
    let _b = join(&cluster, "b", View::default()).await;
    a.wait("nothing", |view| view.assigned.is_empty()).await;
    are_on(&cluster, &["b"]).await;
    assert!(cluster.ready("hello").await.status.ready >= 2);
}

#[tokio::test]
async fn a_dead_nodes_replicas_are_placed_elsewhere_and_it_drops_them_when_it_is_back() {
    let cluster = Cluster::start_with(Arc::new(MemoryStore::new()), QUICK).await;
    let a = join(&cluster, "a", View::default()).await;
    let mut b = join(&cluster, "b", View::default()).await;
    let _c = join(&cluster, "c", View::default()).await;
    cluster.apply("hello", |spec| spec.replicas = 3.into()).await;
    cluster.ready("hello").await;
    are_on(&cluster, &["a", "b", "c"]).await;
    let had = a.stop().await;
    cluster.node_is("a", Liveness::Dead).await;
    are_on(&cluster, &["b", "c"]).await;
    let before = b.wait("its own", |view| !view.assigned.is_empty()).await;
    let mut a = join(&cluster, "a", had).await;
    let view = a.wait("the whole", |view| view.wholes == 1 && view.assigned.is_empty()).await;
    assert_eq!((view.started, view.stopped), (0, 1));
    assert_eq!(b.view.borrow().stopped, before.stopped, "nobody else restarts anything");
}

/// A node that answers others at `NAME:1`.
async fn join_with_peers(cluster: &Cluster, name: &str, had: View) -> FakeNode {
    let hello = Hello { peer: Some(format!("{name}:1")), ..hello(name) };
    let node = FakeNode::connect(cluster.control.connect_node(), hello, had, ready()).await;
    cluster.node_is(name, Liveness::Alive).await;
    node
}

/// What a node was told of who else answers for a service: `b:1`, or `b:1?` where that is suspect.
fn told(view: &View, service: &str) -> Vec<String> {
    view.routes.get(&key(service)).map(|routes| words(&routes.endpoints)).unwrap_or_default()
}

fn words(endpoints: &[Endpoint]) -> Vec<String> {
    let word = |endpoint: &Endpoint| format!("{}{}", endpoint.address, if endpoint.suspect { "?" } else { "" });
    endpoints.iter().map(word).collect()
}

#[tokio::test]
async fn nodes_hear_who_else_answers_and_who_is_lost() {
    let cluster = Cluster::start().await;
    let mut a = join_with_peers(&cluster, "a", View::default()).await;
    let mut b = join_with_peers(&cluster, "b", View::default()).await;
    let mut shy = join(&cluster, "shy", View::default()).await;
    let on_b = |spec: &mut ServiceSpec| _ = spec.placement.require.insert("node".to_owned(), "b".to_owned());
    cluster.apply("hello", on_b).await;
    cluster.ready("hello").await;
    a.wait("b", |view| told(view, "hello") == ["b:1"]).await;
    b.wait("its own", |view| view.assigned.len() == 1).await;
    assert_eq!(told(&b.view.borrow(), "hello"), [""; 0], "nobody is told of himself");
    assert_eq!(told(&shy.view.borrow(), "hello"), [""; 0], "who has no port for others has no way to them");
    shy.wait("the routes", |view| view.routes.contains_key(&key("hello"))).await;

    let had = b.stop().await;
    a.wait("the loss of b", |view| told(view, "hello") == ["b:1?"]).await;
    let mut b = join_with_peers(&cluster, "b", had).await;
    a.wait("b again", |view| told(view, "hello") == ["b:1"]).await;

    // It moves: the others hear of the new place before the old one is to stop.
    let _c = join_with_peers(&cluster, "c", View::default()).await;
    let before = a.view.borrow().heard.len();
    cluster.apply("hello", |spec| _ = spec.placement.require.insert("node".to_owned(), "c".to_owned())).await;
    change(&cluster, "b", |spec| (spec.unschedulable, spec.draining) = (true, true)).await;
    b.wait("nothing", |view| view.assigned.is_empty()).await;
    let view = a.wait("c alone", |view| told(view, "hello") == ["c:1"]).await;
    let heard = view.heard[before..].iter().map(|routes| words(&routes.endpoints));
    assert_eq!(heard.collect::<Vec<_>>(), [vec!["b:1", "c:1"], vec!["c:1"]]);
}

#[tokio::test]
async fn losing_most_nodes_at_once_moves_nothing() {
    // Long enough for both to be lost at once, however slow this machine is.
    let slow = LivenessOptions { dead_after_ms: 3_000, grace_ms: 0 };
    let cluster = Cluster::start_with(Arc::new(MemoryStore::new()), slow).await;
    let mut nodes = Vec::new();
    for name in ["a", "b", "c", "d"] {
        nodes.push(join(&cluster, name, View::default()).await);
    }
    cluster.apply("hello", |spec| spec.replicas = 4.into()).await;
    cluster.ready("hello").await;
    are_on(&cluster, &["a", "b", "c", "d"]).await;
    let replicas = cluster.replicas().await.len();
    for node in nodes.drain(..2) {
        node.stop().await;
    }
    cluster.node_is("a", Liveness::Suspect).await;
    cluster.node_is("b", Liveness::Suspect).await;
    tokio::time::sleep(std::time::Duration::from_millis(3_600)).await;
    // A change that is planned after all that could have been.
    cluster.apply("other", |_| {}).await;
    cluster.ready("other").await;
    cluster.node_is("a", Liveness::Suspect).await;
    assert_eq!(cluster.replicas().await.len(), replicas + 1);
    assert!(cluster.control.metrics().render(0).contains("skiff_eviction_brake 2\n"));
}
