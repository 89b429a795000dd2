//! Tasks: they run once, and only while the node holds its lease.

use std::time::{Duration, Instant};

use skiff_api::resource::Phase;
use skiff_api::wire::{Assignment, FromNode, LogQuery, Task, ToNode};
use skiff_host::{Node, NodeOptions};

use crate::support::{Control, World, assignment, replica};

const NAME: &str = "job-1-a";

async fn world() -> World {
    let mut world = World::new().await;
    world.push("core").await;
    world
}

/// The core guest as a task that does as `args` say.
fn task(world: &World, args: &[&str]) -> Assignment {
    let mut template = world.template("core");
    template.args = args.iter().map(|&arg| arg.to_owned()).collect();
    Assignment { task: Some(Task::default()), ..assignment("job", NAME, template) }
}

async fn until_ended(control: &mut Control) {
    control.until(|control| control.statuses.get(&replica(NAME)).is_some_and(|status| status.ended)).await;
}

async fn lines(control: &mut Control) -> Vec<String> {
    let query = LogQuery { replica: replica(NAME), tail: None, since: None, follow: false };
    control.send(ToNode::Logs { id: 7, query }).await;
    let mut texts = Vec::new();
    while let Ok(lines) = control.lines(7).await {
        texts.extend(lines.into_iter().map(|line| line.text));
    }
    texts
}

#[tokio::test]
async fn a_task_runs_once_and_says_how_it_ended() {
    let world = world().await;
    let node = world.node().await;
    let mut control = Control::of(&node).await;
    control.desire([task(&world, &["say=done"])]).await;
    until_ended(&mut control).await;
    let status = control.statuses[&replica(NAME)].clone();
    assert_eq!((status.phase, status.exit_code, status.reason.as_str()), (Phase::Succeeded, Some(0), ""), "{status:?}");
    assert!(control.event("Succeeded").await.message.starts_with("exited with status 0"));
    assert_eq!(lines(&mut control).await.len(), 2);
    node.shutdown().await;

    // Another process does not know how it ended, and does not begin it again.
    let node = world.node().await;
    let mut control = Control::of(&node).await;
    control.desire([task(&world, &["say=done"])]).await;
    until_ended(&mut control).await;
    assert!(control.statuses[&replica(NAME)].is_interrupted());
    assert_eq!(lines(&mut control).await.len(), 2, "it has not run again");
}

#[tokio::test]
async fn one_that_fails_is_not_begun_again() {
    let world = world().await;
    let node = world.node().await;
    let mut control = Control::of(&node).await;
    control.desire([task(&world, &["say=no luck", "exit=1"])]).await;
    until_ended(&mut control).await;
    let status = control.statuses[&replica(NAME)].clone();
    assert_eq!((status.phase, status.exit_code, status.reason.as_str()), (Phase::Failed, Some(1), "Exited"));
    assert!(status.message.contains("no luck") && !status.message.contains("starts again"), "{}", status.message);
}

#[tokio::test]
async fn without_a_lease_it_does_not_begin_and_told_to_stop_it_ends() {
    let world = world().await;
    let node = world.node().await;
    let mut control = Control::of(&node).await;
    control.leases = false;
    control.desire([task(&world, &["sleep"])]).await;
    let asked_ms = loop {
        if let FromNode::Lease { asked_ms } = control.next().await {
            break asked_ms;
        }
    };
    control.until(|control| control.statuses.get(&replica(NAME)).is_some_and(|it| it.reason == "NoLease")).await;
    // What nobody has asked yet grants nothing.
    control.send(ToNode::Lease { asked_ms: asked_ms + 1_000_000 }).await;
    control.send(ToNode::Lease { asked_ms }).await;
    control.until_ready(NAME).await;
    let stopped = Assignment { task: Some(Task { stop: true, ..Task::default() }), ..task(&world, &["sleep"]) };
    control.change(vec![stopped], Vec::new()).await;
    until_ended(&mut control).await;
    assert!(control.statuses[&replica(NAME)].is_interrupted());
    control.change(Vec::new(), vec![replica(NAME)]).await;
    control.until(|control| !control.statuses.contains_key(&replica(NAME))).await;
}

#[tokio::test]
async fn one_that_takes_its_time_to_stop_ends_with_the_lease() {
    let world = world().await;
    let drain = Duration::from_secs(300);
    let node = Node::start(NodeOptions { drain, ..world.options() }).await.unwrap();
    let mut control = Control::of(&node).await;
    let args = ["until-end", "sleep"];
    control.desire([task(&world, &args)]).await;
    control.until_ready(NAME).await;
    let began = Instant::now();
    control.leases = false;
    let stopped = Assignment { task: Some(Task { stop: true, ..Task::default() }), ..task(&world, &args) };
    control.change(vec![stopped], Vec::new()).await;
    until_ended(&mut control).await;
    assert!(control.statuses[&replica(NAME)].is_interrupted());
    assert!(began.elapsed() < Duration::from_secs(100), "it went on for {:?}", began.elapsed());
}
