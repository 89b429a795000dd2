//! What services are told: nothing starts without it, and what runs hears of what is new.

use std::collections::BTreeMap;
use std::sync::Arc;

use skiff_api::resource::{Phase, SecretText};
use skiff_api::settings::Settings;
use skiff_api::wire::Assignment;

use crate::support::*;

fn told(world: &World, key: &str, missing: &[&str]) -> Assignment {
    let settings = Settings {
        secrets: BTreeMap::from([("KEY".to_owned(), SecretText::new(key))]),
        missing: missing.iter().map(|name| (*name).to_owned()).collect(),
        ..Settings::default()
    };
    Assignment { settings: Some(Arc::new(settings)), ..assignment("app", "app-1-a", world.template("probe")) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_waits_for_what_it_is_to_be_told_and_keeps_it() {
    let world = World::new().await;
    let node = world.node().await;
    let mut control = Control::of(&node).await;
    control.route([routes("app", &[(None, "/")])]).await;
    control.desire([told(&world, "", &["secret/stripe"])]).await;
    control.until(|control| control.phase("app-1-a") == Some(Phase::Failed)).await;
    let status = &control.statuses[&replica("app-1-a")];
    assert_eq!(status.reason, "SettingsMissing");
    assert!(status.message.contains("there is no secret/stripe to be read"), "{}", status.message);

    control.desire([told(&world, "one", &[])]).await;
    control.until_ready("app-1-a").await;
    let web = Web::h1(node.gateway_addr());
    assert_eq!(web.get("/config?key=KEY").await.body, "one");
    // One that runs goes on with what it knows when the new cannot be read.
    control.desire([told(&world, "", &["secret/stripe"])]).await;
    control.desire([told(&world, "two", &[])]).await;
    while web.get("/config?key=KEY").await.body != "two" {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(control.phase("app-1-a"), Some(Phase::Ready));
}
