//! Watches, in process and over a real connection.

use std::sync::Arc;

use axum::body::Body;
use futures_util::StreamExt;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use skiff_scheduler::store::Txn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::support::{Lines, Server, TOKEN, memory, servers, service};

const SERVICES: &str = "/v1/namespaces/default/services";

async fn watch(server: &Server, query: &str) -> Lines {
    Lines::of(server.send("GET", &format!("{SERVICES}?watch=true{query}"), Body::empty()).await)
}

async fn now(server: &Server) -> String {
    server.get(SERVICES).await["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

fn labelled(name: &str, tier: &str) -> Value {
    let mut object = service(name);
    object["labels"] = json!({ "tier": tier });
    object
}

#[tokio::test]
async fn tells_what_follows_and_resumes_where_it_ended() {
    for server in servers().await {
        server.applied(service("before")).await;
        let start = now(&server).await;
        let mut lines = watch(&server, &format!("&resourceVersion={start}")).await;
        server.applied(service("cart")).await;
        server.call("PUT", &format!("{SERVICES}/cart/scale"), r#"{"replicas": 2}"#).await;
        let last = server.get(&format!("{SERVICES}/cart")).await;
        server.call("DELETE", &format!("{SERVICES}/cart"), "").await;

        let added = lines.next().await.unwrap();
        assert_eq!((&added["type"], &added["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("cart")));
        let version = added["object"]["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
        let modified = lines.next().await.unwrap();
        assert_eq!((&modified["type"], &modified["object"]), (&json!("MODIFIED"), &last));
        let deleted = lines.next().await.unwrap();
        assert_eq!((&deleted["type"], &deleted["object"]["spec"]), (&json!("DELETED"), &last["spec"]));
        assert_eq!(deleted["object"]["metadata"]["resourceVersion"], now(&server).await, "the revision of its end");

        // From the first event on: the other two, and nothing twice.
        let mut resumed = watch(&server, &format!("&resourceVersion={version}")).await;
        assert_eq!(resumed.next().await.unwrap(), modified);
        assert_eq!(resumed.next().await.unwrap(), deleted);
        server.applied(service("after")).await;
        assert!(resumed.event().await.starts_with("ADDED after@"));

        // Without a version, what there is comes first.
        let mut fresh = watch(&server, "").await;
        assert!(fresh.event().await.starts_with("ADDED after@"));
        assert!(fresh.event().await.starts_with("ADDED before@"));
        server.call("DELETE", &format!("{SERVICES}/after"), "").await;
        assert!(fresh.event().await.starts_with("DELETED after@"));
    }
}

#[tokio::test]
async fn a_selector_hides_what_does_not_match() {
    let server = memory().await;
    server.applied(labelled("cart", "backend")).await;
    let mut lines = watch(&server, "&labelSelector=tier%3Dbackend").await;
    assert!(lines.event().await.starts_with("ADDED cart@"));
    server.applied(labelled("web", "front")).await;
    server.applied(labelled("cart", "front")).await;
    let gone = lines.next().await.unwrap();
    assert_eq!((&gone["type"], &gone["object"]["metadata"]["labels"]["tier"]), (&json!("DELETED"), &json!("backend")));
    assert_eq!(gone["object"]["metadata"]["resourceVersion"], now(&server).await);
    server.applied(labelled("cart", "backend")).await;
    assert!(lines.event().await.starts_with("ADDED cart@"), "it matches again");
    // Another kind, and another namespace, are not seen at all.
    server.call("POST", "/v1/namespaces", r#"{"kind": "Namespace", "name": "shop"}"#).await;
    server.call("DELETE", &format!("{SERVICES}/cart"), "").await;
    assert!(lines.event().await.starts_with("DELETED cart@"));
}

#[tokio::test(start_paused = true)]
async fn an_idle_watch_has_bookmarks() {
    let server = memory().await;
    let start = now(&server).await;
    let mut lines = watch(&server, &format!("&resourceVersion={start}")).await;
    let before = tokio::time::Instant::now();
    assert_eq!(lines.event().await, format!("BOOKMARK @{start}"));
    assert_eq!(before.elapsed().as_secs(), 10);
    // What does not concern it moves it on, too.
    server.call("POST", "/v1/namespaces", r#"{"kind": "Namespace", "name": "shop"}"#).await;
    let later = now(&server).await;
    assert_ne!(later, start);
    assert_eq!(lines.event().await, format!("BOOKMARK @{later}"));
    assert_eq!(server.objects.store().revision().await.unwrap().to_string(), later, "a bookmark writes nothing");
}

#[tokio::test]
async fn a_past_that_is_gone_is_an_error_that_says_so() {
    let server = memory().await;
    let start = now(&server).await;
    // More than a store keeps at hand for watchers that are almost up to date.
    for n in 0..2_000 {
        let txn = Txn::new().put("/elsewhere", n.to_string());
        assert!(server.objects.store().commit(txn).await.unwrap().committed().is_some());
    }
    let end = server.objects.store().revision().await.unwrap();
    server.objects.store().compact(end).await.unwrap();
    let mut lines = watch(&server, &format!("&resourceVersion={start}")).await;
    assert_eq!(
        lines.next().await.unwrap(),
        json!({"type": "ERROR", "object": {
            "title": "compacted", "status": 410, "code": "compacted",
            "detail": format!("what happened since {start} is no longer kept: history begins at {end}"),
            "hint": "list again and watch from the list's resourceVersion",
        }})
    );
    assert_eq!(lines.next().await, None);
    // From the future, after a restore: the same code, so that a client does the same.
    let mut lines = watch(&server, "&resourceVersion=999999").await;
    assert_eq!(lines.next().await.unwrap()["object"]["code"], "compacted");
    assert_eq!(lines.next().await, None);
}

#[tokio::test]
async fn watches_are_counted_and_end_with_the_server() {
    let server = memory().await;
    let counted = || server.metrics.render(0).contains("skiff_api_watchers 1\n");
    let mut lines = watch(&server, &format!("&resourceVersion={}", now(&server).await)).await;
    assert!(counted());
    server.stop.cancel();
    assert_eq!(lines.next().await, None);
    drop(lines);
    assert!(!counted());
}

#[tokio::test]
async fn over_a_connection_lines_come_as_they_happen_and_a_closed_one_ends_the_watch() {
    let server = Arc::new(memory().await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(axum::serve(listener, server.router.clone()).into_future());
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET {SERVICES}?watch=true&resourceVersion={} HTTP/1.1\r\nHost: skiff\r\nAuthorization: Bearer {TOKEN}\r\n\r\n",
        now(&server).await
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut seen = String::new();
    for name in ["one", "two"] {
        server.applied(service(name)).await;
        while !seen.contains(&format!("\"name\":\"{name}\"")) {
            let mut piece = [0; 4096];
            let n = connection.read(&mut piece).await.unwrap();
            assert!(n > 0, "{seen}");
            seen.push_str(&String::from_utf8_lossy(&piece[..n]));
        }
    }
    assert!(seen.starts_with("HTTP/1.1 200 OK\r\n"), "{seen}");
    drop(connection);
    // The next line finds nobody, and the watch goes away with its connection.
    let mut n = 0;
    while server.metrics.render(0).contains("skiff_api_watchers 1\n") {
        n += 1;
        server.applied(labelled("one", &n.to_string())).await;
        tokio::task::yield_now().await;
    }
    serving.abort();
}

/// A watcher that is cut off again and again and resumes from the last version that it saw ends with what a list shows.
#[tokio::test]
async fn a_watcher_that_loses_its_connection_misses_nothing() {
    for server in servers().await {
        let mut seen: std::collections::BTreeMap<String, Value> = std::collections::BTreeMap::new();
        let mut version = now(&server).await;
        let mut random = 7_u64;
        for round in 0..60_u64 {
            for _ in 0..3 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let name = format!("s{}", (random >> 33) % 4);
                match (random >> 40) % 3 {
                    0 => drop(server.call("DELETE", &format!("{SERVICES}/{name}"), "").await),
                    _ => drop(server.applied(labelled(&name, &round.to_string())).await),
                }
            }
            let response = server.send("GET", &format!("{SERVICES}?watch=true&resourceVersion={version}"), "").await;
            // Takes some of what is there, and drops the rest with the connection.
            let wanted = (random >> 50) % 4;
            let mut frames = response.into_body().into_data_stream();
            for _ in 0..wanted {
                let Some(Some(Ok(line))) = futures_util::FutureExt::now_or_never(frames.next()) else { break };
                let event: Value = serde_json::from_slice(&line).unwrap();
                take(&mut seen, &mut version, &event);
            }
        }
        let end = now(&server).await;
        let mut lines = watch(&server, &format!("&resourceVersion={version}")).await;
        while version.parse::<u64>().unwrap() < end.parse().unwrap() {
            let event = lines.next().await.unwrap();
            take(&mut seen, &mut version, &event);
        }
        let list = server.get(SERVICES).await;
        let listed: Vec<&Value> = list["items"].as_array().unwrap().iter().collect();
        assert_eq!(seen.values().collect::<Vec<_>>(), listed);
    }
}

fn take(seen: &mut std::collections::BTreeMap<String, Value>, version: &mut String, event: &Value) {
    let object = &event["object"];
    let (name, at) =
        (object["metadata"]["name"].as_str().unwrap(), object["metadata"]["resourceVersion"].as_str().unwrap());
    assert!(at.parse::<u64>().unwrap() > version.parse().unwrap(), "in order, and nothing twice");
    at.clone_into(version);
    let was = match event["type"].as_str().unwrap() {
        "DELETED" => seen.remove(name).is_some(),
        "MODIFIED" => seen.insert(name.to_owned(), object.clone()).is_some(),
        "ADDED" => seen.insert(name.to_owned(), object.clone()).is_none(),
        other => panic!("{other}"),
    };
    assert!(was, "{event}");
}

#[tokio::test]
async fn a_watch_has_no_pages() {
    let server = memory().await;
    let problem = server.refused("GET", &format!("{SERVICES}?watch=true&limit=1"), "", 400).await;
    assert_eq!(problem.detail, "a watch has no pages");
    let body = server.send("GET", &format!("{SERVICES}?watch=maybe"), "").await.into_body();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert!(text.contains("the query cannot be read"), "{text}");
}
