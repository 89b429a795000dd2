//! Log queries over the link, through the API's own seam.

use std::sync::Arc;

use futures_util::StreamExt;
use skiff_api::resource::Liveness;
use skiff_api::wire::{FromNode, LogLine, LogQuery, Stream, ToNode};
use skiff_api::{NodeName, ReplicaKey, ReplicaName};
use skiff_scheduler::link::NodeLink;
use skiff_scheduler::link_api::LogSource;

use crate::cluster::{Cluster, PATIENCE, default};
use crate::node::hello;

fn query() -> LogQuery {
    let replica = ReplicaKey { namespace: default(), name: ReplicaName::new("hello-1-aaaaa") };
    LogQuery { replica, tail: None, since: None, follow: true }
}

fn lines(texts: &[&str]) -> Vec<LogLine> {
    let line = |text: &&str| LogLine { time: Default::default(), stream: Stream::Stdout, text: (*text).to_owned() };
    texts.iter().map(line).collect()
}

async fn connected() -> (Cluster, NodeLink) {
    let cluster = Cluster::start().await;
    let mut link = cluster.control.connect_node();
    link.to_control.send(FromNode::Hello(hello("n"))).await.unwrap();
    cluster.node_is("n", Liveness::Alive).await;
    for _ in ["routes", "desired"] {
        next(&mut link).await;
    }
    (cluster, link)
}

async fn next(link: &mut NodeLink) -> ToNode {
    tokio::time::timeout(PATIENCE, link.from_control.recv()).await.unwrap().unwrap()
}

async fn asked(link: &mut NodeLink) -> u64 {
    match next(link).await {
        ToNode::Logs { id, query: asked } => {
            assert_eq!(asked, query());
            id
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn lines_come_in_order_and_the_end_is_the_end() {
    let (cluster, mut link) = connected().await;
    let logs: Arc<dyn LogSource> = cluster.control.logs();
    let stream = logs.logs(&NodeName::new("n"), query());
    let id = asked(&mut link).await;
    link.to_control.send(FromNode::Logs { id, lines: lines(&["a", "b"]) }).await.unwrap();
    link.to_control.send(FromNode::Logs { id: id + 1, lines: lines(&["nobody asked"]) }).await.unwrap();
    link.to_control.send(FromNode::Logs { id, lines: lines(&["c"]) }).await.unwrap();
    link.to_control.send(FromNode::LogsEnd { id, error: Some("the disk is gone".to_owned()) }).await.unwrap();
    let items: Vec<_> = stream.map(|item| item.map(|line| line.text).map_err(|problem| problem.detail)).collect().await;
    let text = |text: &str| Ok(text.to_owned());
    assert_eq!(items, [text("a"), text("b"), text("c"), Err("the disk is gone".to_owned())]);
}

#[tokio::test]
async fn a_reader_that_leaves_is_told_to_the_node() {
    let (cluster, mut link) = connected().await;
    let stream = cluster.control.logs().logs(&NodeName::new("n"), query());
    let id = asked(&mut link).await;
    drop(stream);
    assert_eq!(next(&mut link).await, ToNode::CancelLogs { id });
}

#[tokio::test]
async fn a_node_that_is_not_there_is_an_error() {
    let (cluster, link) = connected().await;
    let logs = cluster.control.logs();
    let detail = |item: Option<Result<LogLine, skiff_api::Problem>>| item.unwrap().unwrap_err().detail;
    let mut nowhere = logs.logs(&NodeName::new("m"), query());
    assert_eq!(detail(nowhere.next().await), "node m is not connected");
    assert!(nowhere.next().await.is_none());
    let mut lost = logs.logs(&NodeName::new("n"), query());
    drop(link);
    assert_eq!(detail(lost.next().await), "the node with these logs has lost its connection");
    assert!(lost.next().await.is_none());
}

#[tokio::test]
async fn a_slow_reader_ends_its_own_query_only() {
    let (cluster, mut link) = connected().await;
    let logs = cluster.control.logs();
    let mut slow = logs.logs(&NodeName::new("n"), query());
    let id = asked(&mut link).await;
    let flood = async {
        loop {
            tokio::select! {
                sent = link.to_control.send(FromNode::Logs { id, lines: lines(&["x"]) }) => sent.unwrap(),
                told = link.from_control.recv() => break told.unwrap(),
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, flood).await.unwrap(), ToNode::CancelLogs { id });
    let mut last = None;
    while let Some(item) = slow.next().await {
        last = Some(item);
    }
    assert!(last.unwrap().unwrap_err().detail.starts_with("the reader is slower than the log"));
    let other = logs.logs(&NodeName::new("n"), query());
    let id = asked(&mut link).await;
    link.to_control.send(FromNode::LogsEnd { id, error: None }).await.unwrap();
    assert_eq!(other.count().await, 0);
}

#[tokio::test]
async fn lines_also_come_on_the_second_connection_of_the_same_machine() {
    let (cluster, mut link) = connected().await;
    let logs = cluster.control.logs();
    let uid = hello("n").uid;
    let bulk = cluster.control.connect_bulk(uid.clone());
    let mut stream = logs.logs(&NodeName::new("n"), query());
    let id = asked(&mut link).await;
    // Another machine answers nothing.
    let other = cluster.control.connect_bulk(skiff_api::Uid::new("another"));
    other.to_control.send(FromNode::Logs { id, lines: lines(&["forged"]) }).await.unwrap();
    other.to_control.send(FromNode::LogsEnd { id, error: Some("forged".to_owned()) }).await.unwrap();
    // What does not belong there ends it, after what came before.
    other.to_control.send(FromNode::Resync).await.unwrap();
    tokio::time::timeout(PATIENCE, other.to_control.closed()).await.unwrap();
    bulk.to_control.send(FromNode::Logs { id, lines: lines(&["a"]) }).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().text, "a");
    bulk.to_control.send(FromNode::LogsEnd { id, error: None }).await.unwrap();
    assert!(stream.next().await.is_none());

    // What was under way there ends with it, on both sides; the link stays.
    let mut lost = logs.logs(&NodeName::new("n"), query());
    let id = asked(&mut link).await;
    bulk.to_control.send(FromNode::Logs { id, lines: lines(&["b"]) }).await.unwrap();
    assert_eq!(lost.next().await.unwrap().unwrap().text, "b");
    drop(bulk);
    assert_eq!(lost.next().await.unwrap().unwrap_err().detail, "the node with these logs has lost its connection");
    assert_eq!(next(&mut link).await, ToNode::CancelLogs { id });
    let again = logs.logs(&NodeName::new("n"), query());
    let id = asked(&mut link).await;
    link.to_control.send(FromNode::LogsEnd { id, error: None }).await.unwrap();
    assert_eq!(again.count().await, 0);
}
