//! `skiff cordon`, `uncordon`, `drain`, `taint` and `label`: what people set on nodes; `skiff node remove`.

use std::process::ExitCode;
use std::time::Duration;

use skiff_api::client::{Client, ListQuery, Scope};
use skiff_api::resource::{Node, NodeChange, NodeSpec, Phase, ReplicaSpec, Taint, TaintName};
use skiff_api::{Kind, Name};

use crate::Outcome;
use crate::args::{DrainArgs, LabelArgs, NodeArgs, TaintArgs};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::verbs::wait;

/// Between two looks at what a drained node still has.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) async fn cordon(context: &Context, args: NodeArgs) -> Outcome {
    let change = NodeChange { unschedulable: Some(true), ..NodeChange::default() };
    each(context, &args.nodes, &change, "cordoned").await
}

pub(super) async fn uncordon(context: &Context, args: NodeArgs) -> Outcome {
    let change = NodeChange { unschedulable: Some(false), draining: Some(false), ..NodeChange::default() };
    each(context, &args.nodes, &change, "uncordoned").await
}

pub(super) async fn remove(context: &Context, args: NodeArgs) -> Outcome {
    let client = context.client()?;
    let namespace =
        skiff_api::resource::DEFAULT_NAMESPACE.parse().map_err(|error| Failure::new(Exit::Internal, error))?;
    for node in &args.nodes {
        client.delete(Kind::Node, &namespace, node).await?;
        println!("node/{node} removed");
    }
    Ok(ExitCode::SUCCESS)
}

async fn each(context: &Context, nodes: &[String], change: &NodeChange, done: &str) -> Outcome {
    let client = context.client()?;
    for node in nodes {
        client.change_node(node, change).await?;
        println!("node/{node} {done}");
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn drain(context: &Context, args: DrainArgs) -> Outcome {
    let change = NodeChange { unschedulable: Some(true), draining: Some(true), ..NodeChange::default() };
    each(context, &args.nodes, &change, "cordoned, its replicas move").await?;
    if args.no_wait {
        return Ok(ExitCode::SUCCESS);
    }
    let client = context.client()?;
    let deadline = wait::deadline(args.timeout.as_duration());
    loop {
        let left = left_on(&client, &args.nodes).await?;
        if left.replicas.is_empty() {
            args.nodes.iter().for_each(|node| println!("node/{node} drained"));
            return Ok(ExitCode::SUCCESS);
        }
        if tokio::time::Instant::now() >= deadline {
            let blocked = if left.blocked.is_empty() { "their successors are not ready yet" } else { &left.blocked };
            let text = format!(
                "failed to drain within {}: {} still there ({}): {blocked} (hint: it goes on; see `skiff why SERVICE`, or give up with `skiff uncordon`)",
                args.timeout,
                match left.replicas.len() {
                    1 => "1 replica is".to_owned(),
                    n => format!("{n} replicas are"),
                },
                left.replicas.join(", "),
            );
            return Err(Failure::message(Exit::NotReady, text));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What a drained node still has, and what its successors wait for.
struct Left {
    replicas: Vec<String>,
    blocked: String,
}

async fn left_on(client: &Client, nodes: &[String]) -> Result<Left, Failure> {
    let all = client.list::<ReplicaSpec>(&Scope::All, &ListQuery::default()).await?.items;
    let is_there = |node: &str| nodes.iter().any(|name| name == node);
    let id = |namespace: &Option<Name>, name: &str| match namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    };
    // A task that has ended is there for its log only.
    let is_left = |replica: &&skiff_api::resource::Replica| {
        !replica.status.ended && replica.spec.node.as_ref().is_some_and(|node| is_there(node.as_str()))
    };
    let left: Vec<_> = all.iter().filter(is_left).collect();
    let waits = |replica: &&skiff_api::resource::Replica| {
        let same = |other: &&&skiff_api::resource::Replica| {
            (&other.metadata.namespace, &other.spec.service) == (&replica.metadata.namespace, &replica.spec.service)
        };
        let is_new = replica.spec.node.as_ref().is_none_or(|node| !is_there(node.as_str()));
        is_new && left.iter().any(|left| same(&left)) && replica.status.phase != Phase::Ready
    };
    let blocked = all.iter().filter(waits).find(|replica| !replica.status.message.is_empty());
    let blocked = blocked.map(|replica| {
        format!("{} waits: {}", id(&replica.metadata.namespace, &replica.metadata.name), replica.status.message)
    });
    let replicas = left.iter().map(|replica| id(&replica.metadata.namespace, &replica.metadata.name)).collect();
    Ok(Left { replicas, blocked: blocked.unwrap_or_default() })
}

/// `KEY=VALUE:EFFECT` adds, `KEY:EFFECT-` and `KEY-` take away.
pub(super) async fn taint(context: &Context, args: TaintArgs) -> Outcome {
    of_nodes("taint", args.kind)?;
    let mut change = NodeChange::default();
    for text in &args.taints {
        match text.strip_suffix('-') {
            None => change.taint.push(text.parse::<Taint>().map_err(|error| wrong("taint", &error))?),
            Some(name) => {
                let (label, effect) = match name.split_once(':') {
                    Some((label, effect)) => (label, Some(effect.to_owned())),
                    None => (name, None),
                };
                let key = label.split('=').next().unwrap_or_default().to_owned();
                change.untaint.push(TaintName { key, effect });
            }
        }
    }
    let client = context.client()?;
    for node in &[args.name] {
        client.change_node(node, &change).await?;
        println!("node/{node} tainted");
    }
    Ok(ExitCode::SUCCESS)
}

/// `KEY=VALUE` sets, `KEY-` takes away.
pub(super) async fn label(context: &Context, args: LabelArgs) -> Outcome {
    of_nodes("label", args.kind)?;
    let mut change = NodeChange::default();
    let mut new = Vec::new();
    for text in &args.labels {
        match (text.split_once('='), text.strip_suffix('-')) {
            (Some((key, value)), _) => {
                change.labels.insert(key.to_owned(), Some(value.to_owned()));
                new.push((key, value));
            }
            (None, Some(key)) => _ = change.labels.insert(key.to_owned(), None),
            (None, None) => {
                let text =
                    format!("failed to label: {text:?} is neither KEY=VALUE nor KEY- (hint: KEY- takes a label away)");
                return Err(Failure::message(Exit::Invalid, text));
            }
        }
    }
    let client = context.client()?;
    for name in &[args.name] {
        let namespace =
            skiff_api::resource::DEFAULT_NAMESPACE.parse().map_err(|error| Failure::new(Exit::Internal, error))?;
        let node: Node = client.get::<NodeSpec>(&namespace, name).await?;
        let differs = |(key, value): &&(&str, &str)| node.metadata.labels.get(*key).is_some_and(|has| has != value);
        if let Some((key, value)) = new.iter().find(differs).filter(|_| !args.overwrite) {
            let has = &node.metadata.labels[*key];
            let text = format!("failed to label node/{name} {key}={value}: it has {key}={has} (hint: add --overwrite)");
            return Err(Failure::message(Exit::Conflict, text));
        }
        client.change_node(name, &change).await?;
        println!("node/{name} labeled");
    }
    Ok(ExitCode::SUCCESS)
}

fn of_nodes(verb: &str, kind: Kind) -> Result<(), Failure> {
    match kind {
        Kind::Node => Ok(()),
        kind => {
            let hint = "the labels of a service are in its manifest";
            let text = format!(
                "failed to {verb} a {}: only nodes are labelled and tainted so (hint: {hint})",
                kind.singular()
            );
            Err(Failure::message(Exit::Invalid, text))
        }
    }
}

fn wrong(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::message(Exit::Invalid, format!("failed to {what}: {error}"))
}
