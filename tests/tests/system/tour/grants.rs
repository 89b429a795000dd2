//! What services may reach: each other, and servers outside.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use skiff_tests::{Cluster, eventually};

use super::push;

/// Answers every connection with the same, until the test ends.
fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 4096];
            // Whoever leaves early is no concern of the test's.
            let _ = stream.read(&mut head);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\nconnection: close\r\n\r\noutside\n");
        }
    });
    port
}

fn service(name: &str, rest: &str) -> String {
    format!("kind: Service\nname: {name}\nimage: probe\n{rest}\n")
}

#[test]
fn services_call_each_other_where_both_agree() {
    let cluster = Cluster::start();
    push(&cluster, "probe", "probe");
    cluster.write("web.yaml", service("web", "allow: {services: [cart]}\nhttp: {routes: [{path: /}]}"));
    cluster.write("cart.yaml", service("cart", ""));
    cluster.skiff(&["apply", "-f", "web.yaml", "-f", "cart.yaml", "--wait"]).ok();
    let call = "/outbound?url=http://cart.default.internal/";
    assert_eq!(cluster.get(call).text(), "200\nprobe\n");
    assert!(cluster.get("/outbound?url=http://other.default.internal/").text().contains("HttpRequestDenied"));
    let described = eventually("the refusal is an event", || {
        let text = cluster.skiff(&["describe", "service", "web"]).ok().stdout;
        text.contains("OutboundDenied").then_some(text)
    });
    assert!(described.contains("(hint: allow: {services: [other]})"), "{described}");
    assert!(described.contains("services cart"), "describe says what is allowed:\n{described}");
    let logs = cluster.skiff(&["logs", "web"]).ok();
    assert!(format!("{}{}", logs.stdout, logs.stderr).contains("OutboundDenied: calls http://other"), "{logs}");

    // Who may call is no part of what runs: nothing is replaced.
    cluster.write("cart.yaml", service("cart", "http: {callers: [\"ops/*\"]}"));
    cluster.skiff(&["apply", "-f", "cart.yaml", "--wait"]).ok();
    eventually("the caller is refused", || cluster.get(call).text().contains("HttpRequestDenied").then_some(()));
    assert_eq!(cluster.skiff(&["get", "revisions", "-o", "name"]).ok().stdout.lines().count(), 2);
}

#[test]
fn servers_are_reached_with_a_grant_and_no_more_than_the_namespace_has() {
    let cluster = Cluster::start();
    push(&cluster, "probe", "probe");
    let url = format!("http://127.0.0.1:{}", server());
    let own = format!("http://{}", cluster.api_addr());
    cluster.write("web.yaml", service("web", "http: {routes: [{path: /}]}\nallow: {http: [\"http://*:*\"]}"));
    cluster.skiff(&["apply", "-f", "web.yaml", "--wait"]).ok();
    for near in [&url, &own] {
        assert!(cluster.get(&format!("/outbound?url={near}/")).text().contains("DestinationIpProhibited"), "{near}");
    }

    let wanted = service("web", &format!("http: {{routes: [{{path: /}}]}}\nallow: {{http: [\"{url}\"]}}"));
    cluster.write("web.yaml", wanted);
    let refused = cluster.skiff(&["apply", "-f", "web.yaml"]).fails_with(6);
    let hint = format!("kind: Namespace, name: default, allow: {{http: [\"*\", \"{url}\"]}}");
    assert!(refused.stderr.contains(&hint), "{refused}");
    let grants = |http: &str| format!("kind: Namespace\nname: default\nallow: {{http: [{http}]}}\n");
    cluster.write("ns.yaml", grants(&format!("\"*\", \"{url}\"")));
    cluster.skiff(&["apply", "-f", "ns.yaml"]).ok();
    cluster.skiff(&["apply", "-f", "web.yaml", "--wait"]).ok();
    // The replica before it may still answer for a moment.
    eventually("the new grant holds", || {
        (cluster.get(&format!("/outbound?url={url}/")).text() == "200\noutside\n").then_some(())
    });
    assert!(cluster.get(&format!("/outbound?url={own}/")).text().contains("HttpRequestDenied"));

    // What is in use cannot be taken away.
    cluster.write("ns.yaml", grants("\"*\""));
    let refused = cluster.skiff(&["apply", "-f", "ns.yaml"]).fails_with(6);
    assert!(refused.stderr.contains("service web allows"), "{refused}");
}
