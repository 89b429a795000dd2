//! The smaller doors: scale, events, version, metrics, OpenAPI, and the token in front of all.

use std::collections::BTreeSet;

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use jiff::Timestamp;
use serde_json::{Value, json};
use skiff_api::resource::EventType;
use skiff_api::{Code, Kind, Name};
use skiff_scheduler::objects::{Note, ObjectKey};
use tower::ServiceExt;

use super::support::{TOKEN, answer, memory, servers, service};

const METHODS: [&str; 5] = ["get", "post", "put", "delete", "patch"];

/// Path, with its variables filled in, and method of every operation in the document.
fn operations(document: &Value) -> Vec<(String, &'static str)> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path.replace("{namespace}", "default").replace("{name}", "nothing");
        operations.extend(METHODS.iter().filter(|method| item.get(**method).is_some()).map(|m| (path.clone(), *m)));
    }
    operations
}

#[tokio::test]
async fn the_document_and_the_router_say_the_same() {
    let server = memory().await;
    let document = server.get("/v1/openapi.json").await;
    let offered: BTreeSet<_> = operations(&document).into_iter().collect();
    assert!(offered.len() > 25, "{offered:?}");
    let paths: BTreeSet<_> = offered.iter().map(|(path, _)| path.clone()).collect();
    for path in &paths {
        for method in METHODS {
            let (status, body) = server.call(&method.to_uppercase(), path, "").await;
            let refused = body["code"] == "method-not-allowed"
                || (body["code"] == "forbidden"
                    && body["detail"].as_str().unwrap().ends_with("written by Skiff itself"));
            assert_eq!(!refused, offered.contains(&(path.clone(), method)), "{method} {path}: {status} {body}");
            let no_path = body["detail"].as_str().is_some_and(|detail| detail.starts_with("there is no path"));
            assert!(!no_path, "{path} is in the document and not in the router");
        }
    }
    // Every kind is there, as the design names the paths.
    for kind in Kind::ALL {
        let one = if kind.is_namespaced() { "/v1/namespaces/default" } else { "/v1" };
        assert!(paths.contains(&format!("/v1/{}", kind.plural())));
        assert!(paths.contains(&format!("{one}/{}/nothing", kind.plural())));
    }
}

#[tokio::test]
async fn the_document_refers_only_to_what_it_has() {
    let document = memory().await.get("/v1/openapi.json").await;
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let text = document.to_string();
    let mut references = 0;
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name} is not there");
        references += 1;
    }
    assert!(references > 50);
    let ids: Vec<&str> = text.split("\"operationId\":\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "{ids:?}");
    assert_eq!(schemas["Service"]["properties"]["spec"]["$ref"], "#/components/schemas/ServiceSpec");
}

#[tokio::test]
async fn nothing_but_the_health_check_is_open() {
    let server = memory().await;
    let document = server.get("/v1/openapi.json").await;
    let send = |method: &str, path: &str, header: Option<&str>| {
        let request = Request::builder().method(method.to_uppercase().as_str()).uri(path);
        let request = header.into_iter().fold(request, |request, header| request.header(AUTHORIZATION, header));
        server.router.clone().oneshot(request.body(Body::empty()).unwrap())
    };
    let mut all = operations(&document);
    all.extend([("/nowhere".to_owned(), "get"), ("/v1/services".to_owned(), "patch"), ("/healthz/".to_owned(), "get")]);
    for (path, method) in all {
        let response = send(method, &path, None).await.unwrap();
        if path == "/healthz" {
            assert_eq!(answer(response).await, (200, json!("ok\n")));
            continue;
        }
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer realm=\"skiff\"", "{method} {path}");
        let want = json!({
            "title": "unauthorized", "status": 401, "code": "unauthorized",
            "detail": "the request has no token",
            "hint": "send `Authorization: Bearer TOKEN`; the command line takes --token or SKIFF_TOKEN",
        });
        assert_eq!(answer(response).await, (401, want), "{method} {path}");
    }
    let wrong = answer(send("get", "/v1/version", Some("Bearer wrong!")).await.unwrap()).await;
    assert_eq!((wrong.0, &wrong.1["detail"]), (401, &json!("the token is not valid for this cluster")));
    let basic = format!("Basic {}", STANDARD.encode(format!("prometheus:{TOKEN}")));
    assert_eq!(send("get", "/metrics", Some(&basic)).await.unwrap().status(), 200);
}

#[tokio::test]
async fn scale_sets_the_replicas_and_nothing_else() {
    for server in servers().await {
        server.applied(service("cart")).await;
        let path = "/v1/namespaces/default/services/cart/scale";
        assert_eq!(server.get(path).await, json!({"replicas": 1}));
        assert_eq!(server.call("PUT", path, r#"{"replicas": 0}"#).await, (200, json!({"replicas": 0})));
        assert_eq!(server.get(path).await, json!({"replicas": 0}));
        let object = server.get("/v1/namespaces/default/services/cart").await;
        assert_eq!((&object["metadata"]["generation"], &object["spec"]["replicas"]), (&json!(2), &json!(0)));
        let problem = server.refused("PUT", path, r#"{"replicas": 10001}"#, 400).await;
        assert_eq!(problem.detail, "replicas: 10001 replicas are more than the 10000 that a service may have");
        for bad in [r#"{"replicas": -1}"#, r#"{"replica": 1}"#, r#"{"replicas": 1, "x": 2}"#, "{", ""] {
            server.refused("PUT", path, bad, 400).await;
        }
        server.refused("GET", "/v1/namespaces/default/services/card/scale", "", 404).await;
    }
}

#[tokio::test]
async fn events_are_listed_by_what_they_are_about() {
    let server = memory().await;
    let default: Name = "default".parse().unwrap();
    for (kind, name, reason) in [
        (Kind::Service, "cart", "Scaled"),
        (Kind::Revision, "cart-1", "Created"),
        (Kind::Replica, "cart-1-x7k2p", "Placed"),
        (Kind::Replica, "card-1-x7k2p", "Placed"),
        (Kind::Service, "cart", "Scaled"),
    ] {
        let note = Note { event_type: EventType::Normal, reason, message: "because", time: Timestamp::UNIX_EPOCH };
        server.events.note(&ObjectKey::new(kind, Some(&default), name), &note).unwrap();
    }
    let reasons = |list: Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().clone();
        items
            .iter()
            .map(|e| {
                format!(
                    "{} {} {}",
                    e["spec"]["regarding"]["name"].as_str().unwrap(),
                    e["spec"]["reason"].as_str().unwrap(),
                    e["spec"]["count"]
                )
            })
            .collect()
    };
    assert_eq!(reasons(server.get("/v1/events").await).len(), 4);
    let about = "/v1/namespaces/default/events?regarding=service/cart";
    assert_eq!(reasons(server.get(about).await), ["cart Scaled 2", "cart-1 Created 1", "cart-1-x7k2p Placed 1"]);
    assert_eq!(reasons(server.get(&format!("{about}&limit=1")).await), ["cart-1-x7k2p Placed 1"]);
    assert_eq!(reasons(server.get("/v1/namespaces/other/events").await).len(), 0);
    let name = server.get(about).await["items"][1]["metadata"]["name"].as_str().unwrap().to_owned();
    let one = server.get(&format!("/v1/namespaces/default/events/{name}")).await;
    assert_eq!((&one["kind"], &one["spec"]["message"]), (&json!("Event"), &json!("because")));
    server.refused("GET", "/v1/namespaces/default/events/nothing", "", 404).await;
    let problem = server.refused("GET", "/v1/events?regarding=service/cart", "", 400).await;
    assert_eq!(problem.hint.unwrap(), "ask at /v1/namespaces/NAMESPACE/events?regarding=service/cart");
    let problem = server.refused("GET", "/v1/namespaces/default/events?regarding=cart", "", 400).await;
    assert_eq!(problem.code, Code::Invalid);
}

#[tokio::test]
async fn version_and_metrics_say_what_runs() {
    let server = memory().await;
    let version = server.get("/v1/version").await;
    assert_eq!(version, json!({"version": env!("CARGO_PKG_VERSION"), "apiVersion": "skiff/v1"}));
    server.refused("GET", "/v1/namespaces/default/services/nothing", "", 404).await;
    server.refused("GET", "/nowhere/at/all", "", 404).await;
    server.metrics.append(std::sync::Arc::new(|| "skiff_node_replicas 3\n".to_owned()));
    let text = server.get("/metrics").await;
    let text = text.as_str().unwrap();
    let revision = server.objects.store().revision().await.unwrap();
    for line in [
        "skiff_api_requests_total{route=\"/v1/version\",method=\"GET\",status=\"200\"} 1",
        "skiff_api_requests_total{route=\"/v1/namespaces/{namespace}/services/{name}\",method=\"GET\",status=\"404\"} 1",
        "skiff_api_requests_total{route=\"other\",method=\"GET\",status=\"404\"} 1",
        &format!("skiff_store_revision {revision}"),
        "skiff_node_replicas 3",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}
