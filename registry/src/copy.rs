//! An image of another registry, into the embedded one: what it takes to run it, byte for byte, under its own digest.
//!
//! Of an index that has a component only that is copied. One of native images is copied whole: the fleet's machines may be
//! of several kinds. Blobs go by way of a scratch file, so that a pull that breaks off can go on, and the registry never has
//! half of one.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use skiff_api::Digest;
use skiff_disk::{Disk, Mode};

use crate::client::{self, Client, INDEX_DEPTH_MAX, PulledManifest, Selection, Unfit, select};
use crate::manifest::{Descriptor, Manifest};
use crate::store::{self, PutManifest, Registry};

/// How much of a blob is moved at once.
const MOVE_BYTES: usize = 1 << 20;

/// Names of scratch files: two copies of one image at a time have one each.
static COPIES: AtomicU64 = AtomicU64::new(0);

/// What is copied, and where to.
#[derive(Debug)]
pub struct CopyIn<'a> {
    pub client: &'a Client,
    pub from: &'a str,
    /// A tag or a digest.
    pub reference: &'a str,
    pub registry: &'a Registry,
    pub to: &'a str,
    /// The tag that the copy gets.
    pub tag: Option<&'a str>,
    /// A folder for what is under way, on the same disk as nothing in particular.
    pub scratch: &'a Path,
    /// Config and layers together.
    pub bytes_max: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error("failed to store the copy")]
    Store(#[from] store::Error),
    #[error("failed to keep what was pulled in {path}")]
    Scratch {
        path: String,
        #[source]
        source: io::Error,
    },
}

impl CopyIn<'_> {
    /// Copies, and returns the digest of the manifest that is there now. What is there already is not pulled.
    pub async fn run(&self) -> Result<Digest, CopyError> {
        let unfit = |unfit| client::Error::NoComponent { image: format!("{}:{}", self.from, self.reference), unfit };
        let mut pulled = self.client.pull_manifest(self.from, self.reference).await?;
        for _ in 0..=INDEX_DEPTH_MAX {
            let manifest = self.parsed(&pulled)?;
            match select(&manifest, &pulled.media_type).map_err(unfit)? {
                Selection::Layers { .. } => {
                    self.blobs(&pulled.digest, &manifest).await?;
                    return self.put(pulled, self.tag).await;
                }
                Selection::Platforms(_) => {
                    self.children(&manifest).await?;
                    return self.put(pulled, self.tag).await;
                }
                Selection::Child(child) => {
                    pulled = self.client.pull_manifest(self.from, &child.digest.to_string()).await?;
                }
            }
        }
        Err(unfit(Unfit::endless()).into())
    }

    fn parsed(&self, pulled: &PulledManifest) -> Result<Manifest, CopyError> {
        let image = || format!("{}@{}", self.from, pulled.digest);
        let parsed = Manifest::parse(&pulled.bytes);
        Ok(parsed.map_err(|source| client::Error::Manifest { image: image(), source })?)
    }

    /// All that an index names: a registry refuses one whose parts are not there.
    async fn children(&self, index: &Manifest) -> Result<(), CopyError> {
        for child in index.children() {
            let pulled = self.client.pull_manifest(self.from, &child.digest.to_string()).await?;
            let manifest = self.parsed(&pulled)?;
            if manifest.manifests.is_some() {
                let unfit = Unfit::nested();
                let image = format!("{}@{}", self.from, child.digest);
                return Err(client::Error::NoComponent { image, unfit }.into());
            }
            self.blobs(&pulled.digest, &manifest).await?;
            self.put(pulled, None).await?;
        }
        Ok(())
    }

    async fn blobs(&self, digest: &Digest, manifest: &Manifest) -> Result<(), CopyError> {
        let image = format!("{}@{digest}", self.from);
        let bytes = manifest.blobs().fold(0_u64, |sum, blob| sum.saturating_add(blob.size));
        if bytes > self.bytes_max {
            return Err(
                client::Error::TooLarge { image, what: "what belongs", bytes, bytes_max: self.bytes_max }.into()
            );
        }
        for blob in manifest.blobs() {
            self.blob(&image, blob).await?;
        }
        Ok(())
    }

    async fn put(&self, pulled: PulledManifest, tag: Option<&str>) -> Result<Digest, CopyError> {
        let registry = self.registry.clone();
        let (to, tag) = (self.to.to_owned(), tag.map(str::to_owned));
        let put = move || {
            registry.put_manifest(&PutManifest {
                repository: &to,
                media_type: Some(pulled.media_type.as_str()).filter(|media_type| !media_type.is_empty()),
                digest: Some(&pulled.digest),
                tag: tag.as_deref(),
                bytes: &pulled.bytes,
            })
        };
        let (digest, _) = self.blocking(put).await??;
        Ok(digest)
    }

    async fn blob(&self, image: &str, blob: &Descriptor) -> Result<(), CopyError> {
        let (registry, to, digest) = (self.registry.clone(), self.to.to_owned(), blob.digest.clone());
        let is_there = self.blocking(move || registry.blob(&to, &digest).map(|found| found.is_some())).await??;
        if is_there {
            return Ok(());
        }
        let disk = Disk::real();
        let path = self.scratch.join(format!("{}.blob", COPIES.fetch_add(1, Ordering::Relaxed)));
        let pulled = self.client.pull_blob(image, self.from, blob, (&disk, &path)).await;
        let (registry, to, digest) = (self.registry.clone(), self.to.to_owned(), blob.digest.clone());
        let moved = self
            .blocking(move || {
                let moved = pulled.map_err(CopyError::from).and_then(|()| moved(&disk, &path, &registry, &to, &digest));
                // What is left of a copy is removed with the next start, too.
                drop(disk.remove_file(&path));
                moved
            })
            .await;
        moved?
    }

    async fn blocking<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> Result<T, CopyError> {
        tokio::task::spawn_blocking(act).await.map_err(|error| CopyError::Scratch {
            path: self.scratch.display().to_string(),
            source: io::Error::other(error),
        })
    }
}

/// A whole file becomes a blob.
fn moved(disk: &Disk, path: &Path, registry: &Registry, to: &str, digest: &Digest) -> Result<(), CopyError> {
    let scratch = |source| CopyError::Scratch { path: path.display().to_string(), source };
    let file = disk.open(path, Mode::Read).map_err(scratch)?;
    let upload = registry.start_upload(to)?;
    let mut buffer = vec![0; MOVE_BYTES];
    let mut at = 0;
    loop {
        let count = file.read_at(&mut buffer, at).map_err(scratch)?;
        if count == 0 {
            break;
        }
        at = registry.append_upload(to, &upload, at, &buffer[..count])?;
    }
    registry.finish_upload(to, &upload, digest)?;
    Ok(())
}
