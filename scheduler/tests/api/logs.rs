//! Logs of replicas and services.

use axum::body::Body;
use jiff::Timestamp;
use serde_json::{Value, json};
use skiff_api::resource::{Metadata, Phase, Replica, ReplicaSpec, ReplicaStatus};
use skiff_api::wire::{LogLine, Stream};
use skiff_api::{Code, NodeName, Problem, RevisionName};
use skiff_scheduler::objects::Change;

use super::support::{Lines, Server, memory, service};

const LOGS: &str = "/v1/namespaces/default/services/cart/logs";

fn line(second: i64, text: &str) -> Result<LogLine, Problem> {
    Ok(LogLine { time: Timestamp::from_second(second).unwrap(), stream: Stream::Stdout, text: text.to_owned() })
}

/// A replica that runs, if it has a node.
async fn replica(server: &Server, service: &str, name: &str, node: Option<&str>) {
    let phase = if node.is_some() { Phase::Ready } else { Phase::Pending };
    replica_in(server, (service, name, node), phase).await;
}

async fn replica_in(server: &Server, (service, name, node): (&str, &str, Option<&str>), phase: Phase) -> Replica {
    let spec = ReplicaSpec {
        service: service.parse().unwrap(),
        revision: RevisionName::new(format!("{service}-1")),
        node: node.map(NodeName::new),
        moves_to: None,
        stop: false,
    };
    let mut replica = Replica::new(Metadata::new("default".parse().ok(), name), spec);
    replica.status.phase = phase;
    server.objects.create(replica).await.unwrap()
}

async fn said(lines: &mut Lines) -> Option<String> {
    let line = lines.next().await?;
    Some(format!("{} {}", line["replica"].as_str().unwrap(), line["text"].as_str().unwrap()))
}

async fn cart(server: &Server) {
    server.applied(service("cart")).await;
    replica(server, "cart", "cart-1-a", Some("edge-1")).await;
    replica(server, "cart", "cart-1-b", Some("edge-2")).await;
    replica(server, "cart", "cart-1-c", None).await;
    replica(server, "card", "card-1-a", Some("edge-1")).await;
    let mut stored = server.logs.lines.lock().unwrap();
    stored.insert("cart-1-a".to_owned(), vec![line(1, "one"), line(4, "four")]);
    stored.insert("cart-1-b".to_owned(), vec![line(2, "two"), line(3, "three")]);
    stored.insert("card-1-a".to_owned(), vec![line(1, "another service's")]);
}

#[tokio::test]
async fn a_service_has_the_lines_of_its_replicas_in_order() {
    let server = memory().await;
    cart(&server).await;
    let mut lines =
        Lines::of(server.send("GET", &format!("{LOGS}?tail=10&since=2026-01-31T12:00:00Z"), Body::empty()).await);
    assert_eq!(
        lines.next().await.unwrap(),
        json!({"replica": "cart-1-a", "time": "1970-01-01T00:00:01Z", "stream": "stdout", "text": "one"})
    );
    for want in ["cart-1-b two", "cart-1-b three", "cart-1-a four"] {
        assert_eq!(said(&mut lines).await.unwrap(), want);
    }
    assert_eq!(lines.next().await, None);
    let asked = server.logs.asked.lock().unwrap();
    let nodes: Vec<&str> = asked.iter().map(|(node, _)| node.as_str()).collect();
    assert_eq!(nodes, ["edge-1", "edge-2"]);
    let query = &asked[0].1;
    assert_eq!(
        (query.tail, query.follow, query.since),
        (Some(10), false, Some("2026-01-31T12:00:00Z".parse().unwrap()))
    );
}

#[tokio::test]
async fn one_replica_and_what_ends_its_lines() {
    let server = memory().await;
    cart(&server).await;
    let gone = Problem::new(Code::Unavailable, "node edge-1 is not connected");
    server.logs.lines.lock().unwrap().insert("cart-1-a".to_owned(), vec![line(1, "one"), Err(gone.clone())]);
    let path = "/v1/namespaces/default/replicas/cart-1-a/logs";
    let mut lines = Lines::of(server.send("GET", path, Body::empty()).await);
    assert_eq!(said(&mut lines).await.unwrap(), "cart-1-a one");
    assert_eq!(lines.next().await, Some(serde_json::to_value(&gone).unwrap()));
    assert_eq!(lines.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn followed_logs_go_on_with_new_replicas_and_end_with_the_server() {
    let server = memory().await;
    cart(&server).await;
    let mut lines = Lines::of(server.send("GET", &format!("{LOGS}?follow=true"), Body::empty()).await);
    for want in ["cart-1-a one", "cart-1-b two", "cart-1-b three", "cart-1-a four"] {
        assert_eq!(said(&mut lines).await.unwrap(), want);
    }
    server.logs.lines.lock().unwrap().insert("cart-2-d".to_owned(), vec![line(9, "I am new")]);
    replica(&server, "card", "card-2-d", Some("edge-1")).await;
    replica(&server, "cart", "cart-2-d", Some("edge-1")).await;
    assert_eq!(said(&mut lines).await.unwrap(), "cart-2-d I am new");
    server.stop.cancel();
    assert_eq!(lines.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_starts_is_followed_once_its_node_has_a_log_of_it() {
    let server = memory().await;
    server.applied(service("cart")).await;
    let first = replica_in(&server, ("cart", "cart-1-a", Some("edge-1")), Phase::Compiling).await;
    let mut lines = Lines::of(server.send("GET", &format!("{LOGS}?follow=true"), Body::empty()).await);
    let second = replica_in(&server, ("cart", "cart-2-b", Some("edge-1")), Phase::Pending).await;
    for (replica, text) in [(second, "I am second"), (first, "I am first")] {
        let name = replica.metadata.name.clone();
        server.logs.lines.lock().unwrap().insert(name.clone(), vec![line(1, text)]);
        let status = ReplicaStatus { phase: Phase::Ready, ..ReplicaStatus::default() };
        server.objects.commit(Change::new().write_status(&replica, status)).await.unwrap();
        assert_eq!(said(&mut lines).await.unwrap(), format!("{name} {text}"));
    }
    assert_eq!(server.logs.asked.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn logs_of_nothing() {
    let server = memory().await;
    server.refused("GET", LOGS, "", 404).await;
    server.refused("GET", "/v1/namespaces/default/replicas/a/logs", "", 404).await;
    server.applied(service("cart")).await;
    let mut lines = Lines::of(server.send("GET", LOGS, Body::empty()).await);
    assert_eq!(lines.next().await, None::<Value>);
    let problem = server.refused("GET", &format!("{LOGS}?since=yesterday"), "", 400).await;
    assert_eq!(problem.detail, "since: \"yesterday\" is neither a time nor a span");
}
