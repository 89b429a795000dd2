//! `skiff inspect`: what a component imports and exports, and what stands between that and the world.

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
use crate::progress::Progress;

/// A component that was found.
struct Found {
    /// The image, or the file's path.
    name: String,
    digest: Digest,
    component_bytes: usize,
    adapted: bool,
    world: World,
}

pub(super) async fn run(server: &ServerArgs, args: InspectArgs) -> Outcome {
    let found = match is_file(&args.component) {
        true => of_file(Path::new(&args.component))?,
        false => of_image(&Context::find(server)?, &args).await?,
    };
    match args.output {
        InspectFormat::Table => crate::output::line::print(&text(&found)),
        InspectFormat::Json => crate::output::line::print(&format::json(&value(&found))?),
        InspectFormat::Yaml => crate::output::line::print(&format::yaml(&value(&found))?),
    }
    Ok(ExitCode::SUCCESS)
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

async fn of_image(context: &Context, args: &InspectArgs) -> Result<Found, Failure> {
    let image: ImageRef = args.component.parse().map_err(|error| {
        Failure::message(Exit::Invalid, format!("failed to inspect {error}; a file is written ./FILE.wasm"))
    })?;
    let repository = context.own_repository(&image, args.namespace.namespace.as_str(), "inspect")?;
    let registry = context.registry()?;
    let digest = match image.digest() {
        Some(digest) => digest.clone(),
        None => registry.resolve(&repository, image.tag_or_latest()).await?,
    };
    let folder = tempfile::tempdir().map_err(|error| Failure::io("make a folder in", &std::env::temp_dir(), error))?;
    let path = folder.path().join("component.wasm");
    let progress = Progress::new(&format!("pulling {repository}@{digest}"), None);
    let disk = Disk::real();
    registry
        .pull_component(&repository, &digest, (&disk, &path), COMPONENT_BYTES_MAX, |done, all| progress.set(done, all))
        .await?;
    drop(progress);
    let bytes = super::push::read(&path)?;
    let name = format!("{repository}:{}", image.tag_or_latest());
    let mut found = packed(name, Artifact::from_wasm(&format!("{repository}@{digest}"), bytes))?;
    // That of the manifest that is there, which another tool may have written.
    found.digest = digest;
    Ok(found)
}

fn packed(name: String, artifact: Result<Artifact, skiff_registry::client::InvalidWasm>) -> Result<Found, Failure> {
    let artifact = artifact.map_err(|error| Failure::new(Exit::Invalid, error))?;
    Ok(Found {
        name,
        digest: artifact.digest().clone(),
        component_bytes: artifact.component().len(),
        adapted: artifact.is_adapted(),
        world: artifact.world().clone(),
    })
}

/// `ambient` or `refused`, and what that means.
fn verdict(import: &str) -> (&'static str, String) {
    match capability::access(import) {
        Access::Ambient { reach } => ("ambient", reach.to_owned()),
        Access::OtherVersion { offered } => ("refused", format!("offered in version {offered} only")),
        Access::Unknown => ("refused", "no node offers it".to_owned()),
    }
}

/// What a service of this component would come to.
fn summary(world: &World) -> String {
    let imports = || world.imports.iter().map(String::as_str);
    if !capability::answers_requests(world.exports.iter().map(String::as_str)) {
        return format!("does not run as a service: it does not export {}", capability::HTTP_HANDLER);
    }
    match imports().filter(|import| capability::refused([*import]).is_some()).count() {
        0 => "runs as a service".to_owned(),
        count => format!("does not run as a service: {count} of its imports are refused"),
    }
}

fn text(found: &Found) -> String {
    let kind = if found.adapted { "core module, adapted to a component" } else { "component" };
    let head = [
        ("Name", found.name.clone()),
        ("Digest", found.digest.to_string()),
        ("Kind", format!("{kind}, {} bytes", found.component_bytes)),
        ("Verdict", summary(&found.world)),
    ];
    let mut text: String = head.iter().map(|(label, value)| format!("{:<9}{value}\n", format!("{label}:"))).collect();
    let imports = found.world.imports.iter().map(|import| {
        let (access, reach) = verdict(import);
        vec![import.clone(), access.to_owned(), reach]
    });
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
        assert!(summary(&world).contains("does not export wasi:http/incoming-handler"));
        world.exports.push("wasi:http/incoming-handler@0.2.3".to_owned());
        assert_eq!(summary(&world), "runs as a service");
        world.imports.push("log".to_owned());
        assert!(summary(&world).contains("1 of its imports are refused"));
    }
}
