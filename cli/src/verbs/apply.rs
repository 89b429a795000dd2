//! `skiff apply`

use std::process::ExitCode;

use skiff_api::Kind;
use skiff_api::client::{Applied, ApplyAction, Client, Run};
use skiff_api::manifest::Document;

use crate::args::ApplyArgs;
use crate::context::Context;
use crate::exit::Failure;
use crate::verbs::wait;
use crate::{Outcome, manifests};

pub(super) async fn run(context: &Context, args: ApplyArgs) -> Outcome {
    let documents = manifests::load(&args.files)?;
    let client = context.client()?;
    let run = if args.dry_run { Run::Dry } else { Run::Real };
    let (mut services, mut jobs) = (Vec::new(), Vec::new());
    for document in &documents {
        let applied = one(&client, document, run).await?;
        println!("{}", line(document, &applied, run));
        notes(&applied);
        let Some(namespace) = &document.namespace else { continue };
        let named = (namespace.clone(), document.name.as_str().to_owned());
        match document.kind {
            Kind::Service => services.push(named),
            Kind::Job if applied.object.pointer("/spec/schedule").is_none() => jobs.push(named),
            _ => {}
        }
    }
    if args.wait && run == Run::Real {
        wait::until_ready(&client, &services, args.timeout.as_duration()).await?;
        wait::until_complete(&client, &jobs, args.timeout.as_duration()).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Applies one document; an error says which one it was.
pub(super) async fn one(client: &Client, document: &Document, run: Run) -> Result<Applied, Failure> {
    client.apply(&document.sparse, run).await.map_err(|error| {
        let Document { file, line, kind, name, .. } = document;
        Failure::from(error).during(format!("{file}:{line}: failed to apply {}/{name}", kind.singular()))
    })
}

/// What apply was told to pass on.
pub(super) fn notes(applied: &Applied) {
    for note in &applied.notes {
        eprintln!("note: {note}");
    }
}

pub(super) fn line(document: &Document, applied: &Applied, run: Run) -> String {
    let action = match applied.action {
        ApplyAction::Created => "created",
        ApplyAction::Configured => "configured",
        ApplyAction::Unchanged => "unchanged",
    };
    let mut text = format!("{}/{} {action}", document.kind.singular(), document.name);
    if let Some(moved) = &applied.moved {
        text += &format!(" ({} moved sha256:{} -> sha256:{})", moved.image, moved.from.short(), moved.to.short());
    }
    if run == Run::Dry {
        text += " (dry run)";
    }
    text
}
