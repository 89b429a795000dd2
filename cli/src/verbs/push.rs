//! `skiff push`: a component into the cluster's registry, or another.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use skiff_registry::Artifact;
use skiff_registry::client::{COMPONENT_BYTES_MAX, InvalidWasm};

use crate::Outcome;
use crate::args::{PushArgs, ServerArgs};
use crate::exit::{Exit, Failure};
use crate::place::Place;
use crate::progress::Progress;

pub(super) async fn run(server: &ServerArgs, args: PushArgs) -> Outcome {
    let image = &args.image;
    if image.digest().is_some() {
        let text = format!("failed to push {image}: the digest follows from the file (hint: write NAME[:TAG])");
        return Err(Failure::message(Exit::Invalid, text));
    }
    let bytes = read(&args.file)?;
    let artifact = Artifact::from_wasm(&args.file.display().to_string(), bytes)
        .map_err(|error| Failure::new(Exit::Invalid, error))?;
    let place = Place::find(server, image, &args.namespace.namespace, args.plain.plain_http).await?;
    let (name, tag) = (place.name(), image.tag_or_latest());
    let size = artifact.component().len() as u64;
    let progress = Progress::new(&format!("pushing {name}"), Some(size));
    let told = |done, all| progress.set(done, all);
    let digest = place.client.push(&place.repository, tag, &artifact, told).await?;
    drop(progress);
    if artifact.is_adapted() {
        eprintln!("adapted the core module {} to a component", args.file.display());
    }
    println!("{name} {digest}");
    Ok(ExitCode::SUCCESS)
}

/// Reads no more than a component may have: the file may be anything, and larger than the memory.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error| Failure::io("read", path, error);
    let file = File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    let file_name = || path.display().to_string();
    if meta.is_file() && meta.len() > COMPONENT_BYTES_MAX {
        let error = InvalidWasm::TooLarge { file: file_name(), bytes: meta.len() };
        return Err(Failure::new(Exit::Invalid, error));
    }
    let mut bytes = Vec::new();
    // One byte more than is allowed is refused later, by whoever checks the rest.
    file.take(COMPONENT_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
