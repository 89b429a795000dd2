//! A service of which one copy runs at most: on a machine that is cut off it stops before another begins, and so it does where
//! it has to leave.

use std::time::Duration;

use skiff_tests::fleet::Placed;
use skiff_tests::wait::within;
use skiff_tests::{Fleet, guest};

use super::jobs::ticks;
use super::{join_all, of};

/// A lease, and the time until it has surely lapsed.
const LAPSES: Duration = Duration::from_secs(60);

const TICKER: &str = "kind: Service\nname: ticker\nimage: core\nargs: [tick]\nexclusive: true\n";

fn until_ready(fleet: &Fleet, but: &str) -> (String, String) {
    within(LAPSES, "a copy runs", || {
        let replicas = fleet.replicas();
        let ticker = of(&replicas, "ticker");
        assert!(ticker.len() <= 1, "two at once: {replicas:?}");
        let is_it = |one: &&&Placed| one.name != but && one.phase == "Ready";
        ticker.iter().find(is_it).map(|one| (one.name.clone(), one.node.clone()))
    })
}

#[test]
fn one_copy_runs_whatever_becomes_of_its_machine() {
    let Some(mut fleet) = Fleet::on_machines("one_copy_runs_whatever_becomes") else { return };
    join_all(&mut fleet, 3);
    fleet.skiff(&["push", "core", guest("core").to_str().unwrap()]).ok();
    let file = fleet.write("ticker.yaml", TICKER);
    fleet.skiff(&["apply", "-f", &file]).ok();
    let (first, lost) = until_ready(&fleet, "");
    fleet.until_past_grace();
    let ticks = |node: &str| ticks(&fleet.path(node).join("node/logs/default/ticker"));

    fleet.machines().cut(&lost, true);
    within(LAPSES, "it is said what is waited for", || {
        let why = fleet.skiff(&["why", "ticker"]).ok().stdout;
        why.contains(&format!("waits until the lease of node {lost} has lapsed")).then_some(())
    });
    let (second, next) = until_ready(&fleet, &first);
    assert_ne!(next, lost);
    let began = within(LAPSES, "it ticks", || ticks(&next).first().copied());
    let ended = ticks(&lost).last().copied().unwrap();
    assert!(ended < began, "the first one went on for {} ms beside the other", ended - began);
    eprintln!(
        "MEASURED: {} ms between the last word of a copy that was cut off and the first of the next",
        began - ended
    );
    fleet.machines().cut(&lost, false);
    fleet.until_liveness(&lost, "Alive");

    // It has to leave: it has ended before another one begins.
    fleet.skiff(&["cordon", &lost]).ok();
    fleet.skiff(&["drain", &next]).ok();
    let (_, third) = until_ready(&fleet, &second);
    assert!(third != lost && third != next);
    let began = within(LAPSES, "it ticks", || ticks(&third).first().copied());
    let left = ticks(&next).last().copied().unwrap();
    assert!(left < began, "the second one went on for {} ms beside the third", left - began);
    assert_eq!(ticks(&lost).last().copied(), Some(ended), "the first one has not begun again");
}
