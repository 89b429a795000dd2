//! Certificates that are expired, revoked, foreign, or another machine's.

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::json;
use skiff_api::Uid;
use skiff_api::wire::{Hello, ToNode};
use skiff_link::authority::NODE_VALIDITY;
use skiff_link::{Authority, Identity, Key, tls};
use tokio::io::AsyncReadExt;

use crate::node::{Node, PATIENCE, dial, hello};
use crate::server::Server;

/// The server lets nobody with that certificate link: it ends the connection and says nothing.
async fn does_not_link(server: &Server, identity: Option<&Identity>) {
    for alpn in [tls::ALPN_CONTROL, tls::ALPN_BULK] {
        let Ok(mut stream) = dial(server, identity, alpn).await else { continue };
        let mut said = Vec::new();
        // A certificate that is refused in the handshake is an alert, after which there is nothing.
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await.unwrap();
        assert!(said.is_empty(), "{said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_a_good_certificate_does_not_link_and_does_not_pull() {
    let long_ago = Timestamp::now() - NODE_VALIDITY - SignedDuration::from_hours(1);
    let server = Server::start_of(long_ago);
    let (mut bystander, good) = Node::good(&server, "good").await;
    let uid = Uid::new("0123456789abcdef0123456789abcdef");
    let foreign = {
        let (authority, key) = (Authority::generate(Timestamp::now()).unwrap(), Key::generate().unwrap());
        let chain = authority.issue_node(&key.csr().unwrap(), good.uid().unwrap(), Timestamp::now()).unwrap();
        Identity::new(&key, &chain, &authority.ca_pem()).unwrap()
    };
    let expired = server.issued(&uid, long_ago);
    let of_server = server.authority().issue_server(&Key::generate().unwrap(), &[], Timestamp::now()).unwrap();
    for identity in [None, Some(&foreign), Some(&expired), Some(&of_server)] {
        does_not_link(&server, identity).await;
    }
    // With TLS but nothing to show, or too late, the registry is closed; with a node's certificate it is open to pulls.
    for identity in [None, Some(&expired)] {
        assert_eq!(server.registry(identity, Method::GET, "/v2/").await, 401);
        assert_eq!(server.registry(identity, Method::GET, "/v2/default/hello/manifests/1").await, 401);
    }
    assert_eq!(server.registry(Some(&good), Method::GET, "/v2/").await, 200);
    assert_eq!(server.registry(Some(&good), Method::GET, "/v2/default/hello/manifests/1").await, 404);
    assert_eq!(server.registry(Some(&good), Method::POST, "/v2/default/hello/blobs/uploads/").await, 403);
    // A node is nobody in the API.
    assert_eq!(server.registry(Some(&good), Method::GET, "/v1/services").await, 401);
    assert_eq!(server.registry(Some(&good), Method::GET, "/metrics").await, 401);

    // What has expired may be renewed, by the machine that it belongs to.
    let (status, body) = server.renew(Some(&expired)).await;
    assert_eq!(status, 200, "{body}");
    let (status, body) = server.renew(None).await;
    assert_eq!((status, &body["code"]), (401, &json!("unauthorized")));
    bystander.lives().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_removed_loses_its_link_at_once_and_everything_else() {
    let server = Server::start();
    let ((mut bystander, _), (mut node, identity)) =
        (Node::good(&server, "good").await, Node::good(&server, "bad").await);
    assert_eq!(server.call(Method::DELETE, "/v1/nodes/bad", json!(null)).await.0, 200);
    let ended = tokio::time::timeout(PATIENCE, async { while node.inbox.recv().await.is_some() {} }).await;
    assert!(ended.is_ok());
    does_not_link(&server, Some(&identity)).await;
    assert_eq!(server.registry(Some(&identity), Method::GET, "/v2/").await, 401);
    let (status, body) = server.renew(Some(&identity)).await;
    assert_eq!((status, &body["code"]), (401, &json!("node-revoked")));
    bystander.lives().await;
    // It stays so.
    let server = server.restart();
    does_not_link(&server, Some(&identity)).await;
    assert_eq!(server.renew(Some(&identity)).await.0, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_claims_to_be_another_is_refused_and_the_other_stays() {
    let server = Server::start();
    let ((mut victim, of_victim), thief) = (Node::good(&server, "victim").await, server.joined("thief").await);
    let (uid, own) = (of_victim.uid().unwrap(), thief.uid().unwrap());
    let cases: [(Hello, &str); 3] = [
        (hello("victim", uid, "2"), "its certificate is another machine's"),
        (hello("victim", own, "2"), "another machine has that name"),
        (hello("elsewhere", own, "2"), "it is thief and says that it is elsewhere"),
    ];
    for (hello, why) in cases {
        let said = Node::link(&server, &thief, hello).await.refused().await;
        assert!(said.contains(why), "{said}");
    }
    victim.lives().await;
    let mut honest = Node::link(&server, &thief, hello("thief", own, "2")).await;
    honest.is_told().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_copies_of_a_machine_one_is_let_in_and_a_restart_is() {
    let server = Server::start();
    let (mut node, identity) = Node::good(&server, "n1").await;
    let uid = identity.uid().unwrap();
    let said = Node::link(&server, &identity, hello("n1", uid, "2")).await.refused().await;
    assert!(said.contains("another machine with the same identity"), "{said}");
    node.lives().await;
    // The first machine loses its power: nothing is said any more.
    node.end.abort();
    drop(node);
    let start = std::time::Instant::now();
    loop {
        let mut again = Node::link(&server, &identity, hello("n1", uid, "2")).await;
        if matches!(again.next().await, Some(ToNode::Routes(_))) {
            break;
        }
        assert!(start.elapsed() < PATIENCE);
    }
}
