//! What the node counts.

use std::time::Duration;

use crate::support::*;

const LABELS: &str = "namespace=\"default\",service=\"app\",replica=\"app-1-a\"";

#[tokio::test(flavor = "multi_thread")]
async fn figures_move_by_exactly_what_was_asked() {
    let world = World::new().await;
    let (node, mut control) = world.serving("probe", |_| {}).await;
    assert!(!node.metrics().contains("app-1-a"), "a replica is listed before its first request");
    let addr = node.gateway_addr();
    let requests: Vec<_> = (0..4)
        .map(|_| {
            tokio::spawn(async move {
                let web = Web::h1(addr);
                for _ in 0..50 {
                    assert_eq!(web.get("/").await.status, 200);
                }
            })
        })
        .collect();
    for request in requests {
        request.await.unwrap();
    }
    let web = Web::h2(addr);
    assert_eq!(web.get("/status?code=404").await.status, 404);
    assert_eq!(web.get("/panic").await.status, 500);
    let replica = |name: &str, label: &str| metric(&node, &format!("skiff_replica_{name}{{{label}{LABELS}}}"));
    assert_eq!(replica("responses_total", "class=\"2xx\","), 200);
    assert_eq!(replica("responses_total", "class=\"4xx\","), 1);
    assert_eq!(replica("responses_total", "class=\"5xx\","), 1);
    assert_eq!(replica("response_seconds_count", ""), 202);
    assert_eq!(replica("response_seconds_bucket", "le=\"+Inf\","), 202);
    assert_eq!(replica("errors_total", "code=\"guest-trap\","), 1);
    assert_eq!(replica("traps_total", "kind=\"unreachable\","), 1);
    assert_eq!(replica("requests_in_flight", ""), 0);
    assert_eq!(metric(&node, "skiff_gateway_response_seconds_count"), 202);

    control.change(Vec::new(), vec![crate::support::replica("app-1-a")]).await;
    control.until(|control| control.phase("app-1-a").is_none()).await;
    let gone = async {
        while node.metrics().contains("app-1-a") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the figures of a removed replica stay");
    assert_eq!(metric(&node, "skiff_gateway_responses_total{class=\"2xx\"}"), 200);
}
