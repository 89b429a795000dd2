//! What the node counts.

use std::time::Duration;

use crate::support::*;

const LABELS: &str = "namespace=\"default\",service=\"app\",replica=\"app-1-a\"";

fn cpu_seconds(node: &skiff_host::NodeHandle) -> f64 {
    let name = format!("skiff_replica_cpu_seconds_total{{{LABELS}}} ");
    let text = node.metrics();
    text.lines().find_map(|line| line.strip_prefix(&name)).unwrap().parse().unwrap()
}

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
    // The first one showed that it starts.
    assert_eq!(replica("instances_started_total", ""), 203);
    assert_eq!(replica("requests_queued", ""), 0);
    assert_eq!(replica("bodies_cut_off_total", ""), 0);
    assert_eq!(web.get("/alloc?mb=20").await.status, 200);
    let high_water = replica("memory_max_bytes", "");
    assert!((20 << 20..64 << 20).contains(&high_water), "{high_water}");
    assert!(cpu_seconds(&node) > 0.0);
    let before = cpu_seconds(&node);
    assert!(web.try_get("/recurse").await.is_ok_and(|answer| answer.code() == "guest-trap"));
    assert!(cpu_seconds(&node) > before);
    assert_eq!(replica("traps_total", "kind=\"stack-overflow\","), 1);
    // Starting it loaded its code.
    assert_eq!((metric(&node, "skiff_code_loads_total"), metric(&node, "skiff_code_loaded")), (1, 1));
    assert_eq!((metric(&node, "skiff_code_evictions_total"), replica("cold_requests_total", "")), (0, 0));
    assert!(metric(&node, "skiff_code_loaded_bytes") > 0);

    control.change(Vec::new(), vec![crate::support::replica("app-1-a")]).await;
    control.until(|control| control.phase("app-1-a").is_none()).await;
    let gone = async {
        while node.metrics().contains("app-1-a") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the figures of a removed replica stay");
    assert_eq!(metric(&node, "skiff_gateway_responses_total{class=\"2xx\"}"), 201);
}
