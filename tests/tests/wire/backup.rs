//! A cluster in a file, and back.

use std::process::Command;

use reqwest::Method;
use serde_json::json;
use skiff_api::wire::{Fence, ToNode};
use skiff_link::Key;
use skiff_tests::skiff_binary;

use crate::node::{Node, hello};
use crate::server::Server;

/// The newest fence of what a node is told first.
async fn fence(node: &mut Node) -> Fence {
    let mut newest = Fence::default();
    for _ in 0..2 {
        newest = newest.max(match node.next().await {
            Some(ToNode::Routes(routes)) => routes.fence,
            Some(ToNode::Desired(desired)) => desired.fence,
            other => panic!("{other:?}"),
        });
    }
    newest
}

fn skiff(server: &Server, args: &[&str]) -> (i32, String) {
    let context = server.folder.path().join("context.json");
    let output = Command::new(skiff_binary()).args(args).env("SKIFF_CONFIG", context).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_cluster_knows_its_nodes_and_they_accept_what_it_says() {
    let server = Server::start();
    let (node, identity) = Node::good(&server, "n1").await;
    let (_, removed) = Node::good(&server, "gone").await;
    assert_eq!(server.call(Method::DELETE, "/v1/nodes/gone", json!(null)).await.0, 200);
    let unused = server.token(json!({})).await;
    let namespace = json!({"kind": "Namespace", "metadata": {"name": "shop"}, "spec": {}});
    assert_eq!(server.call(Method::POST, "/v1/namespaces", namespace).await.0, 201);
    let blob = vec![7_u8; 300_000];
    let digest = server.push(&blob).await;

    let file = server.folder.path().join("cluster.backup");
    let file = file.to_str().unwrap();
    let (code, said) = skiff(&server, &["backup", file]);
    assert_eq!(code, 0, "{said}");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(file).unwrap());
    assert_eq!(mode & 0o777, 0o600, "it holds the token and the authority's key");
    drop(node);

    // The cluster goes on after it: terms that the backup does not know.
    let uid = identity.uid().unwrap().clone();
    let server = server.restart().restart();
    let mut node = Node::link(&server, &identity, hello("n1", &uid, "2")).await;
    let seen = fence(&mut node).await;
    // Somebody who joined after it is welcome as well: the authority is the same.
    let later = server.joined("later").await;

    // Not over what is there, and not from what is cut off or damaged.
    let data = server.folder.path().join("data");
    let into = |folder: &str| server.folder.path().join(folder).to_str().unwrap().to_owned();
    let (code, said) = skiff(&server, &["restore", file, "--data", data.to_str().unwrap()]);
    assert!(code == 5 && said.contains("not empty"), "{code} {said}");
    let whole = std::fs::read(file).unwrap();
    let broken = into("broken.backup");
    for (name, bytes) in [
        ("cut", whole[..whole.len() / 2].to_vec()),
        ("damaged", {
            let mut bytes = whole.clone();
            let at = bytes.windows(1000).position(|window| window.iter().all(|byte| *byte == 7)).unwrap();
            bytes[at] = 8;
            bytes
        }),
    ] {
        std::fs::write(&broken, bytes).unwrap();
        let (code, said) = skiff(&server, &["restore", &broken, "--data", &into(name)]);
        assert!(code == 4 && said.contains("failed to restore"), "{name}: {code} {said}");
        // Nothing starts on what is half there.
        let (code, said) = skiff(&server, &["server", "--listen", "127.0.0.1:0", "--data", &into(name)]);
        assert!(code == 4 && said.contains("did not finish"), "{name}: {code} {said}");
    }

    let (code, said) = skiff(&server, &["restore", file, "--data", &into("restored")]);
    assert_eq!(code, 0, "{said}");
    let server = server.restart_on("restored");
    assert_eq!(server.liveness("n1").await, "Suspect");
    assert_eq!(server.call(Method::GET, "/v1/namespaces/shop", json!(null)).await.0, 200);
    assert_eq!(server.pull(&digest).await, blob);
    // The same machine under the same name, told something newer than all it has seen.
    let mut node = Node::link(&server, &identity, hello("n1", &uid, "2")).await;
    let told = fence(&mut node).await;
    assert!(told > seen, "{told:?} {seen:?}");
    server.until_liveness("n1", "Alive").await;
    let mut later = Node::link(&server, &later, hello("later", later.uid().unwrap(), "1")).await;
    later.is_told().await;
    // Who was removed stays out; a token that was not used can be used.
    let (status, body) = server.renew(Some(&removed)).await;
    assert_eq!((status, &body["code"]), (401, &json!("node-revoked")));
    assert_eq!(server.join(&unused, &Key::generate().unwrap(), "n9").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_for_the_administrator() {
    let server = Server::start();
    let identity = server.joined("n1").await;
    for who in [None, Some(&identity)] {
        assert_eq!(server.registry(who, Method::GET, "/v1/backup").await, 401);
    }
}
