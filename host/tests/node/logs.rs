//! Reading what guests wrote.

use std::time::Duration;

use skiff_api::wire::{LogQuery, Stream, ToNode};

use crate::support::*;

fn query(name: &str) -> LogQuery {
    LogQuery { replica: replica(name), tail: None, since: None, follow: false }
}

async fn ask(control: &mut Control, id: u64, query: LogQuery) -> (Vec<String>, Option<String>) {
    control.send(ToNode::Logs { id, query }).await;
    let mut texts = Vec::new();
    loop {
        match control.lines(id).await {
            Ok(lines) => texts.extend(lines.into_iter().map(|line| line.text)),
            Err(error) => return (texts, error),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_read_followed_and_kept_after_the_replica() {
    let world = World::new().await;
    let (node, mut control) = world.serving("probe", |_| {}).await;
    let web = Web::h1(node.gateway_addr());
    web.get("/log?lines=300").await;
    let (all, error) = ask(&mut control, 1, query("app-1-a")).await;
    assert_eq!((all.len(), error), (600, None));
    let (last, _) = ask(&mut control, 2, LogQuery { tail: Some(3), ..query("app-1-a") }).await;
    assert_eq!(last, all[597..]);

    control.send(ToNode::Logs { id: 3, query: LogQuery { tail: Some(0), follow: true, ..query("app-1-a") } }).await;
    // An answered query shows that the one before it has been taken up; following starts in its own task.
    ask(&mut control, 4, query("app-1-a")).await;
    let mut followed: Vec<Stream> = Vec::new();
    while !followed.contains(&Stream::System) {
        web.get("/panic").await;
        let next = tokio::time::timeout(Duration::from_millis(500), control.lines(3)).await;
        followed.extend(next.unwrap_or(Ok(Vec::new())).unwrap().into_iter().map(|line| line.stream));
    }
    assert!(followed.contains(&Stream::Stderr), "the guest's own words are missing");

    control.change(Vec::new(), vec![replica("app-1-a")]).await;
    let end = loop {
        if let Err(end) = control.lines(3).await {
            break end;
        }
    };
    assert_eq!(end, None, "a followed log ends with its replica");
    let (kept, _) = ask(&mut control, 5, query("app-1-a")).await;
    assert!(kept.len() > 600);
    let (_, error) = ask(&mut control, 6, query("other-1-a")).await;
    assert!(error.unwrap().contains("default/other-1-a"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_cut_and_the_node_stays_quick() {
    let world = World::new().await;
    let (node, mut control) = world.serving("probe", |template| template.timeout.first_byte = timeout("60s")).await;
    let web = Web::h1(node.gateway_addr());
    for _ in 0..10 {
        assert_eq!(web.get("/log?lines=20000").await.status, 200);
    }
    let (lines, _) = ask(&mut control, 1, query("app-1-a")).await;
    assert!(lines.len() < 300_000 && lines.iter().any(|line| line.starts_with("dropped ")), "{}", lines.len());
    let bytes: u64 = std::fs::read_dir(world.data().join("logs/default/app/app-1-a"))
        .map(|dir| dir.map(|entry| entry.unwrap().metadata().unwrap().len()).sum())
        .unwrap_or_default();
    assert!(bytes < 16 << 20, "{bytes}");
}
