//! Tokens that are stolen, over, used up or revoked.

use reqwest::Method;
use serde_json::json;
use skiff_link::{JoinToken, Key};

use crate::node::Node;
use crate::server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_good_makes_no_node_and_touches_nobody() {
    let server = Server::start();
    let (mut bystander, _) = Node::good(&server, "good").await;
    let refused = async |token: &JoinToken, code: &str| {
        let (status, body) = server.join(token, &Key::generate().unwrap(), "bad").await;
        assert_eq!((status, &body["code"]), (401, &json!(code)), "{body}");
    };
    let guessed = server.token(json!({})).await;
    let text = guessed.to_string().replace(guessed.secret.reveal(), &"0".repeat(32));
    refused(&text.parse().unwrap(), "token-unknown").await;

    let used = server.token(json!({})).await;
    assert_eq!(server.join(&used, &Key::generate().unwrap(), "first").await.0, 200);
    refused(&used, "token-used-up").await;

    let revoked = server.token(json!({"uses": 5})).await;
    assert_eq!(server.call(Method::POST, &format!("/v1/tokens/{}/revoke", revoked.id), json!(null)).await.0, 200);
    refused(&revoked, "token-revoked").await;

    let short = server.token(json!({"ttl": "1ms", "uses": 5})).await;
    let start = std::time::Instant::now();
    while start.elapsed().as_millis() < 5 {
        tokio::task::yield_now().await;
    }
    refused(&short, "token-expired").await;

    // A token of another cluster: whoever has it does not even say it.
    let other = Server::start();
    let elsewhere = other.token(json!({})).await;
    let clock = skiff_link::Clock::new(jiff::Timestamp::UNIX_EPOCH);
    let trust = skiff_link::tls::Trust::Hash(elsewhere.ca_hash.clone());
    let expect = skiff_link::tls::Expect::ControlPlane;
    let config = skiff_link::tls::client(&trust, expect, None, &[skiff_link::tls::ALPN_H1], &clock).unwrap();
    let client = reqwest::Client::builder().tls_backend_preconfigured(config).no_proxy().build().unwrap();
    let error = client.post(server.url("/v1/join")).body("secret").send().await.unwrap_err();
    assert!(error.is_connect(), "{error:?}");

    assert_eq!(server.liveness("bad").await, "");
    bystander.lives().await;
    // The data folder and the lists hold no secret.
    let (_, list) = server.call(Method::GET, "/v1/tokens", json!(null)).await;
    let shown = list.to_string();
    for token in [&guessed, &used, &revoked, &short] {
        assert!(shown.contains(token.id.as_str()) && !shown.contains(token.secret.reveal()));
    }
}
