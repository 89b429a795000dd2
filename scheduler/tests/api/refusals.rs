//! What is refused, and in which words.

use axum::body::{Body, Bytes};
use futures_util::stream;
use http::header::ALLOW;
use serde_json::{Value, json};
use skiff_api::manifest::MANIFEST_BYTES_MAX;

use super::support::{answer, memory, service};

const SERVICES: &str = "/v1/namespaces/default/services";

#[tokio::test]
async fn bodies_are_strict() {
    let server = memory().await;
    for (body, detail, hint) in [
        (
            r#"{"kind": "Service", "name": "cart", "image": "hello:1", "replica": 3}"#,
            "replica: unknown field (line 1, column 57)",
            Some("did you mean replicas?"),
        ),
        (
            r#"{"kind": "Service", "name": "cart", "image": "hello:1", "replicas": "many"}"#,
            "replicas: expected a whole number, 0 or more, or every-node, found the text \"many\" (line 1, column 69)",
            None,
        ),
        (
            r#"{"kind": "Service", "name": "cart", "image": "hello:1", "http": {"routes": [{"path": "cart"}]}}"#,
            "http.routes[0].path: \"cart\" is not a path to route by: it does not start with '/' (line 1, column 86)",
            Some("a path starts with '/', such as /cart, and matches whole segments"),
        ),
        ("", "the body has no object", Some("send one object, as JSON or YAML")),
    ] {
        for (method, path) in
            [("POST", SERVICES), ("POST", "/v1/apply"), ("PUT", "/v1/namespaces/default/services/cart")]
        {
            let problem = server.refused(method, path, body, 400).await;
            assert_eq!((problem.detail.as_str(), problem.hint.as_deref()), (detail, hint), "{method} {path}");
        }
    }
    for body in ["{", "[]", "nothing", "kind: Srvice\nname: a\n"] {
        server.refused("POST", "/v1/apply", body, 400).await;
    }
    let two = "kind: Namespace\nname: a\n---\nkind: Namespace\nname: b\n";
    let problem = server.refused("POST", "/v1/apply", two, 400).await;
    assert_eq!(problem.detail, "the body has 2 objects where one is expected");
    let problem = server.refused("POST", "/v1/apply", vec![0xff, 0xfe], 400).await;
    assert_eq!(problem.detail, "the body is not UTF-8");
    assert_eq!(server.get("/v1/services").await["items"], json!([]));
}

#[tokio::test]
async fn a_body_must_be_for_its_path() {
    let server = memory().await;
    let mut cart = service("cart");
    cart["namespace"] = json!("shop");
    let cart = cart.to_string();
    for (method, path, detail) in [
        ("POST", SERVICES, "the body is for namespace shop, the path for default"),
        ("POST", "/v1/namespaces", "the body is a Service, the path is for a Namespace"),
        ("PUT", "/v1/namespaces/shop/services/card", "the body is for cart, the path for card"),
    ] {
        assert_eq!(server.refused(method, path, cart.clone(), 400).await.detail, detail);
    }
}

#[tokio::test]
async fn a_body_has_a_limit_whatever_it_announces() {
    let server = memory().await;
    let large = vec![b' '; MANIFEST_BYTES_MAX + 1];
    let problem = server.refused("POST", "/v1/apply", large, 413).await;
    assert_eq!(
        serde_json::to_value(&problem).unwrap(),
        json!({
            "title": "too large", "status": 413, "code": "too-large",
            "detail": "the body has more than the 1048576 bytes that are allowed",
        })
    );
    let endless = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b' '; 4096])));
    server.refused("POST", "/v1/apply", Body::from_stream(endless), 413).await;
    let broken = stream::iter([Err::<Bytes, _>(std::io::Error::other("gone"))]);
    let problem = server.refused("POST", "/v1/apply", Body::from_stream(broken), 400).await;
    assert!(problem.detail.starts_with("the body ended early"), "{problem}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let server = memory().await;
    let silent = stream::pending::<Result<Bytes, std::io::Error>>();
    let problem = server.refused("POST", "/v1/apply", Body::from_stream(silent), 400).await;
    assert_eq!(problem.detail, "the body did not arrive within 30 s");
}

#[tokio::test]
async fn what_controllers_write_is_not_for_people() {
    let server = memory().await;
    let replica = r#"{"kind": "Replica", "name": "a"}"#;
    for (method, path, kind) in [
        ("POST", "/v1/nodes", "Node"),
        ("POST", "/v1/namespaces/default/replicas", "Replica"),
        ("PUT", "/v1/namespaces/default/replicas/a", "Replica"),
        ("DELETE", "/v1/namespaces/default/revisions/a", "Revision"),
        ("DELETE", "/v1/namespaces/default/events/a", "Event"),
        ("DELETE", "/v1/tokens/a", "Token"),
        ("PUT", "/v1/tokens/a", "Token"),
        ("PATCH", "/v1/nodes/a", "Node"),
    ] {
        let problem = server.refused(method, path, replica, 403).await;
        let mut expected = json!({
            "title": "forbidden", "status": 403, "code": "forbidden",
            "detail": format!("a {kind} is written by Skiff itself"),
        });
        if ["Replica", "Revision"].contains(&kind) {
            expected["hint"] = json!("change the Service or Job that it belongs to");
        }
        if kind == "Token" {
            expected["hint"] = json!("make one with `skiff token create --node`, end it with `skiff token revoke`");
        }
        assert_eq!(serde_json::to_value(&problem).unwrap(), expected, "{method} {path}");
    }
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there() {
    let server = memory().await;
    for path in [
        "/",
        "/v1",
        "/v2/",
        "/v1/pods",
        "/v1/services/",
        "/v1/namespaces/default/nodes",
        "/v1/namespaces/default/services/a/b",
    ] {
        let problem = server.refused("GET", path, "", 404).await;
        let want = json!({
            "title": "not found", "status": 404, "code": "not-found",
            "detail": format!("there is no path {path}"),
            "hint": "the paths are listed at /v1/openapi.json",
        });
        assert_eq!(serde_json::to_value(&problem).unwrap(), want);
    }
    let response = server.send("PATCH", "/v1/namespaces/default/services/cart", "").await;
    assert_eq!(response.headers()[ALLOW], "GET, PUT, DELETE");
    let want = json!({
        "title": "method not allowed", "status": 405, "code": "method-not-allowed",
        "detail": "PATCH is not offered here", "hint": "this path offers GET, PUT, DELETE",
    });
    assert_eq!(answer(response).await, (405, want));
}

#[tokio::test]
async fn names_and_queries_that_make_no_sense() {
    let server = memory().await;
    for (path, start) in [
        ("/v1/namespaces/Shop/services", "\"Shop\" is not a name"),
        ("/v1/namespaces/%2e%2e/services/a", "\"..\" is not a name"),
        ("/v1/services?labelSelector=a%20b", "labelSelector: \"a b\" is not a label requirement"),
        ("/v1/services?limit=many", "the query cannot be read"),
        ("/v1/services?colour=red", "the query cannot be read"),
        ("/v1/services?resourceVersion=new", "resourceVersion \"new\" is none that this server gave out"),
        ("/v1/services?continue=!!", "the continue token is none that this server gave out for this list"),
        ("/v1/services?continue=MSAvb2JqZWN0cy9ub2Rlcy8tL2E", "the continue token is none that this server gave out"),
    ] {
        let problem = server.refused("GET", path, "", 400).await;
        assert!(problem.detail.starts_with(start), "{path}: {problem}");
    }
    // A name with a slash in it leads nowhere, not elsewhere.
    server.refused("GET", "/v1/namespaces/default/services/..%2Fshop%2Fcart", "", 404).await;
}

#[tokio::test]
async fn a_name_that_is_taken() {
    let server = memory().await;
    server.applied(service("cart")).await;
    let (status, problem): (u16, Value) = server.call("POST", SERVICES, service("cart").to_string()).await;
    let want = json!({
        "title": "already exists", "status": 409, "code": "already-exists",
        "detail": "service/default/cart exists already",
        "hint": "apply changes an object that exists; PUT replaces it",
        "object": "service/default/cart",
    });
    assert_eq!((status, problem), (409, want));
}
