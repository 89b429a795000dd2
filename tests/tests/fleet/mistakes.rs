//! Each mistake with its own words and exit code.

use std::process::Command;
use std::time::Duration;

use skiff_tests::Request;
use skiff_tests::fleet::Fleet;
use skiff_tests::wait::within;

/// What a command that must fail at once says, and its exit code.
#[track_caller]
fn fails(mut command: Command, args: &[&str]) -> (i32, String) {
    let output = command.args(args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = output.status.code().unwrap_or_else(|| panic!("a signal ended it: {said}"));
    let error = said.lines().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("no error: {said}"));
    (code, error.to_owned())
}

#[track_caller]
fn join(fleet: &Fleet, name: &str, token: &str) -> (i32, String) {
    let url = fleet.server_url();
    fails(fleet.node_command(name, "127.0.0.1:0"), &["--join", &url, "--name", name, "--token", token])
}

#[track_caller]
fn says((code, error): (i32, String), expected: i32, part: &str) {
    assert!(code == expected && error.contains(part), "exit {code}, wanted {expected} and {part:?}: {error}");
}

#[test]
fn tokens_that_are_not_good() {
    let mut fleet = Fleet::on_loopback();
    let token = fleet.token();
    says(join(&fleet, "a", "nonsense"), 4, "token");
    // Another secret, of the same length.
    let parts: Vec<&str> = token.split('.').collect();
    let other = |text: &str| text.chars().map(|c| if c == 'a' { 'b' } else { 'a' }).collect::<String>();
    let wrong = [parts[0], parts[1], &other(parts[2]), parts[3]].join(".");
    says(join(&fleet, "a", &wrong), 6, "token");
    let elsewhere = [parts[0], parts[1], parts[2], &other(parts[3])].join(".");
    says(join(&fleet, "a", &elsewhere), 6, "it is not the control plane that the token is for");

    // It is good for one node.
    fleet.join("n1", &[]);
    let used = fleet.token();
    let listed = fleet.skiff(&["token", "list"]).ok().stdout;
    assert!(!listed.contains(used.split('.').nth(2).unwrap()), "a secret is shown once: {listed}");
    let id = used.split('.').nth(1).unwrap();
    fleet.skiff(&["token", "revoke", id]).ok();
    says(join(&fleet, "a", &used), 6, "revoked");

    let short = fleet.skiff(&["token", "create", "--node", "--ttl", "1s"]).ok().stdout.trim().to_owned();
    let made = std::time::Instant::now();
    within(Duration::from_secs(5), "the token's time is over", || (made.elapsed().as_millis() > 1100).then_some(()));
    says(join(&fleet, "a", &short), 6, "expired");
    // None of these left anything behind that keeps the machine from joining.
    fleet.join("a", &[]);
}

#[test]
fn a_token_is_good_for_as_many_nodes_as_it_says() {
    let mut fleet = Fleet::on_loopback();
    fleet.join("n1", &[]);
    let twice = fleet.skiff(&["token", "create", "--node", "--uses", "1", "--label", "pool=edge"]).ok();
    let twice = twice.stdout.trim().to_owned();
    fleet.join_with("n2", &twice, &[]);
    let node = fleet.skiff(&["get", "node", "n2", "-o", "json"]).ok().json();
    assert_eq!(node["metadata"]["labels"]["pool"], "edge");
    says(join(&fleet, "n3", &twice), 6, "used");
}

#[test]
fn servers_that_are_not_there_and_names_that_are_taken() {
    let mut fleet = Fleet::on_loopback();
    fleet.join("n1", &[]);
    let token = fleet.token();
    let nowhere = &["--join", "https://127.0.0.1:9", "--name", "n2", "--token", &token];
    says(fails(fleet.node_command("n2", "127.0.0.1:0"), nowhere), 7, "failed to join https://127.0.0.1:9");
    let plain = fleet.server_url().replace("https", "http");
    let output = fleet.node_command("n2", "127.0.0.1:0").args(["--join", &plain, "--token", &token]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "an address without TLS is a usage error");

    // Another machine of the same name.
    let url = fleet.server_url();
    let args = ["--join", &url, "--name", "n1", "--token", &token];
    says(fails(fleet.node_command("other", "127.0.0.1:0"), &args), 5, "n1");

    says(fails(fleet.node_command("n2", "127.0.0.1:0"), &[]), 4, "--join");
    says(fails(fleet.node_command("n2", "127.0.0.1:0"), &["--join", &url]), 6, "skiff token create --node");
}

#[test]
fn data_folders_of_somebody_else() {
    let mut fleet = Fleet::on_loopback();
    fleet.join("n1", &[]);
    says(fails(fleet.node_command("n1", "127.0.0.1:0"), &[]), 9, "is using it");
    fleet.kill_node("n1");
    says(fails(fleet.node_command("n1", "127.0.0.1:0"), &["--name", "n9"]), 5, "a node keeps its name");
    let token = fleet.token();
    let (rest, hash) = token.rsplit_once('.').unwrap();
    let other: String = hash.chars().map(|c| if c == 'a' { 'b' } else { 'a' }).collect();
    let other = format!("{rest}.{other}");
    says(fails(fleet.node_command("n1", "127.0.0.1:0"), &["--token", &other]), 5, "belongs to another cluster");
    says(
        fails(fleet.node_command("server-too", "127.0.0.1:0"), &["--data", fleet.path("server").to_str().unwrap()]),
        2,
        "",
    );
    for verb in ["server", "up"] {
        let (code, error) =
            fails(fleet.command(&[verb, "--listen", "127.0.0.1:0", "--data"]), &[fleet.path("n1").to_str().unwrap()]);
        assert!(code == 5 && error.contains("it holds a node of a fleet"), "skiff {verb}: exit {code}: {error}");
    }
    // With a token of its own cluster, and without any, it is what it was.
    fleet.start_node("n1");
    fleet.until_liveness("n1", "Alive");
}

#[test]
fn commands_believe_the_authority_of_their_context_and_no_other() {
    let (fleet, other) = (Fleet::on_loopback(), Fleet::on_loopback());
    let context = std::fs::read_to_string(other.path("context.json")).unwrap();
    let context: serde_json::Value = serde_json::from_str(&context).unwrap();
    let ca = fleet.write("other.pem", context["ca"].as_str().unwrap());
    let run = fleet.skiff(&["--ca", &ca, "get", "nodes"]).fails_with(6);
    assert!(run.stderr.contains("failed to trust the control plane"), "{run}");
    // Whatever the machine is called, it is who answers that counts.
    let named = fleet.server_url().replace("127.0.0.1", "localhost");
    fleet.skiff(&["--server", &named, "get", "nodes"]).ok();
    // Nobody else vouches for it.
    let token = context["token"].as_str().unwrap();
    other.skiff(&["--server", &fleet.server_url(), "--token", token, "get", "nodes"]).fails_with(6);
}

#[test]
fn metrics_are_for_the_machine_alone() {
    let mut fleet = Fleet::on_loopback();
    let token = fleet.token();
    let url = fleet.server_url();
    let args = ["--join", &url, "--token", &token, "--metrics", "0.0.0.0:0"];
    says(fails(fleet.node_command("n1", "127.0.0.1:0"), &args), 4, "anybody could read them");

    fleet.join("n1", &["--metrics", "127.0.0.1:0"]);
    fleet.kill_node("n1");
    let said = fleet.start_node_that_says("n1");
    let (_, addr) = said.rsplit_once(" metrics=http://").unwrap_or_else(|| panic!("no address: {said}"));
    let ask = |path: &str| Request::new(addr.parse().unwrap(), "GET", path).send().unwrap();
    assert_eq!(ask("/healthz").text(), "ok\n");
    let metrics = ask("/metrics");
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(metrics.text().contains("skiff_code_loads_total"), "{}", metrics.text());
    assert_eq!(ask("/v1/services").status, 404);
    let (code, error) = fails(fleet.node_command("n2", "127.0.0.1:0"), &["--metrics", addr]);
    assert!(code == 9 && error.contains("--metrics"), "exit {code}: {error}");
}

#[test]
fn when_a_node_is_given_up_is_the_operators_to_say() {
    let mut fleet = Fleet::on_loopback_with(&["--dead-after", "2s", "--start-grace", "2s"]);
    fleet.join("n1", &[]);
    fleet.join("n2", &[]);
    let killed = std::time::Instant::now();
    fleet.kill_node("n2");
    fleet.until_liveness("n2", "Dead");
    // By default nobody is given up in the first thirty seconds.
    assert!(killed.elapsed() < Duration::from_secs(20), "{:?}", killed.elapsed());
    let output = fleet.command(&["server", "--dead-after", "1s"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("it is 2s to 24h"));
}
