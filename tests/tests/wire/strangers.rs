//! Whoever is no node: what is open, and what those cost who connect and say nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::node::{Node, PATIENCE};
use crate::server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_the_health_check_is_open() {
    let server = Server::start();
    let open = async |method: Method, path: &str| server.registry(None, method, path).await;
    assert_eq!(open(Method::GET, "/healthz").await, 200);
    for path in ["/v1/services", "/v1/nodes", "/v1/tokens", "/v1/openapi.json", "/metrics", "/v2/", "/v2/_catalog", "/"]
    {
        assert_eq!(open(Method::GET, path).await, 401, "{path}");
    }
    for path in ["/v1/tokens", "/v1/tunnels/1", "/v1/namespaces/default/jobs/x/attach"] {
        assert_eq!(open(Method::POST, path).await, 401, "{path}");
    }
    assert_eq!(open(Method::DELETE, "/v1/nodes/n").await, 401);
    assert_eq!(server.call(Method::GET, "/v1/version", json!(null)).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_gets_no_answer_and_slow_handshakes_end() {
    let server = Server::start();
    let (mut node, _) = Node::good(&server, "good").await;
    let addr = server.addr;
    let plain = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        said
    });
    let said = plain.await.unwrap();
    assert!(!said.starts_with(b"HTTP"), "{said:?}");

    // Half a handshake, and none at all.
    let slow = tokio::task::spawn_blocking(move || {
        let start = Instant::now();
        let streams: Vec<_> = [&b""[..], &[0x16, 3, 1, 2, 0, 1]]
            .map(|said| {
                let mut stream = TcpStream::connect(addr).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.write_all(said).unwrap();
                stream
            })
            .into();
        for mut stream in streams {
            let _ = stream.read_to_end(&mut Vec::new());
        }
        start.elapsed()
    });
    let took = slow.await.unwrap();
    assert!(took < Duration::from_secs(15), "{took:?}");
    node.lives().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_are_for_nodes_whose_replicas_name_them() {
    let server = Server::start();
    let (_node, identity) = Node::good(&server, "n1").await;
    let op = json!({"namespace": "default", "bucket": "carts", "op": {"get": {"keys": ["k"]}}});
    let ask = async |identity: Option<&skiff_link::identity::Identity>, body: &serde_json::Value| {
        // The administrator's token is no certificate.
        let request = server.http(identity).post(server.url("/v1/keyvalue")).bearer_auth(&server.token).json(body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let (status, said) = ask(None, &op).await;
    assert!(status == 401 && said.contains("no certificate of a node"), "{status} {said}");
    let (status, said) = ask(Some(&identity), &op).await;
    assert!(status == 403 && said.contains("no replica on this node names the bucket carts"), "{status} {said}");
    let (status, said) = ask(Some(&identity), &json!({"namespace": "default", "op": {"drop": {}}})).await;
    assert!(status == 400 && said.contains("the body cannot be read"), "{status} {said}");
    assert_eq!(server.call(Method::DELETE, "/v1/nodes/n1", json!(null)).await.0, 200);
    let (status, said) = ask(Some(&identity), &op).await;
    assert!(status == 401 && said.contains("removed"), "{status} {said}");
}
