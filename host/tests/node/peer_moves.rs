//! Services that move from node to node under load.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use skiff_host::Node;
use tokio::task::JoinSet;

use crate::fleet::{Fleet, Member};
use crate::support::*;

/// Clients that ask one after the other, and do not put up with anything.
struct Load {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    clients: JoinSet<Result<(), String>>,
}

impl Load {
    fn start(addr: SocketAddr, paths: &[&'static str]) -> Self {
        let (stop, answers, mut clients) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default(), JoinSet::new());
        for (number, path) in paths.iter().copied().enumerate() {
            let (stop, answers) = (stop.clone(), answers.clone());
            clients.spawn(async move {
                let web = if number % 2 == 0 { Web::h1(addr) } else { Web::h2(addr) };
                while !stop.load(Ordering::Relaxed) {
                    let answer = web.try_get(path).await?;
                    if answer.status != 200 {
                        return Err(format!("{}: {}", answer.status, answer.body));
                    }
                    answers.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            });
        }
        Self { stop, answers, clients }
    }

    /// Waits until so many more have been answered.
    async fn more(&mut self, count: usize) {
        let wanted = self.answers.load(Ordering::Relaxed) + count;
        let wait = async {
            while self.answers.load(Ordering::Relaxed) < wanted {
                if let Some(ended) = self.clients.try_join_next() {
                    panic!("a request failed: {:?}", ended.unwrap());
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("there are no answers any more");
    }

    async fn stop(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            assert_eq!(ended.unwrap(), Ok(()));
        }
        self.answers.load(Ordering::Relaxed)
    }
}

async fn house(fleet: &Fleet, name: &str) -> Member {
    let mut house = fleet.node(name).await;
    house.control.route([routes("app", &[(None, "/")])]).await;
    house.run(&format!("app-1-{name}"), fleet.world.template("probe")).await;
    house
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_moves_loses_no_request_however_late_the_others_hear_of_it() {
    let fleet = Fleet::new().await;
    let mut door = fleet.node("door").await;
    let (mut one, two) = (house(&fleet, "one").await, house(&fleet, "two").await);
    door.told(vec![one.endpoint(1)]).await;
    let mut load = Load::start(door.node.gateway_addr(), &["/", "/sleep?ms=20", "/bytes?n=200000", "/"]);
    load.more(200).await;
    // The old one is told to stop before this node has heard of the new one.
    one.control.desire([]).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    load.more(50).await;
    door.told(vec![one.endpoint(1), two.endpoint(1)]).await;
    load.more(50).await;
    one.control.until(|control| control.phase("app-1-one").is_none()).await;
    load.more(100).await;
    door.told(vec![two.endpoint(1)]).await;
    load.more(200).await;
    load.stop().await;
    assert!(two.metric("skiff_peer_served_total") > 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_hears_even_later_waits_for_the_news() {
    let fleet = Fleet::new().await;
    let mut door = fleet.node("door").await;
    let (mut one, two) = (house(&fleet, "one").await, house(&fleet, "two").await);
    door.told(vec![one.endpoint(1)]).await;
    one.control.desire([]).await;
    one.control.until(|control| control.phase("app-1-one").is_none()).await;
    one.settle().await;
    let addr = door.node.gateway_addr();
    let waits = tokio::spawn(async move { Web::h1(addr).get("/").await });
    until_metric(&one.node, "skiff_peer_served_total", |value| value >= 1).await;
    door.control
        .route([skiff_api::wire::ServiceRoutes { endpoints: vec![two.endpoint(1)], ..routes("app", &[(None, "/")]) }])
        .await;
    let answer = waits.await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "probe\n"));
    // The replica may also come to this node.
    door.told(vec![one.endpoint(1)]).await;
    let waits = tokio::spawn(async move { Web::h1(addr).get("/").await });
    until_metric(&one.node, "skiff_peer_served_total", |value| value >= 2).await;
    door.run("app-1-door", fleet.world.template("hello")).await;
    assert_eq!(waits.await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_loses_no_request() {
    let fleet = Fleet::new().await;
    let mut door = fleet.node("door").await;
    let (one, two) = (house(&fleet, "one").await, house(&fleet, "two").await);
    door.told(vec![one.endpoint(1), two.endpoint(1)]).await;
    let mut load = Load::start(door.node.gateway_addr(), &["/", "/sleep?ms=50", "/bytes?n=200000", "/", "/", "/"]);
    load.more(300).await;
    let Member { node, control, .. } = one;
    drop(control);
    node.shutdown().await;
    load.more(300).await;
    load.stop().await;
    assert_eq!(door.metric("skiff_peer_requests_total{outcome=\"lost\"}"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_without_a_control_plane_knows_the_way() {
    let fleet = Fleet::new().await;
    let mut door = fleet.node("door").await;
    let house = house(&fleet, "house").await;
    door.told(vec![house.endpoint(1)]).await;
    door.node.shutdown().await;
    let again = Node::start(fleet.options("door", |_| {})).await.unwrap();
    assert_eq!(Web::h1(again.gateway_addr()).get("/").await.body, "probe\n");
}
