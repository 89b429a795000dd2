//! `skiff delete`
//!
//! What a file has goes in an order that works: a namespace after what is in it, wherever the file names it. What was made
//! from a service, its revisions and replicas, goes a moment after it, so a namespace is asked for again until that is gone.

use std::process::ExitCode;
use std::time::Duration;

use skiff_api::client::{Client, Error, ListQuery, Scope};
use skiff_api::{Code, Kind, Name};
use tokio::time::Instant;

use crate::args::{ChangeArgs, DeleteArgs, FileArgs};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::{Outcome, manifests};

/// For replicas to finish their requests, and their node to say so.
const GONE_MAX: Duration = Duration::from_secs(60);
/// How soon a namespace is asked for again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

pub(super) async fn run(context: &Context, args: DeleteArgs) -> Outcome {
    let client = context.client()?;
    let namespace = args.namespace.namespace.clone();
    let mut targets = Vec::new();
    match (args.kind, args.name) {
        (Some(kind), Some(name)) => targets.push((kind, namespace, name)),
        _ => {
            let files = FileArgs { files: args.files, changes: ChangeArgs::default(), namespace: args.namespace };
            // The reverse of the order in which they are applied.
            for document in manifests::load(&files)?.into_iter().rev() {
                let of = document.namespace.unwrap_or_else(|| namespace.clone());
                targets.push((document.kind, of, document.name.as_str().to_owned()));
            }
        }
    }
    // Stable: the others keep their order.
    targets.sort_by_key(|(kind, ..)| *kind == Kind::Namespace);
    let mut missing = None;
    for (kind, namespace, name) in targets {
        match delete(&client, kind, &namespace, &name).await? {
            Deleted::Gone => println!("{}/{name} deleted", kind.singular()),
            // The others of the file still go; the exit code says that one was not there.
            Deleted::Missing(failure) => {
                if let Some(earlier) = missing.replace(failure) {
                    earlier.report();
                }
            }
        }
    }
    match missing {
        None => Ok(ExitCode::SUCCESS),
        Some(failure) => Err(failure),
    }
}

enum Deleted {
    Gone,
    Missing(Failure),
}

async fn delete(client: &Client, kind: Kind, namespace: &Name, name: &str) -> Result<Deleted, Failure> {
    let start = Instant::now();
    loop {
        match client.delete(kind, namespace, name).await {
            Ok(_) => return Ok(Deleted::Gone),
            Err(error) if error.is_not_found() => return Ok(Deleted::Missing(error.into())),
            Err(error) if is_not_empty(&error) && is_emptying(client, name).await? => {
                if start.elapsed() > GONE_MAX {
                    let text = format!("what was in namespace {name} is not gone after {} s", GONE_MAX.as_secs());
                    return Err(Failure::new(Exit::NotReady, error).during(text));
                }
                tokio::time::sleep(AGAIN_AFTER).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn is_not_empty(error: &Error) -> bool {
    matches!(error, Error::Problem(problem) if problem.code == Code::NamespaceNotEmpty)
}

/// Whether what is left in a namespace goes by itself: nothing is, that somebody wrote.
async fn is_emptying(client: &Client, namespace: &str) -> Result<bool, Failure> {
    let Ok(namespace) = namespace.parse() else { return Ok(false) };
    let scope = Scope::Namespace(namespace);
    for kind in Kind::WRITABLE.into_iter().filter(|kind| *kind != Kind::Namespace) {
        if !client.list_values(kind, &scope, &ListQuery::default()).await?.items.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}
