//! `skiff ps` and `skiff rm`: replicas and services in docker's words.

use std::collections::BTreeMap;
use std::process::ExitCode;

use jiff::Timestamp;
use skiff_api::client::{ListQuery, Scope};
use skiff_api::resource::{Phase, Replica, ReplicaSpec, RevisionSpec};
use skiff_api::{Kind, Name, RevisionName};

use crate::Outcome;
use crate::args::{PsArgs, RmArgs};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::{row, table};

pub(super) async fn ps(context: &Context, args: PsArgs) -> Outcome {
    let client = context.client()?;
    let scope = match args.all_namespaces {
        true => Scope::All,
        false => Scope::Namespace(args.namespace.namespace.clone()),
    };
    let mut replicas = client.list::<ReplicaSpec>(&scope, &ListQuery::default()).await?.items;
    replicas.retain(|replica| args.all || runs(replica.status.phase));
    if args.quiet {
        replicas.iter().for_each(|replica| println!("{}", replica.metadata.name));
        return Ok(ExitCode::SUCCESS);
    }
    let revisions = client.list::<RevisionSpec>(&scope, &ListQuery::default()).await?.items;
    let images: BTreeMap<(Option<Name>, RevisionName), String> = revisions
        .into_iter()
        .map(|revision| {
            let name = RevisionName::new(revision.metadata.name.to_string());
            ((revision.metadata.namespace, name), revision.spec.template.image.to_string())
        })
        .collect();
    let now = Timestamp::now();
    let rows = replicas.iter().map(|replica| {
        let namespace = replica.metadata.namespace.clone();
        let image = images.get(&(namespace.clone(), replica.spec.revision.clone()));
        let mut cells = vec![
            replica.metadata.name.to_string(),
            replica.spec.service.to_string(),
            image.map(|image| row::image(image)).unwrap_or_default(),
            row::age(&replica.metadata.created.to_string(), now),
            state(replica, now),
            replica.spec.node.as_ref().map(ToString::to_string).unwrap_or_default(),
        ];
        if args.all_namespaces {
            cells.insert(0, namespace.map(|name| name.to_string()).unwrap_or_default());
        }
        cells
    });
    let mut header = vec!["REPLICA", "SERVICE", "IMAGE", "CREATED", "STATUS", "NODE"];
    if args.all_namespaces {
        header.insert(0, "NAMESPACE");
    }
    print!("{}", table::render(&header, rows.collect()));
    Ok(ExitCode::SUCCESS)
}

/// What docker would call up.
fn runs(phase: Phase) -> bool {
    matches!(phase, Phase::Ready | Phase::Stopping)
}

/// `Up 5m`, or the phase and how long it has been that, with a failure's reason.
fn state(replica: &Replica, now: Timestamp) -> String {
    let status = &replica.status;
    let since = row::age(&status.since.to_string(), now);
    match status.phase {
        Phase::Ready => format!("Up {since}"),
        phase if status.reason.is_empty() => format!("{} {since}", phase.name()),
        phase => format!("{} ({}) {since}", phase.name(), status.reason),
    }
}

pub(super) async fn rm(context: &Context, args: RmArgs) -> Outcome {
    let client = context.client()?;
    let namespace = &args.namespace.namespace;
    let scope = Scope::Namespace(namespace.clone());
    let replicas = match args.force {
        true => Vec::new(),
        false => client.list::<ReplicaSpec>(&scope, &ListQuery::default()).await?.items,
    };
    let mut failed = None;
    for name in args.services.iter().map(|service| &service.0) {
        let running =
            replicas.iter().filter(|replica| replica.spec.service == *name && runs(replica.status.phase)).count();
        let result = match running {
            0 => client.delete(Kind::Service, namespace, name.as_str()).await.map_err(Failure::from),
            count => {
                let text = format!(
                    "failed to remove service/{name}: {count} of its replicas run (hint: `skiff rm -f {name}`, or `skiff scale {name} --replicas 0` first)"
                );
                Err(Failure::message(Exit::Conflict, text))
            }
        };
        match result {
            Ok(_) => println!("service/{name} deleted"),
            // The others still go; the exit code says that one did not.
            Err(failure) => {
                if let Some(earlier) = failed.replace(failure) {
                    earlier.report();
                }
            }
        }
    }
    failed.map_or(Ok(ExitCode::SUCCESS), Err)
}
