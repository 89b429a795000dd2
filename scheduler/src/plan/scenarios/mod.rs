//! Scenarios: small scripts whose every step and word is compared with a file next to this one.
//!
//! To accept a changed output, read the difference that the failing test prints and paste it into the file.

use skiff_api::quantity::Bytes;
use skiff_api::resource::{Phase, ReplicaStatus, Resources};

use super::lint::Lint;
use super::status::READY;
use super::testing::{World, key};

/// More steps than any scenario takes: beyond, it goes round in circles.
const STEPS_MAX: usize = 50;

#[test]
fn rollout() {
    check(include_str!("rollout.txt"));
}

#[test]
fn full_nodes() {
    check(include_str!("full_nodes.txt"));
}

/// A scenario file is its own output: lines that start with `> ` are commands, the others what they print.
fn check(golden: &str) {
    let commands = golden.lines().filter_map(|line| line.strip_prefix("> "));
    let mut world = World::new();
    let mut output = String::new();
    for command in commands {
        output.push_str(&format!("> {command}\n"));
        let words: Vec<&str> = command.split_whitespace().collect();
        run(&mut world, &words, &mut output);
    }
    assert!(output == golden, "the output differs:\n{output}");
}

fn run(world: &mut World, words: &[&str], output: &mut String) {
    let size = |text: &str| Resources { memory: text.parse::<Bytes>().unwrap(), ..Resources::ZERO };
    let status = |phase, message: &[&str]| ReplicaStatus {
        phase,
        reason: message.first().map(ToString::to_string).unwrap_or_default(),
        message: message.get(1..).unwrap_or_default().join(" "),
        ..ReplicaStatus::default()
    };
    let service_of = |revision: &str| revision.rsplit_once('-').unwrap().0.to_owned();
    match words {
        ["node", name, memory] => world.node(name, size(memory)),
        ["suspect", name] => world.suspect(name),
        ["apply", name, replicas, memory] => world.service(name, replicas.parse().unwrap(), size(memory)),
        ["delete", name] => world.no_service(name),
        ["ready", revision] => world.report(&service_of(revision), revision, &status(Phase::Ready, &[])),
        ["fail", revision, message @ ..] => {
            world.report(&service_of(revision), revision, &status(Phase::Failed, message));
        }
        ["plan", name] => steps(world, name, output),
        _ => panic!("no such command: {words:?}"),
    }
}

/// Plans and executes until there is nothing left to do, and prints what happened.
fn steps(world: &mut World, service: &str, output: &mut String) {
    for _ in 0..STEPS_MAX {
        let plan = world.plan(service);
        if plan.is_empty() {
            let status = world.state.workload(&key(service)).and_then(|workload| workload.service.as_ref());
            if let Some(condition) = status.and_then(|service| service.status.condition(READY)) {
                output.push_str(&format!("  {} {}: {}\n", condition.status, condition.reason, condition.message));
            }
            return;
        }
        assert_eq!(Lint::new(&world.state).check(&plan), []);
        for event in &plan.events {
            let (kind, name) = (event.regarding.kind.singular(), &event.regarding.name);
            output.push_str(&format!("  {kind}/{name} {}: {}\n", event.reason, event.message));
        }
        world.execute(&plan);
    }
    panic!("{service} is not done after {STEPS_MAX} steps:\n{output}");
}
