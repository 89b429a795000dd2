//! Scenarios: small scripts whose every step and word is compared with a file next to this one.
//!
//! To accept a changed output, read the difference that the failing test prints and paste it into the file.

use jiff::Timestamp;
use skiff_api::NodeName;
use skiff_api::quantity::Bytes;
use skiff_api::resource::{Liveness, Phase, ReplicaStatus, Replicas, Resources};

use super::lint::Lint;
use super::status::READY;
use super::testing::{World, key};
use super::{Board, why};

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

#[test]
fn fleet() {
    check(include_str!("fleet.txt"));
}

#[test]
fn volumes() {
    check(include_str!("volumes.txt"));
}

#[test]
fn exclusive() {
    check(include_str!("exclusive.txt"));
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
        ["dead", name] => world.liveness(name, Liveness::Dead),
        ["alive", name] => {
            world.liveness(name, Liveness::Alive);
            world.state.set_lapsed(&NodeName::new(*name), false);
        }
        ["lapsed", name] => drop(world.state.set_lapsed(&NodeName::new(*name), true)),
        ["removed", name] => world.state.set_node(&NodeName::new(*name), None),
        ["exclusive", name] => world.change_service(name, |spec| spec.exclusive = true),
        ["docker", name] => world.change_node(name, |node| {
            node.status.docker = "1".to_owned();
            node.metadata.uid = skiff_api::Uid::new(format!("uid of {name}"));
        }),
        ["volumes", name, volumes] => world.change_service(name, |spec| {
            spec.volumes = serde_json::from_str(volumes).unwrap();
        }),
        ["scale", name, replicas] => {
            let replicas: u32 = replicas.parse().unwrap();
            world.change_service(name, |spec| spec.replicas = replicas.into());
        }
        ["update", name] => world.change_service(name, |spec| spec.args.push("more".to_owned())),
        ["stopped", revision] => {
            let ended = ReplicaStatus { ended: true, ..status(Phase::Succeeded, &[]) };
            world.report(&service_of(revision), revision, &ended);
        }
        ["label", name, key, value] => world.label(name, key, value),
        ["taint", name, taint] => world.taint(name, taint),
        ["cordon", name] => world.spec(name, |spec| spec.unschedulable = true),
        ["drain", name] => world.spec(name, |spec| (spec.unschedulable, spec.draining) = (true, true)),
        ["uncordon", name] => world.spec(name, |spec| (spec.unschedulable, spec.draining) = (false, false)),
        ["quota", replicas] => world.namespace(|spec| spec.quota.replicas = Some(replicas.parse().unwrap())),
        ["every-node", name] => world.change_service(name, |spec| spec.replicas = Replicas::EveryNode),
        ["require", name, key, value] => {
            let label = [((*key).to_owned(), (*value).to_owned())];
            world.change_service(name, |spec| spec.placement.require = label.into());
        }
        ["tolerate", name, taint] => {
            world.change_service(name, |spec| spec.placement.tolerate = vec![taint.parse().unwrap()]);
        }
        ["why", name] => {
            let board = Board::new(&world.state);
            let why = why::explain(&world.state, &board, &key(name), Timestamp::UNIX_EPOCH).unwrap();
            for replica in why.replicas {
                output.push_str(&format!("  {}: {}\n", replica.name, replica.because.join("; ")));
            }
            output.push_str(&format!("  {} of {} would take another\n", why.fitting, why.nodes));
            for filter in why.filters {
                output.push_str(&format!("  {}: refuses {}, alone {}\n", filter.filter, filter.refused, filter.alone));
            }
            why.help.iter().for_each(|help| output.push_str(&format!("  help: {help}\n")));
        }
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
