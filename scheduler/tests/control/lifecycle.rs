//! One service from apply to deletion.

use std::sync::Arc;

use skiff_api::ReplicaName;
use skiff_api::resource::{Liveness, NodeSpec, Phase, ReplicaSpec, RevisionSpec, ServiceSpec};
use skiff_scheduler::objects::Objects;

use crate::cluster::{Cluster, default, image, is_ready, key, phases, reason};
use crate::node::{FakeNode, Says, View, hello, ready, status};

async fn with_node(says: Says) -> (Cluster, FakeNode) {
    let cluster = Cluster::start().await;
    let node = FakeNode::connect(cluster.control.connect_node(), hello("n"), View::default(), says).await;
    cluster.node_is("n", Liveness::Alive).await;
    (cluster, node)
}

/// Fails every replica whose image is that one.
fn failing(image: skiff_api::ImageRef) -> Says {
    Arc::new(move |assignment| match assignment.template.image == image {
        true => status(Phase::Failed, "ImagePull", "no such manifest"),
        false => status(Phase::Ready, "", ""),
    })
}

#[tokio::test]
async fn an_applied_service_becomes_ready_and_says_why() {
    let (cluster, mut node) = with_node(ready()).await;
    cluster.apply("hello", |_| {}).await;
    let service = cluster.ready("hello").await;
    assert_eq!(service.status.revision.as_ref().unwrap().as_str(), "hello-1");
    assert_eq!(reason(&service), "Ready");
    let view = node.wait("one replica", |view| view.assigned.len() == 1).await;
    let replica = view.assigned.keys().next().unwrap().name.clone();
    assert_eq!(view.routes[&key("hello")].routes[0].host.as_deref(), Some("hello.default.localhost"));
    cluster.service("hello", "its events", |_| cluster.events().contains(&"service/hello Ready".to_owned())).await;
    assert_eq!(
        cluster.events(),
        [
            "service/hello RevisionCreated".to_owned(),
            format!("replica/{replica} Placed"),
            "service/hello Ready".to_owned()
        ]
    );
}

#[tokio::test]
async fn an_update_starts_the_new_before_it_stops_the_old() {
    let (cluster, mut node) = with_node(ready()).await;
    cluster.apply("hello", |spec| spec.replicas = (2).into()).await;
    cluster.ready("hello").await;
    let before = node.wait("two replicas", |view| view.assigned.len() == 2).await;
    cluster.apply("hello", |spec| spec.image = image(2)).await;
    // At every moment the node has two or three.
    let mut fewest = usize::MAX;
    let mut most = 0;
    let after = node
        .wait("the new revision alone", |view| {
            fewest = fewest.min(view.assigned.len());
            most = most.max(view.assigned.len());
            view.assigned.len() == 2 && view.assigned.values().all(|a| a.revision.as_str() == "hello-2")
        })
        .await;
    assert!(fewest >= 2 && most <= 3, "{fewest} to {most}");
    assert_eq!((after.started, after.stopped), (before.started + 2, 2));
    cluster.ready("hello").await;
}

#[tokio::test]
async fn a_revision_that_fails_keeps_the_old_one_and_a_better_one_replaces_both() {
    let (cluster, mut node) = with_node(failing(image(2))).await;
    cluster.apply("hello", |_| {}).await;
    cluster.ready("hello").await;
    cluster.apply("hello", |spec| spec.image = image(2)).await;
    let service = cluster.service("hello", "the failure", |service| reason(service) == "ImagePull").await;
    assert!(!is_ready(&service));
    let message = &service.status.condition("Ready").unwrap().message;
    assert!(message.contains("1 of an older revision answers; hello-2-") && message.ends_with("no such manifest"));
    let expected = [("hello-1".to_owned(), Phase::Ready), ("hello-2".to_owned(), Phase::Failed)];
    assert_eq!(phases(&cluster.replicas().await), expected);

    cluster.apply("hello", |spec| spec.image = image(3)).await;
    cluster.ready("hello").await;
    let only_new = |view: &View| view.assigned.values().all(|a| a.revision.as_str() == "hello-3");
    node.wait("the third revision alone", |view| view.assigned.len() == 1 && only_new(view)).await;
}

#[tokio::test]
async fn a_service_scales_up_and_down_without_a_new_revision() {
    let (cluster, mut node) = with_node(ready()).await;
    cluster.apply("hello", |_| {}).await;
    cluster.ready("hello").await;
    let first = node.wait("one", |view| view.assigned.len() == 1).await;
    cluster.apply("hello", |spec| spec.replicas = (40).into()).await;
    cluster.ready("hello").await;
    cluster.apply("hello", |spec| spec.replicas = (1).into()).await;
    cluster.ready("hello").await;
    node.wait("one again", |view| view.assigned.len() == 1).await;
    cluster.apply("hello", |spec| spec.replicas = (0).into()).await;
    let service = cluster.ready("hello").await;
    assert_eq!(reason(&service), "ScaledToZero");
    let view = node.wait("none", |view| view.assigned.is_empty()).await;
    assert_eq!(view.started, first.started + 39);
    assert_eq!(view.routes.len(), 1, "a service without replicas is still found");
    assert_eq!(cluster.count::<RevisionSpec>().await, 1);
    let scaled = cluster.events().iter().filter(|event| *event == "service/hello Scaled").count();
    assert!(scaled >= 2, "{:?}", cluster.events());
}

#[tokio::test]
async fn a_deleted_service_leaves_nothing_and_its_routes_go_first() {
    let (cluster, mut node) = with_node(ready()).await;
    cluster.apply("hello", |spec| spec.replicas = (2).into()).await;
    cluster.ready("hello").await;
    cluster.delete::<ServiceSpec>("hello").await;
    let nothing = async |objects: &Objects| {
        let revisions = objects.list::<RevisionSpec>(None, &Default::default()).await.unwrap().items;
        let replicas = objects.list::<ReplicaSpec>(None, &Default::default()).await.unwrap().items;
        (revisions.is_empty() && replicas.is_empty()).then_some(())
    };
    cluster.eventually("nothing to be left", nothing).await;
    let view = node.wait("nothing", |view| view.assigned.is_empty() && view.routes.is_empty()).await;
    assert_eq!(view.removals, ["routes", "desired"]);
}

#[tokio::test]
async fn a_service_made_again_has_nothing_of_the_one_before() {
    let (cluster, mut node) = with_node(ready()).await;
    cluster.apply("hello", |_| {}).await;
    cluster.ready("hello").await;
    let before = node.wait("one", |view| view.assigned.len() == 1).await;
    cluster.delete::<ServiceSpec>("hello").await;
    cluster.apply("hello", |spec| spec.image = image(2)).await;
    cluster.ready("hello").await;
    let uid = |view: &View| view.assigned.values().next().map(|assignment| assignment.uid.clone());
    let after = node.wait("another", |view| view.assigned.len() == 1 && uid(view) != uid(&before)).await;
    assert_eq!(after.assigned.values().next().unwrap().template.image, image(2));
    assert_eq!(cluster.count::<RevisionSpec>().await, 1);
}

#[tokio::test]
async fn a_replica_that_is_deleted_is_replaced() {
    let (cluster, mut node) = with_node(ready()).await;
    cluster.apply("hello", |_| {}).await;
    cluster.ready("hello").await;
    let old: ReplicaName =
        node.wait("one", |view| view.assigned.len() == 1).await.assigned.keys().next().unwrap().name.clone();
    cluster.delete::<ReplicaSpec>(old.as_str()).await;
    let others = |view: &View| view.assigned.len() == 1 && view.assigned.keys().all(|key| key.name != old);
    node.wait("another", others).await;
    cluster.ready("hello").await;
}

#[tokio::test]
async fn what_fits_nowhere_says_so_and_is_placed_when_a_node_comes() {
    let cluster = Cluster::start().await;
    cluster.apply("hello", |_| {}).await;
    let service = cluster.service("hello", "a refusal", |service| reason(service) == "NoNodeFits").await;
    let message = &service.status.condition("Ready").unwrap().message;
    assert!(message.ends_with("there is no node"), "{message}");
    let mut small = hello("small");
    small.capacity.memory.0 = 1 << 19;
    let _small = FakeNode::connect(cluster.control.connect_node(), small, View::default(), ready()).await;
    cluster
        .service("hello", "a better refusal", |service| {
            let message = &service.status.condition("Ready").unwrap().message;
            message.ends_with("0/1 nodes fit: 1 lacks 1Mi of memory (free: 512Ki)")
        })
        .await;
    let _large = FakeNode::connect(cluster.control.connect_node(), hello("n"), View::default(), ready()).await;
    cluster.ready("hello").await;
    assert_eq!(cluster.replicas().await[0].spec.node.as_ref().unwrap().as_str(), "n");
    let node = cluster.objects.find::<NodeSpec>(None, "n").await.unwrap();
    assert_eq!(node.status.liveness, Liveness::Alive);
    assert!(cluster.objects.find::<ServiceSpec>(Some(&default()), "hello").await.is_ok());
}
