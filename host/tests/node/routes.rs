//! Which service answers, and fences.

use skiff_api::wire::{Base, Desired, Fence, Routes, ToNode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_prefix_of_the_host_wins() {
    let world = World::new().await;
    let node = world.node().await;
    let mut control = Control::of(&node).await;
    let named = |name: &str| {
        let mut template = world.template("probe");
        template.env.insert("NAME".to_owned(), name.to_owned());
        assignment(name, &format!("{name}-1-a"), template)
    };
    control.desire(["root", "env", "other"].map(named)).await;
    control
        .route([
            routes("root", &[(None, "/")]),
            routes("env", &[(Some("shop.example"), "/env")]),
            routes("other", &[(Some("shop.example"), "/"), (Some("other.localhost"), "/")]),
            routes("absent", &[(None, "/absent")]),
        ])
        .await;
    for name in ["root-1-a", "env-1-a", "other-1-a"] {
        control.until_ready(name).await;
    }
    let web = Web::h1(node.gateway_addr());
    for (host, name) in
        [("shop.example", "env"), ("SHOP.example:8080", "env"), ("other.localhost", "other"), ("x", "root")]
    {
        let answer = web.get_from(host, "/env").await;
        assert!(answer.body.contains(&format!("NAME={name}\n")), "{host}: {}", answer.body);
    }
    // What an absolute target says comes before the header.
    let mut stream = TcpStream::connect(node.gateway_addr()).await.unwrap();
    let absolute = b"GET http://shop.example/env HTTP/1.1\r\nhost: other.localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(absolute).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("NAME=env\n"), "{answer}");
    let absent = web.get("/absent/x").await;
    assert_eq!((absent.status.as_u16(), absent.code()), (503, "no-replica"));
    assert_eq!(absent.headers["retry-after"], "1");

    control.route([routes("env", &[(Some("shop.example"), "/env")])]).await;
    let fence = control.fence;
    // Routes are not reported: a later change of the desired set is, and comes after them.
    control.change(Vec::new(), vec![replica("root-1-a")]).await;
    control.until(|control| control.seen > fence).await;
    let gone = web.get("/env").await;
    assert_eq!((gone.status.as_u16(), gone.code()), (404, "no-route"), "{}", gone.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_control_plane_changes_nothing_and_a_gap_is_said() {
    let world = World::new().await;
    let (node, mut control) = world.serving("hello", |_| {}).await;
    let newest = control.fence;
    for fence in [Fence { term: 0, counter: 99, ..newest }, Fence { counter: 1, ..newest }] {
        let desired = Desired { fence, base: Base::Whole, upsert: Vec::new(), remove: Vec::new(), volumes: None };
        control.send(ToNode::Desired(desired)).await;
        let (fence, base) = (Fence { counter: 0, ..fence }, Base::Whole);
        let routes = Routes { fence, base, upsert: Vec::new(), remove: Vec::new(), removed_nodes: None };
        control.send(ToNode::Routes(routes)).await;
    }
    let base = Base::After(Fence { counter: 77, ..newest });
    let fence = control.next_fence();
    let desired = Desired { fence, base, upsert: Vec::new(), remove: vec![replica("app-1-a")], volumes: None };
    control.send(ToNode::Desired(desired)).await;
    control.until(|control| control.resyncs == 1).await;
    assert_eq!(Web::h1(node.gateway_addr()).get("/").await.status, 200);
    let again = Control::of(&node).await;
    assert_eq!(again.hello.fence, newest);
    assert_eq!(again.statuses.len(), 1);
    assert!(control.peer.to_node.is_closed(), "the earlier link goes on");
}
