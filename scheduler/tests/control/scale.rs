//! Many services at once. What it took is printed; a test does not judge time on a machine that others use.

use std::time::Instant;

use futures_util::future::join_all;
use skiff_api::resource::ServiceSpec;
use skiff_scheduler::objects::Objects;

use crate::cluster::{Cluster, is_ready};
use crate::node::{FakeNode, View, hello, ready};

const SERVICES: usize = 1000;

#[tokio::test]
async fn a_thousand_services_become_ready() {
    let cluster = Cluster::start().await;
    let mut node = FakeNode::connect(cluster.control.connect_node(), hello("n"), View::default(), ready()).await;
    let start = Instant::now();
    let names: Vec<String> = (0..SERVICES).map(|n| format!("s{n}")).collect();
    join_all(names.iter().map(|name| cluster.apply(name, |_| {}))).await;
    let applied = start.elapsed();
    let view = node.wait("all", |view| view.assigned.len() == SERVICES).await;
    assert_eq!(view.routes.len(), SERVICES);
    let all = async |objects: &Objects| {
        let services = objects.list::<ServiceSpec>(None, &Default::default()).await.unwrap().items;
        services.iter().all(is_ready).then_some(())
    };
    cluster.eventually("all to be ready", all).await;
    println!("{SERVICES} services: applied in {applied:?}, ready in {:?}", start.elapsed());
}
