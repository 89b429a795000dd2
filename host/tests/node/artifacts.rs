//! The copies on disk.

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn replicas_of_one_image_share_a_pull_and_going_back_needs_none() {
    let world = World::new().await;
    let node = world.node().await;
    let mut control = Control::of(&node).await;
    let hello = |number: u32| assignment("app", &format!("app-1-{number}"), world.template("hello"));
    control.desire((0..5).map(hello)).await;
    for number in 0..5 {
        control.until_ready(&format!("app-1-{number}")).await;
    }
    control.event("Compiled").await;
    let pulls = |control: &Control| control.events.iter().filter(|event| event.reason == "Pulled").count();
    assert_eq!(pulls(&control), 1);
    control.desire([]).await;
    control.until(|control| control.statuses.is_empty()).await;
    world.stop_registry();
    control.desire([hello(7)]).await;
    control.until_ready("app-1-7").await;
    assert_eq!(pulls(&control), 1);
}

/// Damages the one component on a node's disk; returns its path and what it was.
fn damage(world: &World) -> (std::path::PathBuf, Vec<u8>) {
    let files = std::fs::read_dir(world.data().join("artifacts/sha256")).unwrap().map(|entry| entry.unwrap().path());
    let wasm = files.into_iter().find(|path| path.extension().is_some_and(|end| end == "wasm")).unwrap();
    let whole = std::fs::read(&wasm).unwrap();
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&wasm, bytes).unwrap();
    (wasm, whole)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_component_is_pulled_again_while_its_code_serves() {
    let world = World::new().await;
    let (node, control) = world.serving("hello", |_| {}).await;
    drop((node, control));
    let (wasm, whole) = damage(&world);
    let node = world.node().await;
    let mut control = Control::of(&node).await;
    control.until_ready("app-1-a").await;
    assert_eq!(Web::h1(node.gateway_addr()).get("/").await.status, 200);
    control.until(|control| control.events.iter().any(|event| event.reason == "ArtifactDamaged")).await;
    assert_eq!(std::fs::read(wasm).unwrap(), whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_component_is_never_compiled() {
    let world = World::new().await;
    let (node, control) = world.serving("hello", |_| {}).await;
    drop((node, control));
    let (wasm, whole) = damage(&world);
    // As after an update of the node: code of another version is of no use.
    std::fs::remove_dir_all(world.data().join("compiled")).unwrap();
    let node = world.node().await;
    let mut control = Control::of(&node).await;
    control.until_ready("app-1-a").await;
    assert_eq!(Web::h1(node.gateway_addr()).get("/").await.status, 200);
    assert_eq!(std::fs::read(wasm).unwrap(), whole);
    assert!(control.events.iter().all(|event| event.reason != "CompileFailed"), "{:?}", control.events);
}
