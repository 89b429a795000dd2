//! Command lines that ask for what is not there or cannot be.

use super::super::golden::Golden;
use super::{serving, still_serves};

const COMMANDS: &[(&str, &[&str])] = &[
    ("unknown verb", &["frobnicate"]),
    ("unknown option", &["get", "services", "--colour"]),
    ("unknown kind", &["get", "servces"]),
    ("unknown format", &["get", "services", "-o", "xml"]),
    ("bad selector", &["get", "services", "-l", "!!"]),
    ("bad namespace", &["get", "services", "-n", "Bad_"]),
    ("nothing in a namespace", &["get", "services", "-n", "nowhere"]),
    ("get what is not there", &["get", "service", "nope"]),
    ("describe what is not there", &["describe", "service", "nope"]),
    ("logs of what is not there", &["logs", "nope"]),
    ("logs of what has none", &["logs", "pod/x"]),
    ("bad span", &["logs", "hello", "--since", "5"]),
    ("bad number of lines", &["logs", "hello", "--tail", "all"]),
    ("scale what is not there", &["scale", "nope", "--replicas", "2"]),
    ("scale without a number", &["scale", "hello"]),
    ("scale too far", &["scale", "hello", "--replicas", "1000000"]),
    ("scale below nothing", &["scale", "hello", "--replicas=-1"]),
    ("a rollout of what is not there", &["rollout", "status", "nope"]),
    ("a rollout back to nothing", &["rollout", "undo", "hello", "--to-revision", "99"]),
    ("a history of what is not there", &["rollout", "history", "nope"]),
    ("remove what is not there", &["rm", "nope"]),
    ("kind of another orchestrator", &["get", "pods"]),
    ("delete what is not there", &["delete", "service", "nope"]),
    ("delete a node that is not there", &["delete", "node", "x"]),
    ("delete a revision", &["delete", "revision", "x"]),
    ("a token that nobody can use", &["token", "create", "--node"]),
    ("a token for nothing", &["token", "create"]),
    ("a backup into nowhere", &["backup", "/nowhere/at/all"]),
    ("a restore of nothing", &["restore", "/nowhere/at/all", "--data", "/nowhere/either"]),
    ("delete nothing", &["delete"]),
    ("variable without a value", &["run", "hello", "--name", "x", "--env", "A"]),
    ("bad path", &["run", "hello", "--name", "x", "--path", "x"]),
    ("route of another service", &["run", "hello", "--name", "x", "--host", "hello.default.localhost"]),
    ("wrong token", &["get", "services", "--token", "wrong"]),
    ("nobody at the server", &["get", "services", "--server", "http://127.0.0.1:1"]),
    ("server that is no address", &["get", "services", "--server", "nonsense"]),
    ("address that is none", &["up", "--listen", "garbage"]),
    ("shell that is none", &["completions", "cmd"]),
];

#[test]
fn bad_commands() {
    let cluster = serving();
    let mut golden = Golden::new("commands", &cluster);
    for (name, args) in COMMANDS {
        golden.run(name, "", &cluster.skiff(args));
        still_serves(name, &cluster);
    }
    golden.check(COMMANDS.len());
}
