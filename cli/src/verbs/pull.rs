//! `skiff pull`: an image's component, into a file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use skiff_disk::Disk;
use skiff_registry::client::COMPONENT_BYTES_MAX;

use crate::Outcome;
use crate::args::{PullArgs, ServerArgs};
use crate::exit::{Exit, Failure};
use crate::place::Place;
use crate::progress::Progress;

pub(super) async fn run(server: &ServerArgs, args: PullArgs) -> Outcome {
    let place = Place::find(server, &args.image, &args.namespace.namespace, args.plain.plain_http).await?;
    let file = args.file.unwrap_or_else(|| {
        let name = args.image.repository().rsplit('/').next().unwrap_or_default();
        PathBuf::from(format!("{name}.wasm"))
    });
    let digest = place.digest().await?;
    // What is there stays until all of the new is.
    let part = part(&file)?;
    let progress = Progress::new(&format!("pulling {}", place.name()), None);
    let disk = Disk::real();
    let told = |done, all| progress.set(done, all);
    let pulled = place.client.pull_component(&place.repository, &digest, (&disk, &part), COMPONENT_BYTES_MAX, told);
    let pulled = pulled.await?;
    drop(progress);
    if let Err(error) = disk.rename(&part, &file) {
        drop(disk.remove_file(&part));
        return Err(Failure::io("write", &file, error));
    }
    if pulled.form.adapted {
        eprintln!("adapted the core module to a component");
    }
    println!("{} {digest}", file.display());
    Ok(ExitCode::SUCCESS)
}

/// A name beside the file that nobody else uses.
fn part(file: &Path) -> Result<PathBuf, Failure> {
    let Some(name) = file.file_name().filter(|_| !file.is_dir()) else {
        let text = format!("failed to pull into {}: it is a folder (hint: name a file in it)", file.display());
        return Err(Failure::message(Exit::Invalid, text));
    };
    let mut part = std::ffi::OsString::from(".");
    part.push(name);
    part.push(format!(".{}.part", std::process::id()));
    Ok(file.with_file_name(part))
}
