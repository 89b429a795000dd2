//! A component that is asked whether it is well: it gets requests once it is, and none any more when it is not.

use skiff_tests::{Cluster, guest, within};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_component_that_is_not_well_gets_no_requests_until_it_is() {
    let cluster = Cluster::start();
    cluster.skiff(&["push", "probe:1", guest("probe").to_str().unwrap()]).ok();
    let config = |data: &str| {
        let file = cluster.write("config.yaml", format!("kind: Config\nname: mood\ndata: {data}\n"));
        cluster.skiff(&["apply", "-f", &file]).ok();
    };
    let said = |expected: &str| {
        within(PATIENCE, expected, || {
            let said = cluster.skiff(&["describe", "service", "probe"]).ok().stdout;
            said.contains(expected).then_some(said)
        })
    };
    config("{OTHER: x}");
    let file = cluster.write(
        "probe.yaml",
        "kind: Service\nname: probe\nimage: probe:1\nconfig: [mood]\nhttp: {routes: [{path: /}]}\n\
         health: {path: /config?key=WELL, every: 1s, failures: 2, start: 2s}\n",
    );
    cluster.skiff(&["apply", "-f", &file]).ok();
    // Not well yet: not ready, and it says why.
    said("it was not well within 2s: GET /config?key=WELL was answered with 404");
    assert_eq!(cluster.get("/").status, 503);
    config("{WELL: \"yes\"}");
    cluster.eventually_answers("/", 200);
    let calm = cluster.skiff(&["describe", "service", "probe"]).ok().stdout;
    assert!(!calm.contains("2 checks failed"), "{calm}");
    // It falls ill, and recovers.
    config("{OTHER: x}");
    said("2 checks failed one after another");
    cluster.eventually_answers("/", 503);
    config("{WELL: again}");
    cluster.eventually_answers("/", 200);
    cluster.skiff(&["delete", "service", "probe"]).ok();
}
