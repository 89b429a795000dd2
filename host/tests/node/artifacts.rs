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
