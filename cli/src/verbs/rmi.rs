//! `skiff rmi`: tags and images out of the cluster's registry.
//!
//! A tag is a name, and taking it away harms nobody: services run digests. An image that a service runs is taken away by
//! force only, as docker has it, since a node that comes anew would not find it.

use std::process::ExitCode;

use skiff_api::client::{ListQuery, Scope};
use skiff_api::{Digest, ImageRef, Kind};

use crate::Outcome;
use crate::args::RmiArgs;
use crate::context::Context;
use crate::exit::{Exit, Failure};

pub(super) async fn run(context: &Context, args: RmiArgs) -> Outcome {
    let namespace = args.namespace.namespace.as_str();
    let registry = context.registry()?;
    for image in &args.images {
        if let Some(other) = image.registry().filter(|registry| !context.is_own(registry)) {
            let text = format!(
                "failed to remove {image}: {other} is not this cluster's registry (hint: a copy here is called {})",
                image.without_digest().repository_in(namespace)
            );
            return Err(Failure::message(Exit::Invalid, text));
        }
        let repository = image.without_registry().repository_in(namespace);
        let (reference, done) = match image.digest() {
            Some(digest) => {
                if !args.force {
                    require_unused(context, image, &repository, digest).await?;
                }
                (digest.to_string(), format!("Deleted: {repository}@{digest}"))
            }
            None => (image.tag_or_latest().to_owned(), format!("Untagged: {repository}:{}", image.tag_or_latest())),
        };
        if !registry.delete_manifest(&repository, &reference).await? {
            let text = format!("failed to remove {image}: there is no such image (hint: `skiff images` lists them)");
            return Err(Failure::message(Exit::NotFound, text));
        }
        println!("{done}");
    }
    Ok(ExitCode::SUCCESS)
}

async fn require_unused(context: &Context, image: &ImageRef, repository: &str, digest: &Digest) -> Result<(), Failure> {
    let client = context.client()?;
    let mut users = client.list_values(Kind::Service, &Scope::All, &ListQuery::default()).await?.items;
    let jobs = client.list_values(Kind::Job, &Scope::All, &ListQuery::default()).await?.items;
    users.extend(jobs.into_iter().filter(|job| job.pointer("/status/finished").is_none()));
    for service in users {
        let text = |path: &str| service.pointer(path).and_then(serde_json::Value::as_str).unwrap_or_default();
        let namespace = text("/metadata/namespace");
        let Ok(used) = text("/spec/image").parse::<ImageRef>() else { continue };
        if used.digest() == Some(digest) && used.repository_in(namespace) == repository {
            let text = format!(
                "failed to remove {image}: {} {namespace}/{} runs it (hint: delete that first, or remove it with --force)",
                text("/kind").to_lowercase(),
                text("/metadata/name")
            );
            return Err(Failure::message(Exit::Conflict, text));
        }
    }
    Ok(())
}
