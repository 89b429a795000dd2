//! Pulling: manifests into memory, components into a file, everything checked against its digest as it arrives.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use skiff_api::Digest;
use skiff_api::digest::Algorithm;
use skiff_disk::{Disk, File, Mode};

use super::error::Error;
use super::remote::{Client, Inner};
use crate::hash;
use crate::manifest::{Descriptor, Manifest, media};

/// How much is gathered before it is written: each write is a trip to a blocking thread.
const WRITE_BYTES: usize = 512 << 10;

/// A manifest as it came, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledManifest {
    pub digest: Digest,
    pub media_type: String,
    pub bytes: Bytes,
}

/// A component that was written to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledComponent {
    /// The digest of the component's own bytes.
    pub digest: Digest,
    pub bytes: u64,
}

/// A component to be pulled.
struct Wanted<'a> {
    image: &'a str,
    repository: &'a str,
    layer: &'a Descriptor,
    disk: &'a Disk,
    path: &'a Path,
}

impl Client {
    /// The digest that a tag stands for now.
    pub async fn resolve(&self, repository: &str, tag: &str) -> Result<Digest, Error> {
        let inner = &*self.0;
        let image = format!("{repository}:{tag}");
        let (reference, auth) = (inner.reference(repository, tag).await, inner.auth());
        let ask =
            || async { inner.oci.fetch_manifest_digest(&reference, &auth).await.map_err(|e| inner.failed(&image, e)) };
        let digest = inner.retried(ask).await?;
        digest.parse().map_err(|_| inner.protocol(&image, format!("its digest is {digest:?}")))
    }

    /// A manifest by tag or digest. By digest it is checked.
    pub async fn pull_manifest(&self, repository: &str, reference: &str) -> Result<PulledManifest, Error> {
        let inner = &*self.0;
        let expected: Option<Digest> = reference.parse().ok();
        let image = match &expected {
            Some(digest) => format!("{repository}@{digest}"),
            None => format!("{repository}:{reference}"),
        };
        let (media_type, bytes) = inner.retried(|| inner.fetch(&image, repository, reference)).await?;
        let algorithm = expected.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let digest = hash::digest(algorithm, &bytes);
        match expected.filter(|expected| *expected != digest) {
            Some(expected) => Err(Error::DigestMismatch { image, expected, actual: digest }),
            None => Ok(PulledManifest { digest, media_type, bytes }),
        }
    }

    /// Writes the component of the manifest `digest` to the new file `path` and syncs its data; the caller syncs the
    /// directory once the file has its final name. Larger ones than `bytes_max` are refused before a byte is pulled.
    /// `progress` is told the bytes done and the bytes in all. On an error the file is removed.
    pub async fn pull_component(
        &self,
        repository: &str,
        digest: &Digest,
        (disk, path): (&Disk, &Path),
        bytes_max: u64,
        progress: impl FnMut(u64, u64),
    ) -> Result<PulledComponent, Error> {
        let image = format!("{repository}@{digest}");
        let layer = self.component_layer(&image, repository, digest).await?;
        if layer.size > bytes_max {
            return Err(Error::TooLarge { image, what: "the component", bytes: layer.size, bytes_max });
        }
        let wanted = Wanted { image: &image, repository, layer: &layer, disk, path };
        let pulled = self.0.pull_blob(&wanted, progress).await;
        if pulled.is_err() {
            let (disk, path) = (disk.clone(), path.to_path_buf());
            drop(tokio::task::spawn_blocking(move || disk.remove_file(path)).await);
        }
        pulled?;
        Ok(PulledComponent { bytes: layer.size, digest: layer.digest })
    }

    /// The layer with the component, through an index if there is one.
    async fn component_layer(&self, image: &str, repository: &str, digest: &Digest) -> Result<Descriptor, Error> {
        let parse = |manifest: &PulledManifest| {
            Manifest::parse(&manifest.bytes).map_err(|source| Error::Manifest { image: image.to_owned(), source })
        };
        let mut manifest = parse(&self.pull_manifest(repository, &digest.to_string()).await?)?;
        if manifest.manifests.is_some() {
            let child = wasm_child(&manifest).map_err(|found| Error::NoComponent { image: image.to_owned(), found })?;
            manifest = parse(&self.pull_manifest(repository, &child.digest.to_string()).await?)?;
        }
        wasm_layer(manifest).map_err(|found| Error::NoComponent { image: image.to_owned(), found })
    }
}

impl Inner {
    async fn pull_blob(&self, wanted: &Wanted<'_>, mut progress: impl FnMut(u64, u64)) -> Result<(), Error> {
        let (image, size) = (wanted.image, wanted.layer.size);
        let digest = wanted.layer.digest.to_string();
        let reference = self.reference(wanted.repository, &digest).await;
        let ask = || async {
            self.oci.pull_blob_stream(&reference, digest.as_str()).await.map_err(|e| self.failed(image, e))
        };
        // It ends with an error if the bytes have another digest.
        let mut stream = self.retried(ask).await?;
        let mut sink = Sink::create(wanted).await?;
        progress(0, size);
        let mut gathered = Vec::new();
        let mismatch = |actual| Error::SizeMismatch { image: image.to_owned(), expected: size, actual };
        while let Some(chunk) = stream.next().await {
            let has = sink.bytes + gathered.len() as u64;
            let chunk = chunk.map_err(|e| match self.interrupted(image, e) {
                // What is too short has the wrong digest, too: it broke off, nobody changed it.
                Error::DigestMismatch { .. } if has != size => mismatch(has),
                error => error,
            })?;
            if has + chunk.len() as u64 > size {
                return Err(mismatch(has + chunk.len() as u64));
            }
            gathered.extend_from_slice(&chunk);
            if gathered.len() >= WRITE_BYTES {
                sink = sink.write(wanted, std::mem::take(&mut gathered)).await?;
                progress(sink.bytes, size);
            }
        }
        sink = sink.write(wanted, gathered).await?;
        progress(sink.bytes, size);
        match sink.bytes == size {
            true => sink.sync(wanted).await,
            false => Err(mismatch(sink.bytes)),
        }
    }
}

/// The file that a component goes to. What blocks runs elsewhere, so the sink goes there and comes back.
struct Sink {
    file: Arc<File>,
    bytes: u64,
}

impl Sink {
    async fn create(wanted: &Wanted<'_>) -> Result<Self, Error> {
        let (disk, path) = (wanted.disk.clone(), wanted.path.to_path_buf());
        let create = move || {
            let file = disk.open(path, Mode::Create)?;
            // It may be what an earlier attempt left behind.
            file.set_bytes(0)?;
            Ok(file)
        };
        let file = Arc::new(wanted.blocking(create).await?);
        Ok(Self { file, bytes: 0 })
    }

    async fn write(mut self, wanted: &Wanted<'_>, data: Vec<u8>) -> Result<Self, Error> {
        wanted
            .blocking(move || {
                self.file.write_at(&data, self.bytes)?;
                self.bytes += data.len() as u64;
                Ok(self)
            })
            .await
    }

    async fn sync(self, wanted: &Wanted<'_>) -> Result<(), Error> {
        wanted.blocking(move || self.file.sync()).await
    }
}

impl Wanted<'_> {
    async fn blocking<T: Send + 'static>(
        &self,
        act: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let done = tokio::task::spawn_blocking(act).await.map_err(std::io::Error::other);
        done.flatten().map_err(|source| Error::Write {
            image: self.image.to_owned(),
            path: self.path.to_path_buf(),
            source,
        })
    }
}

/// The entry of an index that is for WebAssembly: the newest system interface first.
fn wasm_child(index: &Manifest) -> Result<&Descriptor, String> {
    let rank = |entry: &&Descriptor| {
        let platform = entry.platform.as_ref().filter(|platform| platform.architecture == "wasm")?;
        ["wasip2", "wasip1", "wasi"].iter().position(|os| *os == platform.os)
    };
    let best =
        index.children().filter_map(|entry| rank(&entry).map(|rank| (rank, entry))).min_by_key(|(rank, _)| *rank);
    best.map(|(_, entry)| entry).ok_or_else(|| {
        let platforms: Vec<String> = index
            .children()
            .map(|entry| match &entry.platform {
                Some(platform) => format!("{}/{}", platform.os, platform.architecture),
                None => "an entry without a platform".to_owned(),
            })
            .collect();
        format!("it is an index for {}", listed(&platforms))
    })
}

/// The one layer that is a component as it is.
fn wasm_layer(manifest: Manifest) -> Result<Descriptor, String> {
    let layers = manifest.layers.unwrap_or_default();
    let is_wasm = |layer: &&Descriptor| media::WASM_LAYERS.contains(&layer.media_type.as_str());
    let wasm: Vec<&Descriptor> = layers.iter().filter(is_wasm).collect();
    match wasm.as_slice() {
        [one] => Ok((*one).clone()),
        [] => {
            let types: Vec<String> = layers.iter().map(|layer| layer.media_type.clone()).collect();
            Err(format!("its layers are {}", listed(&types)))
        }
        several => Err(format!("{} of its layers are WebAssembly, not one", several.len())),
    }
}

/// A few items for a message, quoted from a stranger's manifest.
fn listed(items: &[String]) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    let few: Vec<String> = items.iter().take(5).map(|item| item.chars().take(80).collect()).collect();
    match items.len().checked_sub(5).filter(|more| *more > 0) {
        Some(more) => format!("{} and {more} more", few.join(", ")),
        None => few.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::sha256;
    use crate::manifest::Platform;

    fn layers(types: &[&str]) -> Manifest {
        let layers = types.iter().map(|kind| Descriptor::new(*kind, sha256(kind.as_bytes()), 1)).collect();
        Manifest { layers: Some(layers), ..Manifest::default() }
    }

    #[test]
    fn finds_the_component_whoever_pushed_it() {
        for kind in media::WASM_LAYERS {
            assert_eq!(wasm_layer(layers(&["text/plain", kind])).unwrap().media_type, kind);
        }
        assert_eq!(wasm_layer(layers(&["a/b", "c/d"])).unwrap_err(), "its layers are a/b, c/d");
        assert_eq!(wasm_layer(layers(&[])).unwrap_err(), "its layers are none");
        assert!(wasm_layer(layers(&["application/wasm", "application/wasm"])).unwrap_err().contains("2 of its layers"));
    }

    #[test]
    fn picks_the_newest_system_interface() {
        let entry = |os: &str, architecture: &str| Descriptor {
            platform: Some(Platform { architecture: architecture.into(), os: os.into() }),
            ..Descriptor::new(media::OCI_MANIFEST, sha256(os.as_bytes()), 1)
        };
        let index = |entries| Manifest { manifests: Some(entries), ..Manifest::default() };
        let found = index(vec![entry("linux", "amd64"), entry("wasip1", "wasm"), entry("wasip2", "wasm")]);
        assert_eq!(wasm_child(&found).unwrap().digest, sha256(b"wasip2"));
        let none = index(vec![entry("linux", "amd64")]);
        assert_eq!(wasm_child(&none).unwrap_err(), "it is an index for linux/amd64");
    }
}
