//! Tasks whose machine is cut off or killed: another one does their work, and never at the same time.

use std::fs;
use std::path::Path;
use std::time::Duration;

use skiff_tests::wait::within;
use skiff_tests::{Fleet, guest};

use super::{fleet, join_all, of};

/// A lease, and the time until it has surely lapsed.
const LAPSES: Duration = Duration::from_secs(60);

fn start(fleet: &Fleet) -> (String, String) {
    fleet.skiff(&["push", "core", guest("core").to_str().unwrap()]).ok();
    let job = fleet.write("job.yaml", "kind: Job\nname: ticker\nimage: core\nargs: [tick]\nretries: 0\n");
    fleet.skiff(&["apply", "-f", &job]).ok();
    let replicas = fleet.until_replicas("the task runs", |replicas| {
        of(replicas, "ticker").iter().any(|replica| replica.phase == "Ready")
    });
    let first = of(&replicas, "ticker")[0];
    (first.name.clone(), first.node.clone())
}

/// Another task than that one runs.
fn until_replaced(fleet: &Fleet, first: &str) -> String {
    within(LAPSES, "another task runs", || {
        let replicas = fleet.replicas();
        let ticker = of(&replicas, "ticker");
        assert!(ticker.len() <= 1, "two at once: {replicas:?}");
        ticker.iter().find(|one| one.name != first && one.phase == "Ready").map(|one| one.node.clone())
    })
}

/// The times that a task has printed, as they are on its node's disk.
pub(super) fn ticks(folder: &Path) -> Vec<u128> {
    let mut ticks = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            ticks.extend(self::ticks(&path));
        } else if let Ok(text) = fs::read_to_string(&path) {
            let times = text.split("tick ").skip(1);
            ticks.extend(
                times.filter_map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u128>().ok()),
            );
        }
    }
    ticks.sort_unstable();
    ticks
}

#[test]
fn a_task_on_a_machine_that_is_cut_off_stops_before_another_begins() {
    let Some(mut fleet) = Fleet::on_machines("a_task_on_a_machine_that_is_cut_off") else { return };
    join_all(&mut fleet, 3);
    let (first, lost) = start(&fleet);
    fleet.machines().cut(&lost, true);
    let next = until_replaced(&fleet, &first);
    assert_ne!(next, lost);
    let logs = |node: &str| fleet.path(node).join("node/logs/default/ticker");
    let began = within(LAPSES, "it ticks", || ticks(&logs(&next)).first().copied());
    let ended = ticks(&logs(&lost)).last().copied().unwrap();
    assert!(ended < began, "the first one went on for {} ms beside the other", ended - began);
    eprintln!(
        "MEASURED: {} ms between the last word of a task that was cut off and the first of the next",
        began - ended
    );
    fleet.machines().cut(&lost, false);
    fleet.until_liveness(&lost, "Alive");
    assert_eq!(ticks(&logs(&lost)).last().copied(), Some(ended), "it does not begin again");
    let job = fleet.skiff(&["get", "job", "ticker", "-o", "json"]).ok().json();
    assert_eq!(job["status"]["failed"].as_u64().unwrap_or(0), 0, "it was not at fault: {job}");
}

#[test]
fn a_command_runs_on_another_machine_and_its_streams_here() {
    let fleet = fleet(2);
    fleet.skiff(&["push", "core", guest("core").to_str().unwrap()]).ok();
    let much = format!("{}\n", "0123456789".repeat(10)).repeat(40_000);
    let run = |args: &[&str], input: &[u8]| {
        let args: Vec<&str> = ["run", "--rm", "-i", "core", "--", "quiet"].iter().chain(args).copied().collect();
        fleet.skiff_with_input(&args, input)
    };
    assert!(run(&["cat"], much.as_bytes()).ok().stdout == much, "what went in came out");
    assert_eq!(run(&["ask", "exit=1"], b"Ada\n").fails_with(1).stdout, "name? hello Ada\n");
}

#[test]
fn a_task_survives_its_control_plane_and_not_its_node() {
    let mut fleet = fleet(2);
    let (first, node) = start(&fleet);
    fleet.kill_server();
    fleet.start_server();
    fleet.until_liveness(&node, "Alive");
    let is_first = |fleet: &Fleet| of(&fleet.replicas(), "ticker").iter().any(|one| one.name == first);
    assert!(is_first(&fleet), "it went on");
    // Started anew, the node says at once that it does not run any more.
    fleet.kill_node(&node);
    fleet.start_node(&node);
    until_replaced(&fleet, &first);
    assert!(!is_first(&fleet));
}
