//! `skiff deploy`: build, push, apply, wait.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};
use skiff_api::client::{Applied, ApplyAction, Run};
use skiff_api::manifest::{self, Document, Typed};
use skiff_api::{ImageRef, Kind, Name};
use skiff_registry::Artifact;
use tokio::task::spawn_blocking;

use crate::args::{DeployArgs, FileArgs};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::row;
use crate::project::{Project, Readable};
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
    /// Whether its types have yet to be checked.
    pub(super) is_unchecked: bool,
}

/// Builds the folder's service and brings all of its manifest up.
pub(super) async fn deploy(context: &Context, project: &Project, args: &DeployArgs) -> Result<Deployed, Failure> {
    // Before a build that may take a minute: a mistake in the manifest is said at once.
    let documents = documents(project, args)?;
    let target = target(context, &documents, args)?;
    build(context, project, &target).await?;
    bring_up(context, &documents, &target, args).await
}

/// The same, with an engine that reads the service where there is one that does. `pushed` is the last one.
pub(super) async fn deploy_source(
    context: &Context,
    project: &Project,
    args: &DeployArgs,
    pushed: &mut Option<PathBuf>,
) -> Result<Deployed, Failure> {
    let mut documents = documents(project, args)?;
    let target = target(context, &documents, args)?;
    let Some(Readable { engine, parts }) = blocking(project, Project::readable).await? else {
        build(context, project, &target).await?;
        return bring_up(context, &documents, &target, args).await;
    };
    if pushed.as_ref() != Some(&engine) {
        push(context, &engine, &target, DEV_TAG).await?;
        *pushed = Some(engine);
    }
    let mut configs = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        let name = format!("{}-source-{number}", target.name);
        let data = json!({ format!("skiff.source.{number}"): part });
        let flat = json!({"kind": "Config", "name": name, "namespace": target.namespace, "data": data});
        configs.extend(manifest::read("the source", &flat.to_string())?);
    }
    let Some(at) = documents.iter().position(|document| target.is(document)) else {
        return Err(Failure::message(Exit::Internal, format!("service {} left its manifest", target.name)));
    };
    if let Some(spec) = documents[at].sparse.get_mut("spec") {
        spec["image"] = json!(format!("{}:{DEV_TAG}", target.image.without_registry().repository()));
        let own = spec.get("config").and_then(Value::as_array).cloned().unwrap_or_default();
        let names = configs.iter().map(|config| json!(config.name));
        spec["config"] = own.into_iter().chain(names).collect();
    }
    // The service names them: they come first.
    documents.splice(at..at, configs);
    let deployed = bring_up(context, &documents, &target, args).await?;
    Ok(Deployed { is_unchecked: true, ..deployed })
}

async fn build(context: &Context, project: &Project, target: &Target) -> Result<(), Failure> {
    let file = blocking(project, Project::build).await?;
    push(context, &file, target, target.image.tag_or_latest()).await
}

/// The tag of engines, which is nobody's own.
const DEV_TAG: &str = "skiff-dev";

async fn push(context: &Context, file: &Path, target: &Target, tag: &str) -> Result<(), Failure> {
    let repository = target.image.without_registry().repository_in(target.namespace.as_str());
    let bytes = push::read(file)?;
    let artifact =
        Artifact::from_wasm(&file.display().to_string(), bytes).map_err(|error| Failure::new(Exit::Invalid, error))?;
    let digest = context.registry()?.push(&repository, tag, &artifact, |_, _| {}).await?;
    println!("pushed {repository}:{tag} {digest}");
    Ok(())
}

/// Applies all of it, and waits until its services are ready.
async fn bring_up(
    context: &Context,
    documents: &[Document],
    target: &Target,
    args: &DeployArgs,
) -> Result<Deployed, Failure> {
    let client = context.client()?;
    let (mut services, mut routes, mut is_changed) = (Vec::new(), Vec::new(), false);
    for document in documents {
        let applied = apply::one(&client, document, Run::Real).await?;
        println!("{}", apply::line(document, &applied, Run::Real));
        apply::notes(&applied);
        is_changed |= applied.action != ApplyAction::Unchanged;
        if let (Kind::Service, Some(namespace)) = (document.kind, &document.namespace) {
            services.push((namespace.clone(), document.name.as_str().to_owned()));
        }
        if target.is(document) {
            routes = routes_of(&applied);
        }
    }
    wait::until_ready(&client, &services, args.timeout.as_duration()).await?;
    let (namespace, service) = (target.namespace.clone(), target.name.clone());
    Ok(Deployed { namespace, service, routes, is_changed, is_unchecked: false })
}

fn documents(project: &Project, args: &DeployArgs) -> Result<Vec<Document>, Failure> {
    let files = if args.files.is_empty() { vec![project.manifest()] } else { args.files.clone() };
    manifests::load(&FileArgs { files, changes: args.changes.clone(), namespace: args.namespace.clone() })
}

/// The language's own tools, which take their time.
async fn blocking<T: Send + 'static>(
    project: &Project,
    work: fn(&Project) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let project = project.clone();
    let done = spawn_blocking(move || work(&project)).await;
    done.map_err(|error| Failure::new(Exit::Internal, error))?
}

fn routes_of(applied: &Applied) -> Vec<String> {
    row::routes(&applied.object)
}

/// The service that runs what the folder builds.
#[derive(Debug)]
struct Target {
    namespace: Name,
    name: String,
    image: ImageRef,
}

impl Target {
    fn is(&self, document: &Document) -> bool {
        let is_here = document.namespace.as_ref().is_none_or(|namespace| *namespace == self.namespace);
        document.kind == Kind::Service && is_here && document.name.as_str() == self.name
    }
}

/// The only service whose image is in the cluster's registry, or the one that was named.
fn target(context: &Context, documents: &[Document], args: &DeployArgs) -> Result<Target, Failure> {
    let named = args.service.as_ref();
    let is_own = |image: &ImageRef| image.registry().is_none_or(|registry| context.is_own(registry));
    let fits = |document: &&Document| named.is_none_or(|name| document.name.as_str() == name.as_str());
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
        [(document, image)] => Ok(Target {
            namespace: document.namespace.clone().unwrap_or_else(|| args.namespace.namespace.clone()),
            name: document.name.to_string(),
            image: image.clone(),
        }),
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
