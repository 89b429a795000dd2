//! `skiff deploy`: build, push, apply, wait.

use std::process::ExitCode;

use skiff_api::client::{Applied, ApplyAction, Run};
use skiff_api::manifest::{Document, Typed};
use skiff_api::{ImageRef, Kind, Name};
use skiff_registry::Artifact;
use tokio::task::spawn_blocking;

use crate::args::{DeployArgs, FileArgs};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::row;
use crate::project::Project;
use crate::verbs::{apply, push, wait};
use crate::{Outcome, manifests};

pub(super) async fn run(context: &Context, args: DeployArgs) -> Outcome {
    let project = Project::find(&args.folder)?;
    let deployed = deploy(context, &project, &args).await?;
    for route in &deployed.routes {
        println!("answers at {route}");
    }
    Ok(ExitCode::SUCCESS)
}

/// What became of it.
#[derive(Debug)]
pub(super) struct Deployed {
    pub(super) namespace: Name,
    /// The service that the folder's component runs in.
    pub(super) service: String,
    pub(super) routes: Vec<String>,
    /// Whether anything runs now that did not before.
    pub(super) is_changed: bool,
}

/// Builds the folder's service and brings all of its manifest up.
pub(super) async fn deploy(context: &Context, project: &Project, args: &DeployArgs) -> Result<Deployed, Failure> {
    // Before a build that may take a minute: a mistake in the manifest is said at once.
    let documents = documents(project, args)?;
    let (target, image) = target(context, &documents, args.service.as_ref())?;
    let file = build(project.clone()).await?;
    let bytes = push::read(&file)?;
    let artifact =
        Artifact::from_wasm(&file.display().to_string(), bytes).map_err(|error| Failure::new(Exit::Invalid, error))?;
    let namespace = target.namespace.clone().unwrap_or_else(|| args.namespace.namespace.clone());
    let repository = image.without_registry().repository_in(namespace.as_str());
    let digest = context.registry()?.push(&repository, image.tag_or_latest(), &artifact, |_, _| {}).await?;
    println!("pushed {repository}:{} {digest}", image.tag_or_latest());

    let client = context.client()?;
    let (mut services, mut routes, mut is_changed) = (Vec::new(), Vec::new(), false);
    for document in &documents {
        let applied = apply::one(&client, document, Run::Real).await?;
        println!("{}", apply::line(document, &applied, Run::Real));
        apply::notes(&applied);
        is_changed |= applied.action != ApplyAction::Unchanged;
        if let (Kind::Service, Some(namespace)) = (document.kind, &document.namespace) {
            services.push((namespace.clone(), document.name.as_str().to_owned()));
        }
        if is_same(document, target) {
            routes = routes_of(&applied);
        }
    }
    wait::until_ready(&client, &services, args.timeout.as_duration()).await?;
    Ok(Deployed { namespace, service: target.name.to_string(), routes, is_changed })
}

fn documents(project: &Project, args: &DeployArgs) -> Result<Vec<Document>, Failure> {
    let files = if args.files.is_empty() { vec![project.manifest()] } else { args.files.clone() };
    manifests::load(&FileArgs { files, changes: args.changes.clone(), namespace: args.namespace.clone() })
}

async fn build(project: Project) -> Result<std::path::PathBuf, Failure> {
    let built = spawn_blocking(move || project.build()).await;
    built.map_err(|error| Failure::new(Exit::Internal, error))?
}

fn routes_of(applied: &Applied) -> Vec<String> {
    row::routes(&applied.object)
}

fn is_same(one: &Document, other: &Document) -> bool {
    (one.kind, &one.namespace, &one.name) == (other.kind, &other.namespace, &other.name)
}

/// The service that runs what the folder builds: the only one whose image is in the cluster's registry, or the one that
/// was named.
fn target<'a>(
    context: &Context,
    documents: &'a [Document],
    named: Option<&Name>,
) -> Result<(&'a Document, ImageRef), Failure> {
    let is_own = |image: &ImageRef| image.registry().is_none_or(|registry| context.is_own(registry));
    let fits = |document: &&'a Document| named.is_none_or(|name| document.name.as_str() == name.as_str());
    let own: Vec<(&Document, ImageRef)> = documents
        .iter()
        .filter(fits)
        .filter_map(|document| match &document.typed {
            Typed::Service(service) => Some((document, service.spec.image.clone())),
            _ => None,
        })
        .filter(|(_, image)| is_own(image) && image.digest().is_none())
        .collect();
    match own.as_slice() {
        [one] => Ok(one.clone()),
        [] => {
            let text = match named {
                Some(name) => format!("failed to find service {name} with an image of the cluster's registry in the manifest (hint: its image is where the component is pushed to)"),
                None => "failed to find a service with an image of the cluster's registry in the manifest (hint: write `image: NAME`; it is where the component is pushed to)".to_owned(),
            };
            Err(Failure::message(Exit::Invalid, text))
        }
        several => {
            let names: Vec<_> = several.iter().map(|(document, _)| document.name.to_string()).collect();
            let text = format!(
                "failed to choose a service: {} have images of the cluster's registry (hint: say which one this folder builds, with --service)",
                names.join(" and ")
            );
            Err(Failure::message(Exit::Invalid, text))
        }
    }
}
