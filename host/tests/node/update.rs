//! Replacing a replica under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::*;

/// Requests one after the other until told to stop; how many, and what went wrong.
async fn load(web: Web, stop: Arc<AtomicBool>) -> (u64, Vec<String>) {
    let (mut sent, mut wrong) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        match web.try_get("/sleep?ms=2").await {
            Ok(answer) if answer.status == 200 => {}
            Ok(answer) => wrong.push(format!("{}: {}", answer.status, answer.body)),
            Err(error) => wrong.push(error),
        }
        sent += 1;
    }
    (sent, wrong)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_loses_no_request() {
    let world = World::new().await;
    let (node, mut control) = world.serving("probe", |_| {}).await;
    let stop = Arc::new(AtomicBool::new(false));
    let addr = node.gateway_addr();
    let webs = (0..8).map(|number| if number % 2 == 0 { Web::h1(addr) } else { Web::h2(addr) });
    let loads: Vec<_> = webs.map(|web| tokio::spawn(load(web, stop.clone()))).collect();
    let mut old = "app-1-a".to_owned();
    for number in 2..8 {
        let new = format!("app-{number}-a");
        let mut template = world.template("probe");
        template.env.insert("NUMBER".to_owned(), number.to_string());
        // Start before stop.
        control.change(vec![assignment("app", &new, template)], Vec::new()).await;
        control.until_ready(&new).await;
        control.change(Vec::new(), vec![replica(&old)]).await;
        control.until(|control| control.phase(&old).is_none()).await;
        old = new;
    }
    stop.store(true, Ordering::Relaxed);
    for load in loads {
        let (sent, wrong) = load.await.unwrap();
        assert!(sent > 5 && wrong.is_empty(), "{sent} requests, {wrong:?}");
    }
    let answer = Web::h1(addr).get("/env").await;
    assert!(answer.body.contains("NUMBER=7"), "{}", answer.body);
}
