//! Pulling a component: from whatever the image holds to a file with a component.

use std::io;
use std::path::{Path, PathBuf};

use skiff_api::Digest;
use skiff_disk::{Disk, Mode};

use super::blob::Wanted;
use super::component::Component;
use super::error::Error;
use super::files::{FileReader, FileSink};
use super::remote::Client;
use super::search::{CONFIG_BYTES_MAX, Look, Search, SearchError, Sink as _};
use super::select::{INDEX_DEPTH_MAX, Selection, Unfit, select};
use crate::hash;
use crate::manifest::{Descriptor, Manifest};

/// A component that was written to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PulledComponent {
    /// The digest of the component's own bytes.
    pub digest: Digest,
    pub bytes: u64,
    /// How the image had it.
    pub form: Form,
}

/// How an image has its component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// The type of its layer.
    pub media_type: String,
    /// Its path, where the layer is a file system.
    pub path: Option<String>,
    /// Whether it is a core module, which was adapted.
    pub adapted: bool,
}

impl Client {
    /// Writes the component of the manifest `digest` to the new file `path` and syncs its data; the caller syncs the
    /// directory once the file has its final name. A layer that is a component is kept byte for byte; from others it is
    /// unpacked, and a core module is adapted, by way of a second file beside the first. Layers and components larger
    /// than `bytes_max` are refused, a layer before a byte of it is pulled. `progress` is told the bytes done and the
    /// bytes in all of each layer. On an error the files are removed.
    pub async fn pull_component(
        &self,
        repository: &str,
        digest: &Digest,
        (disk, path): (&Disk, &Path),
        bytes_max: u64,
        progress: impl FnMut(u64, u64),
    ) -> Result<PulledComponent, Error> {
        let image = format!("{repository}@{digest}");
        let pull = Pull { client: self, image: &image, repository, disk, path, bytes_max };
        let pulled = pull.run(digest, progress).await;
        if pulled.is_err() {
            let (disk, paths) = (disk.clone(), [path.to_path_buf(), beside(path)]);
            drop(tokio::task::spawn_blocking(move || paths.map(|path| disk.remove_file(path))).await);
        }
        pulled
    }

    /// Where the component is, through an index if there is one.
    pub(super) async fn selected(
        &self,
        image: &str,
        repository: &str,
        digest: &Digest,
    ) -> Result<(Option<Descriptor>, Vec<Descriptor>), Error> {
        let unfit = |unfit| Error::NoComponent { image: image.to_owned(), unfit };
        let mut next = digest.clone();
        for _ in 0..=INDEX_DEPTH_MAX {
            let pulled = self.pull_manifest(repository, &next.to_string()).await?;
            let manifest =
                Manifest::parse(&pulled.bytes).map_err(|source| Error::Manifest { image: image.to_owned(), source })?;
            match select(&manifest, &pulled.media_type).map_err(unfit)? {
                Selection::Layers { config, layers } => return Ok((config, layers)),
                Selection::Platforms(images) => return Err(unfit(Unfit::native(&images))),
                Selection::Child(child) => next = child.digest,
            }
        }
        Err(unfit(Unfit::endless()))
    }
}

/// A component on its way to a file.
struct Pull<'a> {
    client: &'a Client,
    image: &'a str,
    repository: &'a str,
    disk: &'a Disk,
    path: &'a Path,
    bytes_max: u64,
}

impl Pull<'_> {
    async fn run(&self, digest: &Digest, mut progress: impl FnMut(u64, u64)) -> Result<PulledComponent, Error> {
        let (config, layers) = self.client.selected(self.image, self.repository, digest).await?;
        let mut search = match &config {
            Some(config) => {
                Search::with_config(self.bytes_max, &self.config(config).await?).map_err(|e| self.unfit(e))?
            }
            None => Search::new(self.bytes_max),
        };
        let mut media_type = String::new();
        for layer in layers.iter().rev() {
            if layer.size > self.bytes_max {
                let (image, what) = (self.image.to_owned(), "a layer");
                return Err(Error::TooLarge { image, what, bytes: layer.size, bytes_max: self.bytes_max });
            }
            self.client.0.pull_blob(self.wanted(layer), &mut progress).await?;
            media_type.clone_from(&layer.media_type);
            if self.is_component().await? {
                let form = Form { media_type, path: None, adapted: false };
                return Ok(PulledComponent { digest: layer.digest.clone(), bytes: layer.size, form });
            }
            let look;
            (search, look) = self.look(search).await?;
            match look {
                Look::Enough => break,
                Look::Below => {}
            }
        }
        let path = search.end().map_err(|e| self.unfit(e))?;
        let (digest, bytes, adapted) = self.finish().await?;
        Ok(PulledComponent { digest, bytes, form: Form { media_type, path, adapted } })
    }

    async fn config(&self, config: &Descriptor) -> Result<Vec<u8>, Error> {
        if config.size > CONFIG_BYTES_MAX {
            let (image, what) = (self.image.to_owned(), "the config");
            return Err(Error::TooLarge { image, what, bytes: config.size, bytes_max: CONFIG_BYTES_MAX });
        }
        // By way of the file that the layers will replace.
        self.client.0.pull_blob(self.wanted(config), |_, _| {}).await?;
        let (disk, path) = (self.disk.clone(), self.path.to_path_buf());
        self.blocking(move || disk.read(path, CONFIG_BYTES_MAX)).await
    }

    /// Whether the file is a component as it is.
    async fn is_component(&self) -> Result<bool, Error> {
        let (disk, path) = (self.disk.clone(), self.path.to_path_buf());
        let read = move || {
            let mut start = [0; 8];
            let count = disk.open(path, Mode::Read)?.read_at(&mut start, 0)?;
            Ok(start[..count] == *b"\0asm\x0d\0\x01\0")
        };
        self.blocking(read).await
    }

    /// Looks through the file, which is a layer; what is found goes beside it.
    async fn look(&self, mut search: Search) -> Result<(Search, Look), Error> {
        let (disk, path) = (self.disk.clone(), self.path.to_path_buf());
        let looked = self.blocking(move || {
            let file = disk.open(beside(&path), Mode::Create)?;
            let bytes = file.bytes()?;
            let look = search.look(FileReader::new(disk.open(&path, Mode::Read)?), &mut FileSink { file, bytes });
            Ok((search, look))
        });
        match looked.await? {
            (search, Ok(look)) => Ok((search, look)),
            (_, Err(SearchError::Unfit(unfit))) => Err(self.unfit(unfit)),
            (_, Err(SearchError::Io(source))) => Err(self.write_failed(source)),
        }
    }

    /// Makes what was found the file: a component, by now. Says its digest, its size and whether it was adapted.
    async fn finish(&self) -> Result<(Digest, u64, bool), Error> {
        let (disk, path, image) = (self.disk.clone(), self.path.to_path_buf(), self.image.to_owned());
        let bytes_max = self.bytes_max;
        let made = self.blocking(move || {
            let from = beside(&path);
            let bytes = disk.read(&from, bytes_max)?;
            let component = match Component::read(&image, bytes) {
                Ok(component) => component,
                Err(invalid) => return Ok(Err(invalid)),
            };
            let mut file = FileSink { file: disk.open(&from, Mode::Write)?, bytes: 0 };
            if component.adapted {
                file.restart()?;
                file.write(&component.bytes)?;
            }
            file.file.sync()?;
            disk.rename(&from, &path)?;
            Ok(Ok((hash::sha256(&component.bytes), component.bytes.len() as u64, component.adapted)))
        });
        Ok(made.await??)
    }

    fn wanted<'a>(&'a self, layer: &'a Descriptor) -> Wanted<'a> {
        Wanted { image: self.image, repository: self.repository, blob: layer, disk: self.disk, path: self.path }
    }

    fn unfit(&self, unfit: Unfit) -> Error {
        Error::NoComponent { image: self.image.to_owned(), unfit }
    }

    fn write_failed(&self, source: io::Error) -> Error {
        Error::Write { image: self.image.to_owned(), path: self.path.to_path_buf(), source }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        act: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let done = tokio::task::spawn_blocking(act).await.map_err(io::Error::other);
        done.flatten().map_err(|source| self.write_failed(source))
    }
}

/// Where the component goes while its layer is at `path`.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".unpacked");
    name.into()
}
