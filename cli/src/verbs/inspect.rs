//! `skiff inspect`: what an image is made of, what a component imports and exports, and what stands between that and the world.

mod native;
mod service;

use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};
use skiff_api::capability::{self, Access};
use skiff_api::{Digest, ImageRef};
use skiff_disk::Disk;
use skiff_registry::Artifact;
use skiff_registry::client::{COMPONENT_BYTES_MAX, World};

use crate::Outcome;
use crate::args::{InspectArgs, InspectFormat, ServerArgs};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::{format, table};
use crate::place::Place;
use crate::progress::Progress;
use crate::signers::Signers;

/// A component that was found.
struct Found {
    /// The image, or the file's path.
    name: String,
    digest: Digest,
    component_bytes: usize,
    adapted: bool,
    image: Option<OfImage>,
    world: World,
}

/// What only an image has.
struct OfImage {
    /// The type of the component's layer.
    layer: String,
    /// Its path in it, where that is a file system.
    path: Option<String>,
    manifest_type: String,
    manifest: Value,
    signers: Signers,
}

pub(super) async fn run(server: &ServerArgs, args: InspectArgs) -> Outcome {
    let shown = match is_file(&args.component) {
        true => shown(&of_file(Path::new(&args.component))?, args.output)?,
        false => match service::text(server, &args).await? {
            Some(text) => text,
            None => of_image(server, &args).await?,
        },
    };
    crate::output::line::print(&shown);
    Ok(ExitCode::SUCCESS)
}

fn shown(found: &Found, output: Option<InspectFormat>) -> Result<String, Failure> {
    in_form(output, || text(found), || value(found))
}

/// A table, unless something else is asked for.
fn in_form(
    output: Option<InspectFormat>,
    text: impl FnOnce() -> String,
    value: impl FnOnce() -> Value,
) -> Result<String, Failure> {
    match output.unwrap_or(InspectFormat::Table) {
        InspectFormat::Table => Ok(text()),
        InspectFormat::Json => format::json(&value()),
        InspectFormat::Yaml => format::yaml(&value()),
    }
}

/// An image's name starts with a letter or digit and ends in no file's suffix.
fn is_file(text: &str) -> bool {
    text.starts_with(['.', '/', '~']) || [".wasm", ".wat"].iter().any(|suffix| text.ends_with(suffix))
}

fn of_file(path: &Path) -> Result<Found, Failure> {
    let name = path.display().to_string();
    let bytes = super::push::read(path)?;
    packed(name, Artifact::from_wasm(&path.display().to_string(), bytes))
}

async fn of_image(server: &ServerArgs, args: &InspectArgs) -> Result<String, Failure> {
    let image: ImageRef = args.component.parse().map_err(|error| {
        Failure::message(Exit::Invalid, format!("failed to inspect {error}; a file is written ./FILE.wasm"))
    })?;
    let place = Place::find(server, &image, &args.namespace.namespace, args.plain.plain_http).await?;
    let digest = place.digest().await?;
    let (repository, registry) = (&place.repository, &place.client);
    let manifest = registry.pull_manifest(repository, &digest.to_string()).await?;
    let context = Context::find(server).ok();
    let signers = Signers::find(context.as_ref(), &place, &image, &args.namespace.namespace, &digest).await?;
    if let Some(native) = native::of(registry, repository, &manifest).await? {
        let name = place.name();
        let text = || native.text(&name, &digest, &signers);
        return in_form(args.output, text, || native.value(&name, &digest, &manifest, &signers));
    }
    let folder = tempfile::tempdir().map_err(|error| Failure::io("make a folder in", &std::env::temp_dir(), error))?;
    let path = folder.path().join("component.wasm");
    let progress = Progress::new(&format!("pulling {repository}@{digest}"), None);
    let disk = Disk::real();
    let pulled = registry
        .pull_component(repository, &digest, (&disk, &path), COMPONENT_BYTES_MAX, |done, all| progress.set(done, all))
        .await?;
    drop(progress);
    let bytes = super::push::read(&path)?;
    let mut found = packed(place.name(), Artifact::from_wasm(&format!("{repository}@{digest}"), bytes))?;
    // Those of what is there, which another tool may have written.
    found.digest = digest;
    found.adapted = pulled.form.adapted;
    found.image = Some(OfImage {
        layer: pulled.form.media_type,
        path: pulled.form.path,
        manifest_type: manifest.media_type,
        manifest: serde_json::from_slice(&manifest.bytes).unwrap_or_default(),
        signers,
    });
    shown(&found, args.output)
}

fn packed(name: String, artifact: Result<Artifact, skiff_registry::client::InvalidWasm>) -> Result<Found, Failure> {
    let artifact = artifact.map_err(|error| Failure::new(Exit::Invalid, error))?;
    Ok(Found {
        name,
        digest: artifact.digest().clone(),
        component_bytes: artifact.component().len(),
        adapted: artifact.is_adapted(),
        image: None,
        world: artifact.world().clone(),
    })
}

/// `ambient`, `granted` or `refused`, and what that means.
fn verdict(import: &str) -> (&'static str, String) {
    match capability::access(import) {
        Access::Ambient { reach } => ("ambient", reach.to_owned()),
        Access::Granted { reach, line } => ("granted", format!("{reach} (needs `{line}`)")),
        Access::OtherVersion { offered } => ("refused", format!("offered in version {offered} only")),
        Access::Unknown => ("refused", "no node offers it".to_owned()),
    }
}

/// What a service of this component would come to.
fn summary(world: &World) -> String {
    let imports = || world.imports.iter().map(String::as_str);
    let exports = world.exports.iter().map(String::as_str);
    let role = match (capability::answers_requests(exports.clone()), capability::runs_alone(exports)) {
        (true, _) => "runs as a service",
        (false, true) => "runs as a worker",
        (false, false) => {
            let (handler, run) = (capability::HTTP_HANDLER, capability::RUN);
            return format!("does not run as a service: it exports neither {handler} nor {run}");
        }
    };
    match imports().filter(|import| capability::refused([*import]).is_some()).count() {
        0 => role.to_owned(),
        count => format!("does not run as a service: {count} of its imports are refused"),
    }
}

fn text(found: &Found) -> String {
    let kind = if found.adapted { "core module, adapted to a component" } else { "component" };
    let mut head = vec![
        ("Name", found.name.clone()),
        ("Digest", found.digest.to_string()),
        ("Kind", format!("{kind}, {} bytes", found.component_bytes)),
    ];
    if let Some(OfImage { layer, path, manifest_type, signers, .. }) = &found.image {
        let of = path.as_ref().map(|path| format!("{path} in ")).unwrap_or_default();
        head.push(("Layer", format!("{of}{layer}")));
        head.push(("Manifest", manifest_type.clone()));
        head.push(("Signed", signers.verdict()));
    }
    head.push(("Verdict", summary(&found.world)));
    let mut text: String = head.iter().map(|(label, value)| format!("{:<10}{value}\n", format!("{label}:"))).collect();
    let imports = found.world.imports.iter().map(|import| {
        let (access, reach) = verdict(import);
        vec![import.clone(), access.to_owned(), reach]
    });
    if let Some(signers) = found.image.as_ref().and_then(|image| image.signers.table()) {
        text += "\n";
        text += &signers;
    }
    text += "\n";
    text += &table::render(&["IMPORT", "ACCESS", "REACHES"], imports.collect());
    text += "\n";
    text += &table::render(&["EXPORT"], found.world.exports.iter().map(|export| vec![export.clone()]).collect());
    text
}

fn value(found: &Found) -> Value {
    let imports: Vec<Value> = found
        .world
        .imports
        .iter()
        .map(|import| {
            let (access, reaches) = verdict(import);
            json!({"name": import, "access": access, "reaches": reaches})
        })
        .collect();
    json!({
        "name": found.name,
        "digest": found.digest,
        "bytes": found.component_bytes,
        "adapted": found.adapted,
        "layer": found.image.as_ref().map(|image| &image.layer),
        "path": found.image.as_ref().and_then(|image| image.path.as_ref()),
        "mediaType": found.image.as_ref().map(|image| &image.manifest_type),
        "manifest": found.image.as_ref().map(|image| &image.manifest),
        "signed": found.image.as_ref().map(|image| image.signers.value()),
        "verdict": summary(&found.world),
        "imports": imports,
        "exports": found.world.exports,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_from_images() {
        for file in ["./cart", "/tmp/cart", "../cart", "cart.wasm", "out/cart.wasm"] {
            assert!(is_file(file), "{file}");
        }
        for image in ["cart", "cart:1.4", "shop/cart:1", "127.0.0.1:7070/shop/cart:1"] {
            assert!(!is_file(image), "{image}");
        }
    }

    #[test]
    fn the_verdict_counts_what_is_refused() {
        let mut world = World { imports: vec!["wasi:io/poll@0.2.0".to_owned()], exports: Vec::new() };
        assert!(summary(&world).contains("exports neither wasi:http/incoming-handler@0.2 nor wasi:cli/run"));
        world.exports.push("wasi:cli/run@0.2.3".to_owned());
        assert_eq!(summary(&world), "runs as a worker");
        world.exports.push("wasi:http/incoming-handler@0.2.3".to_owned());
        assert_eq!(summary(&world), "runs as a service");
        world.imports.push("log".to_owned());
        assert!(summary(&world).contains("1 of its imports are refused"));
    }
}
