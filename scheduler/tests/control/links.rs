//! What links survive, and what they do not put up with.

use std::collections::BTreeSet;

use skiff_api::resource::{EventType, Liveness, Phase};
use skiff_api::wire::{FromNode, NodeEvent, Observed, ToNode};
use skiff_api::{ReplicaKey, Uid};

use crate::cluster::{Cluster, PATIENCE};
use crate::node::{FakeNode, View, hello, ready, status};

#[tokio::test]
async fn a_node_that_comes_back_restarts_nothing() {
    let cluster = Cluster::start().await;
    let mut node = FakeNode::connect(cluster.control.connect_node(), hello("n"), View::default(), ready()).await;
    cluster.apply("hello", |spec| spec.replicas = (3).into()).await;
    cluster.ready("hello").await;
    node.wait("three", |view| view.assigned.len() == 3).await;
    let had = node.stop().await;
    cluster.node_is("n", Liveness::Suspect).await;
    let service = cluster.ready("hello").await;
    assert_eq!(service.status.ready, 3, "a suspect node may well go on serving");

    let mut node = FakeNode::connect(cluster.control.connect_node(), hello("n"), had.clone(), ready()).await;
    cluster.node_is("n", Liveness::Alive).await;
    let view = node.wait("the whole", |view| view.wholes == 1).await;
    assert_eq!(view.assigned, had.assigned);
    assert_eq!((view.started, view.stopped), (0, 0));
}

#[tokio::test]
async fn a_node_that_lost_everything_starts_it_again() {
    let cluster = Cluster::start().await;
    let node = FakeNode::connect(cluster.control.connect_node(), hello("n"), View::default(), ready()).await;
    cluster.apply("hello", |_| {}).await;
    cluster.ready("hello").await;
    node.stop().await;
    // It comes back on an empty disk and does not get anything ready for now.
    let pulling = std::sync::Arc::new(|_: &_| status(Phase::Pulling, "", ""));
    let mut node = FakeNode::connect(cluster.control.connect_node(), hello("n"), View::default(), pulling).await;
    cluster.service("hello", "the loss", |service| service.status.ready == 0).await;
    assert_eq!(node.wait("one", |view| view.assigned.len() == 1).await.started, 1);
}

#[tokio::test]
async fn a_node_cannot_speak_for_another() {
    let cluster = Cluster::start().await;
    let mut a = FakeNode::connect(cluster.control.connect_node(), hello("a"), View::default(), ready()).await;
    cluster.apply("hello", |_| {}).await;
    cluster.ready("hello").await;
    let view = a.wait("one", |view| view.assigned.len() == 1).await;
    let replica: ReplicaKey = view.assigned.keys().next().unwrap().clone();

    let mut evil = cluster.control.connect_node();
    evil.to_control.send(FromNode::Hello(hello("evil"))).await.unwrap();
    let lie = (replica.clone(), status(Phase::Failed, "Lie", "it is broken"));
    let lies = Observed { whole: true, fence: Default::default(), replicas: vec![lie], gone: vec![replica.clone()] };
    evil.to_control.send(FromNode::Observed(lies)).await.unwrap();
    let (reason, message) = ("Lie".to_owned(), "it is broken".to_owned());
    let event = NodeEvent { replica, event_type: EventType::Warning, reason, message };
    evil.to_control.send(FromNode::Event(event)).await.unwrap();
    // Its words are heard in order: once this one is answered, the lies were heard.
    evil.to_control.send(FromNode::Resync).await.unwrap();
    let mut wholes = 0;
    while wholes < 2 {
        let message = tokio::time::timeout(PATIENCE, evil.from_control.recv()).await.unwrap().unwrap();
        wholes += usize::from(matches!(message, ToNode::Desired(_)));
    }
    // A write that follows whatever the lies may have led to, on the node that gets things ready.
    let on_a = |spec: &mut skiff_api::resource::ServiceSpec| {
        spec.placement.require.insert("node".to_owned(), "a".to_owned());
    };
    cluster.apply("other", on_a).await;
    cluster.ready("other").await;
    let failed: BTreeSet<_> = cluster.replicas().await.into_iter().map(|replica| replica.status.phase.name()).collect();
    assert_eq!(failed, BTreeSet::from(["Ready"]));
    assert!(!cluster.events().iter().any(|event| event.ends_with(" Lie")));
    let metrics = cluster.control.metrics().render(0);
    assert!(metrics.contains("skiff_node_words_refused_total 3\n"), "{metrics}");
}

/// The link ends, and says why.
async fn is_dropped(mut link: skiff_scheduler::link::NodeLink) {
    let mut next = async || tokio::time::timeout(PATIENCE, link.from_control.recv()).await.unwrap();
    let said = next().await;
    assert!(matches!(&said, Some(ToNode::Refused { why }) if !why.is_empty()), "{said:?}");
    assert_eq!(next().await, None);
}

#[tokio::test]
async fn a_link_that_breaks_the_rules_is_dropped() {
    let cluster = Cluster::start().await;
    let link = cluster.control.connect_node();
    link.to_control.send(FromNode::Resync).await.unwrap();
    is_dropped(link).await;
    for spoil in [
        (|hello| hello.protocol += 1) as fn(&mut skiff_api::wire::Hello),
        |hello| hello.node = skiff_api::NodeName::new("a/b"),
        |hello| hello.version = "x".repeat(20_000),
    ] {
        let mut hello = hello("n");
        spoil(&mut hello);
        let link = cluster.control.connect_node();
        link.to_control.send(FromNode::Hello(hello)).await.unwrap();
        is_dropped(link).await;
    }
    assert!(cluster.control.metrics().render(0).contains("skiff_links_refused_total 4\n"));
}

#[tokio::test]
async fn a_name_has_one_machine_and_a_machine_one_link() {
    let cluster = Cluster::start().await;
    let mut first = FakeNode::connect(cluster.control.connect_node(), hello("n"), View::default(), ready()).await;
    first.wait("the whole", |view| view.wholes == 1).await;
    let other = cluster.control.connect_node();
    let stranger = skiff_api::wire::Hello { uid: Uid::new("another"), ..hello("n") };
    other.to_control.send(FromNode::Hello(stranger)).await.unwrap();
    is_dropped(other).await;

    // The same machine may be back before its old link was missed.
    let mut second = FakeNode::connect(cluster.control.connect_node(), hello("n"), View::default(), ready()).await;
    second.wait("the whole", |view| view.wholes == 1).await;
    let ended = async { while first.view.changed().await.is_ok() {} };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
    cluster.apply("hello", |_| {}).await;
    cluster.ready("hello").await;
    cluster.node_is("n", Liveness::Alive).await;
}

#[tokio::test]
async fn a_stuck_node_is_dropped_and_holds_up_nobody() {
    let cluster = Cluster::start().await;
    let stuck = cluster.control.connect_node();
    stuck.to_control.send(FromNode::Hello(hello("stuck"))).await.unwrap();
    cluster.node_is("stuck", Liveness::Alive).await;
    let _node = FakeNode::connect(cluster.control.connect_node(), hello("n"), View::default(), ready()).await;
    cluster.node_is("n", Liveness::Alive).await;
    // Every request for the whole is answered into a queue that nobody empties.
    let flood = async { while stuck.to_control.send(FromNode::Resync).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, flood).await.unwrap();
    cluster.node_is("stuck", Liveness::Suspect).await;
    cluster.apply("hello", |_| {}).await;
    cluster.ready("hello").await;
    assert_eq!(cluster.replicas().await[0].spec.node.as_ref().unwrap().as_str(), "n");
}
