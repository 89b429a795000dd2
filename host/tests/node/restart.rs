//! Coming back without a control plane, and stopping what is no longer wanted.

use std::time::{Duration, Instant};

use skiff_host::Node;

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_serves_again_from_its_disk_alone() {
    let world = World::new().await;
    let (node, control) = world.serving("probe", |_| {}).await;
    let uid = control.hello.uid.clone();
    let fence = control.fence;
    // Dropped, not shut down: nothing is written at the end.
    drop((node, control));
    world.stop_registry();
    // No compiler either.
    let options = world.options();
    let compiler = skiff_host::compile::Compiler::new("/nonexistent".into(), options.disk.clone(), Default::default());
    let started = Instant::now();
    let node = Node::start(skiff_host::NodeOptions { compiler, ..options }).await.unwrap();
    let answer = Web::h1(node.gateway_addr()).get("/").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    let control = Control::of(&node).await;
    assert_eq!((control.hello.uid.clone(), control.hello.fence), (uid, fence));
    assert_eq!(control.phase("app-1-a"), Some(skiff_api::resource::Phase::Ready));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_node_writes_nothing() {
    let world = World::new().await;
    let (node, mut control) = world.serving("hello", |_| {}).await;
    let tree = || {
        let mut files = Vec::new();
        let mut dirs = vec![world.data()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                let meta = entry.metadata().unwrap();
                match meta.is_dir() {
                    true => dirs.push(entry.path()),
                    false => files.push((entry.path(), meta.len(), meta.modified().unwrap())),
                }
            }
        }
        files.sort();
        files
    };
    control.until(|control| control.seen == control.desired).await;
    let before = tree();
    // The same again changes nothing, with the same fence.
    let hello = world.template("hello");
    let (fence, base) = (control.desired, skiff_api::wire::Base::Whole);
    let upsert = vec![assignment("app", "app-1-a", hello)];
    let same = skiff_api::wire::Desired { fence, base, upsert, remove: Vec::new(), volumes: None };
    control.send(skiff_api::wire::ToNode::Desired(same)).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(tree(), before);
    drop(node);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_compiled_file_is_made_again() {
    let world = World::new().await;
    let (node, control) = world.serving("hello", |_| {}).await;
    drop((node, control));
    let compiled = std::fs::read_dir(world.data().join("compiled")).unwrap().next().unwrap().unwrap().path();
    let files = std::fs::read_dir(compiled).unwrap().map(|entry| entry.unwrap().path());
    let file = files.into_iter().find(|path| path.extension().is_some_and(|end| end == "cwasm")).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let node = world.node().await;
    let mut control = Control::of(&node).await;
    control.until_ready("app-1-a").await;
    // It was proven before, so it is the first request that finds it out.
    let web = Web::h1(node.gateway_addr());
    let answer = web.get("/").await;
    assert_eq!(answer.headers.get("x-skiff-error").unwrap(), "code-unavailable", "{}", answer.body);
    control.until(|control| control.events.iter().any(|event| event.reason == "CodeLost")).await;
    let made_again = async {
        while web.get("/").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), made_again).await.unwrap();
    control.until_ready("app-1-a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_started_before_is_ready_after_a_restart_without_being_loaded() {
    let world = World::new().await;
    let (node, control) = world.serving("hello", |_| {}).await;
    drop((node, control));
    let mappings = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let data = world.data();
        maps.lines().filter(|line| line.contains(data.to_str().unwrap()) && line.ends_with(".cwasm")).count()
    };
    let node = world.node().await;
    let control = Control::of(&node).await;
    assert_eq!(control.phase("app-1-a"), Some(skiff_api::resource::Phase::Ready));
    assert_eq!(mappings(), 0);
    assert_eq!(Web::h1(node.gateway_addr()).get("/").await.status, 200);
    assert!(mappings() > 0);
}
