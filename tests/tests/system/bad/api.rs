//! The API over its socket.

use serde_json::json;
use skiff_tests::{Request, eventually};

use super::super::golden::Golden;
use super::{serving, shown, still_serves};

const HELLO: &str = "/v1/namespaces/default/services/hello";
const SERVICES: &str = "/v1/namespaces/default/services";

#[test]
fn bad_requests_to_the_api() {
    let cluster = serving();
    let mut golden = Golden::new("api", &cluster);
    let mut stale = cluster.api("GET", HELLO).send().unwrap().json();
    cluster.skiff(&["scale", "hello", "--replicas", "2"]).ok();
    // Its version is what it is once nobody writes its status any more.
    let settled = eventually("two replicas are ready", || {
        let now = cluster.api("GET", HELLO).send().unwrap().json();
        let is_settled = now["status"]["ready"] == 2 && now["status"]["conditions"][0]["status"] == true;
        is_settled.then(|| now["metadata"]["resourceVersion"].as_str().unwrap().to_owned())
    });
    golden.varies(format!("it is at {settled},"), "it is at <now>,");
    stale["spec"]["replicas"] = json!(3);
    stale.as_object_mut().unwrap().remove("status");
    let resource_version = stale["metadata"]["resourceVersion"].as_str().unwrap();
    golden.varies(format!("not at {resource_version}\""), "not at <old>\"");
    let conflict = stale.to_string();
    stale["metadata"]["resourceVersion"] = json!("nonsense");
    let nonsense = stale.to_string();
    let other_name = conflict.replacen("\"hello\"", "\"other\"", 1);
    let hello = r#"{"kind": "Service", "name": "hello", "image": "hello"}"#;
    let large = format!("{{\"kind\": \"{}\"}}", "x".repeat(9 << 20));
    let cases: &[(&str, &str, &str, &str)] = &[
        ("malformed JSON", "POST", "/v1/apply", "{"),
        ("wrong content", "POST", "/v1/apply", "hello"),
        ("an empty body", "POST", "/v1/apply", ""),
        ("a NUL", "POST", "/v1/apply", "\u{0}"),
        ("oversized body", "POST", "/v1/apply", &large),
        (
            "unknown field",
            "POST",
            "/v1/apply",
            r#"{"kind": "Service", "name": "hello", "image": "hello", "replica": 1}"#,
        ),
        ("unknown parameter", "POST", "/v1/apply?dry=true", hello),
        ("kind that only Skiff writes", "POST", "/v1/apply", r#"{"kind": "Replica", "name": "x"}"#),
        ("unknown path", "GET", "/v1/nothing", ""),
        ("wrong method", "PATCH", "/v1/apply", ""),
        ("bad name in the path", "GET", "/v1/namespaces/default/services/Bad_", ""),
        ("namespace that is not there", "POST", "/v1/namespaces/nowhere/services", hello),
        ("create what is there", "POST", SERVICES, hello),
        ("replace with another name", "PUT", HELLO, &other_name),
        ("bad resourceVersion", "PUT", HELLO, &nonsense),
        ("update of what has changed", "PUT", HELLO, &conflict),
        ("delete what is not there", "DELETE", "/v1/namespaces/default/services/nope", ""),
        ("bad selector", "GET", "/v1/namespaces/default/services?labelSelector=!!", ""),
        ("bad limit", "GET", "/v1/namespaces/default/services?limit=many", ""),
        ("bad page", "GET", "/v1/namespaces/default/services?limit=1&continue=zzz", ""),
        ("watch from a bad revision", "GET", "/v1/namespaces/default/services?watch=true&resourceVersion=x", ""),
        ("watch in pages", "GET", "/v1/namespaces/default/services?watch=true&limit=1", ""),
    ];
    for (name, method, path, body) in cases {
        let request = cluster.api(method, path);
        let request = if *method == "GET" { request } else { request.body(*body) };
        let request_text = format!("{method} {path}\n{}", shown(body.as_bytes()));
        golden.response(name, &request_text, &request.send().unwrap());
        still_serves(name, &cluster);
    }
    let bare = Request::new(cluster.api_addr(), "GET", SERVICES);
    golden.response("no token", &format!("GET {SERVICES}"), &bare.clone().send().unwrap());
    let wrong = bare.header("authorization", "Bearer wrong").send().unwrap();
    golden.response("wrong token", &format!("GET {SERVICES}"), &wrong);
    still_serves("tokens", &cluster);
    golden.check(cases.len() + 2);
}
