//! From the registry to the engine: pulled by digest, handed over in the form of `docker save`.
//!
//! Layers are on disk only until the engine has them. They go as they are: the engine unpacks them, and compares each with
//! what the image's config says that it is; that config's digest is in the manifest, whose digest is in the spec.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bollard::body_try_stream;
use bollard::query_parameters::ImportImageOptionsBuilder;
use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use skiff_api::Digest;
use skiff_disk::{Disk, Mode};
use skiff_registry::Client;
use skiff_registry::client::{CONFIG_BYTES_MAX, INDEX_DEPTH_MAX, Search, Selection, for_machine, select};
use skiff_registry::manifest::{Descriptor, Manifest};
use tokio::sync::mpsc;

use super::engine::Engine;
use super::error::Error;
use super::shape;

/// All layers together: what the cluster's registry takes as one blob by default.
const IMAGE_BYTES_MAX: u64 = 16 << 30;
/// Gigabytes on a slow disk.
const LOAD_MAX: Duration = Duration::from_secs(30 * 60);
const READ_BYTES: usize = 256 << 10;
const TAR_BLOCK: usize = 512;

/// Where images come from.
pub(super) struct Source<'a> {
    pub(super) client: &'a Client,
    pub(super) disk: &'a Disk,
    /// A folder of its own.
    pub(super) scratch: &'a Path,
    pub(super) repository: &'a str,
    pub(super) digest: &'a Digest,
}

/// What an image is made of.
struct Parts {
    config: (Digest, Bytes),
    layers: Vec<(Descriptor, PathBuf)>,
}

/// Whether the engine has the image.
pub(super) async fn is_there(engine: &Engine, digest: &Digest) -> Result<bool, Error> {
    let name = shape::image(digest);
    match engine.ask("inspect an image", async |docker| docker.inspect_image(&name).await).await {
        Ok(_) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Pulls it, and hands it over.
pub(super) async fn load(engine: &Engine, source: &Source<'_>) -> Result<(), Error> {
    static LOADS: AtomicU64 = AtomicU64::new(0);
    let folder = source.scratch.join(LOADS.fetch_add(1, Ordering::Relaxed).to_string());
    let loaded = load_by(engine, source, &folder).await;
    let disk = source.disk.clone();
    // What stays is removed when the node starts again.
    drop(tokio::task::spawn_blocking(move || clean(&disk, &folder)).await);
    loaded
}

/// Removes a folder of files.
pub(super) fn clean(disk: &Disk, folder: &Path) {
    for entry in disk.read_dir(folder).unwrap_or_default() {
        let path = folder.join(&entry.name);
        if entry.is_dir {
            clean(disk, &path);
        } else {
            drop(disk.remove_file(&path));
        }
    }
    drop(disk.remove_dir(folder));
}

async fn load_by(engine: &Engine, source: &Source<'_>, folder: &Path) -> Result<(), Error> {
    let parts = parts(source, folder).await?;
    let (sender, receiver) = mpsc::channel(4);
    let (disk, name) = (source.disk.clone(), shape::image(source.digest));
    let writes = tokio::task::spawn_blocking(move || {
        if let Err(error) = write(&disk, &name, &parts, |bytes| sender.blocking_send(Ok(bytes)).is_ok()) {
            // The engine gets no end, and the person its reason.
            drop(sender.blocking_send(Err(error)));
        }
    });
    let archive = stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|next| (next, receiver)) });
    let load = async |docker: bollard::Docker| {
        let options = ImportImageOptionsBuilder::default().quiet(true).build();
        docker.import_image(options, body_try_stream(archive), None).try_for_each(async |_| Ok(())).await
    };
    let loaded = engine.ask_for("load an image", LOAD_MAX, load).await;
    drop(writes.await);
    loaded?;
    match is_there(engine, source.digest).await? {
        true => Ok(()),
        false => Err(unfit(source, "the engine loaded it under another name")),
    }
}

fn name_of(source: &Source<'_>) -> String {
    format!("{}@{}", source.repository, source.digest)
}

fn unfit(source: &Source<'_>, why: impl Into<String>) -> Error {
    Error::Unfit { image: name_of(source), why: why.into() }
}

async fn parts(source: &Source<'_>, folder: &Path) -> Result<Parts, Error> {
    let Source { client, disk, repository, digest, .. } = *source;
    let image = name_of(source);
    let pull = |error| Error::Pull { image: image.clone(), source: Box::new(error) };
    let mut next = digest.clone();
    let mut depth = 0;
    let (config, layers) = loop {
        let pulled = client.pull_manifest(repository, &next.to_string()).await.map_err(pull)?;
        let manifest = Manifest::parse(&pulled.bytes).map_err(|error| unfit(source, error.to_string()))?;
        match select(&manifest, &pulled.media_type).map_err(|error| unfit(source, error.to_string()))? {
            Selection::Layers { config: Some(config), layers } => break (config, layers),
            Selection::Layers { config: None, .. } => return Err(unfit(source, "it has no config")),
            Selection::Platforms(images) => {
                let own = for_machine(&images, std::env::consts::ARCH);
                next = own.map_err(|error| unfit(source, error.to_string()))?.digest.clone();
            }
            Selection::Child(_) if depth == INDEX_DEPTH_MAX => {
                return Err(unfit(source, "it is an index without an end"));
            }
            Selection::Child(child) => next = child.digest,
        }
        depth += 1;
    };
    if config.size > CONFIG_BYTES_MAX {
        return Err(unfit(source, "its config is too large"));
    }
    let bytes: u64 = layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.size));
    if bytes > IMAGE_BYTES_MAX {
        return Err(unfit(source, format!("its layers have {bytes} bytes, more than {IMAGE_BYTES_MAX}")));
    }
    let json = client.small_blob(&image, repository, &config).await.map_err(pull)?;
    if !Search::is_native(&json) {
        return Err(unfit(source, "it runs no program of Linux"));
    }
    let scratch = |error| Error::Scratch { image: image.clone(), source: error };
    let (made, at) = (disk.clone(), folder.to_owned());
    let made = tokio::task::spawn_blocking(move || made.create_dir_all(&at)).await;
    made.map_err(std::io::Error::other).flatten().map_err(scratch)?;
    let mut files = Vec::new();
    for (n, layer) in layers.into_iter().enumerate() {
        let path = folder.join(format!("{n}"));
        client.pull_blob(&image, repository, &layer, (disk, &path)).await.map_err(pull)?;
        files.push((layer, path));
    }
    Ok(Parts { config: (config.digest, json), layers: files })
}

/// Writes the archive piece by piece, until nobody takes more.
fn write(disk: &Disk, name: &str, parts: &Parts, mut send: impl FnMut(Bytes) -> bool) -> std::io::Result<()> {
    let config = format!("{}.json", parts.config.0.hex());
    let layers: Vec<String> = (0..parts.layers.len()).map(|n| format!("{n}/layer.tar")).collect();
    let manifest = serde_json::json!([{ "Config": config, "RepoTags": [name], "Layers": layers }]);
    let manifest = Bytes::from(serde_json::to_vec(&manifest)?);
    for (name, bytes) in [("manifest.json", &manifest), (config.as_str(), &parts.config.1)] {
        let head = header(name, bytes.len() as u64)?;
        if !(send(head) && send(bytes.clone()) && send(padding(bytes.len() as u64))) {
            return Ok(());
        }
    }
    for ((layer, path), name) in parts.layers.iter().zip(&layers) {
        if !send(header(name, layer.size)?) {
            return Ok(());
        }
        let file = disk.open(path, Mode::Read)?;
        let mut at = 0;
        while at < layer.size {
            let mut buffer = vec![0; READ_BYTES];
            let count = file.read_at(&mut buffer, at)?;
            if count == 0 {
                return Err(std::io::Error::other("a layer was cut off"));
            }
            buffer.truncate(count);
            at += count as u64;
            if !send(buffer.into()) {
                return Ok(());
            }
        }
        if !send(padding(layer.size)) {
            return Ok(());
        }
    }
    send(Bytes::from(vec![0; 2 * TAR_BLOCK]));
    Ok(())
}

fn header(name: &str, bytes: u64) -> std::io::Result<Bytes> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name)?;
    header.set_size(bytes);
    header.set_mode(0o644);
    header.set_cksum();
    Ok(Bytes::copy_from_slice(header.as_bytes()))
}

fn padding(bytes: u64) -> Bytes {
    let over = usize::try_from(bytes % TAR_BLOCK as u64).unwrap_or(0);
    Bytes::from(vec![0; (TAR_BLOCK - over) % TAR_BLOCK])
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use skiff_registry::hash::sha256;

    use super::*;

    #[test]
    fn an_archive_is_what_docker_save_writes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("layer");
        std::fs::write(&path, [7; 1000]).unwrap();
        let config = Bytes::from_static(b"{}");
        let layer = Descriptor::new("", sha256(&[7; 1000]), 1000);
        let parts = Parts { config: (sha256(&config), config), layers: vec![(layer, path)] };
        let mut archive = Vec::new();
        write(&Disk::real(), "skiff/image:1", &parts, |bytes| {
            archive.extend_from_slice(&bytes);
            true
        })
        .unwrap();
        assert_eq!(archive.len() % TAR_BLOCK, 0);
        let mut files = Vec::new();
        for entry in tar::Archive::new(&*archive).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.push((entry.path().unwrap().display().to_string(), bytes));
        }
        let config = format!("{}.json", sha256(b"{}").hex());
        let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["manifest.json", &config, "0/layer.tar"]);
        assert_eq!(files[2].1, [7; 1000]);
        let manifest: serde_json::Value = serde_json::from_slice(&files[0].1).unwrap();
        assert_eq!(manifest[0]["RepoTags"][0], "skiff/image:1");
    }
}
