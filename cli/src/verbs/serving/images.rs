//! What the control plane asks its own registry, in the same process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use skiff_api::{Code, Digest, ImageRef, Problem};
use skiff_disk::File;
use skiff_registry::client::{
    COMPONENT_BYTES_MAX, CONFIG_BYTES_MAX, Component, FileReader, INDEX_DEPTH_MAX, Look, Search, SearchError,
    Selection, Unfit, World, select,
};
use skiff_registry::manifest::{Descriptor, Manifest};
use skiff_registry::sign::Attached;
use skiff_registry::store::StoredManifest;
use skiff_registry::{Registry, attached};
use skiff_scheduler::api::{Artifact, Images};
use tokio::task::spawn_blocking;

use super::mirror::Mirror;

/// Components whose world is remembered: an apply of what was applied before reads no component again. Each takes some
/// kilobytes.
const WORLDS_MAX: usize = 1024;

/// Larger worlds are read again each time: a thousand of the largest would take a gigabyte.
const WORLD_NAMES_MAX: usize = 200;

/// The cluster's registry and the addresses it is known by.
pub(super) struct OwnRegistry {
    pub(super) registry: Registry,
    /// `HOST:PORT`.
    pub(super) addresses: Vec<String>,
    mirror: Arc<Mirror>,
    worlds: Arc<Worlds>,
}

impl OwnRegistry {
    pub(super) fn new(registry: Registry, addresses: Vec<String>, mirror: Mirror) -> Self {
        Self { registry, addresses, mirror: Arc::new(mirror), worlds: Arc::default() }
    }
}

#[async_trait]
impl Images for OwnRegistry {
    async fn find(&self, repository: &str, reference: &str) -> Result<Option<Artifact>, Problem> {
        let (registry, worlds) = (self.registry.clone(), self.worlds.clone());
        let (repository, reference) = (repository.to_owned(), reference.to_owned());
        let found =
            spawn_blocking(move || Finder { registry: &registry, repository: &repository }.find(&reference, &worlds));
        let found = found.await;
        found.unwrap_or_else(|error| Err(Problem::new(Code::Internal, format!("failed to read the registry: {error}"))))
    }

    async fn copy(&self, image: &ImageRef, repository: &str) -> Result<Digest, Problem> {
        self.mirror.copy(image, repository).await
    }

    async fn signatures(&self, repository: &str, digest: &Digest) -> Result<Attached, Problem> {
        let (registry, of, digest) = (self.registry.clone(), repository.to_owned(), digest.clone());
        let read = spawn_blocking(move || attached::signatures(&registry, &of, &digest)).await;
        let failed = |error: &dyn std::fmt::Display| {
            Problem::new(Code::Internal, format!("failed to read the signatures in {repository}: {error}"))
        };
        read.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
    }

    async fn copy_signatures(&self, image: &ImageRef, repository: &str, digest: &Digest) -> Result<(), Problem> {
        self.mirror.copy_signatures(image, repository, digest).await
    }

    fn is_own(&self, registry: &str) -> bool {
        self.addresses.iter().any(|address| address == registry)
    }
}

/// Reads one repository.
struct Finder<'a> {
    registry: &'a Registry,
    repository: &'a str,
}

impl Finder<'_> {
    fn find(&self, reference: &str, worlds: &Worlds) -> Result<Option<Artifact>, Problem> {
        let digest = match reference.parse::<Digest>() {
            Ok(digest) => Some(digest),
            Err(_) => self.registry.resolve(self.repository, reference).map_err(|error| self.failed(&error))?,
        };
        let Some(digest) = digest else { return Ok(None) };
        let Some(image) = self.manifest(&digest, &digest)? else { return Ok(None) };
        if let Some(World { imports, exports }) = worlds.of(&digest) {
            return Ok(Some(Artifact { digest, imports, exports, is_container: false }));
        }
        let one_at_a_time = worlds.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.held(&digest, image);
        drop(one_at_a_time);
        Ok(held?.map(|held| match held {
            Held::Component(component) => {
                let World { imports, exports } = component.world.clone();
                worlds.remember(&digest, component.world);
                Artifact { digest, imports, exports, is_container: false }
            }
            Held::Container => Artifact { digest, imports: Vec::new(), exports: Vec::new(), is_container: true },
        }))
    }

    /// Whether all images of an index are native ones. Which of them runs is up to each node.
    fn native(&self, image: &Digest, images: &[Descriptor]) -> Result<Option<Held>, Problem> {
        for child in images {
            let Some(Stored { manifest, .. }) = self.manifest(image, &child.digest)? else { return Ok(None) };
            let is_native = match &manifest.config {
                Some(config) => match self.blob(config)? {
                    Some(file) => {
                        Search::is_native(&file.read_all(CONFIG_BYTES_MAX).map_err(|error| self.failed(&error))?)
                    }
                    None => return Ok(None),
                },
                None => false,
            };
            let is_other = child.platform.as_ref().is_some_and(|platform| platform.os != "linux");
            if !is_native && !is_other {
                let unfit = Unfit::native(images);
                return Err(self.no_component(image, &unfit.found, unfit.hint));
            }
        }
        Ok(Some(Held::Container))
    }

    /// The component in an image, checked whole: what a node would refuse is refused here. Also what it imports is read
    /// from itself: a manifest's config repeats it, but whoever pushed it may have written anything.
    fn held(&self, image: &Digest, mut stored: Stored) -> Result<Option<Held>, Problem> {
        let name = format!("{}@{image}", self.repository);
        let unfit = |unfit: Unfit| self.no_component(image, &unfit.found, unfit.hint);
        let mut depth = 0;
        let (config, layers) = loop {
            let Stored { manifest, media_type } = stored;
            match select(&manifest, &media_type).map_err(unfit)? {
                Selection::Layers { config, layers } => break (config, layers),
                Selection::Platforms(images) => return self.native(image, &images),
                Selection::Child(_) if depth == INDEX_DEPTH_MAX => return Err(unfit(Unfit::endless())),
                Selection::Child(child) => match self.manifest(image, &child.digest)? {
                    Some(found) => stored = found,
                    None => return Ok(None),
                },
            }
            depth += 1;
        };
        let mut search = Search::new(COMPONENT_BYTES_MAX);
        if let Some(config) = config {
            let Some(file) = self.blob(&config)? else { return Ok(None) };
            let config = file.read_all(CONFIG_BYTES_MAX).map_err(|error| self.failed(&error))?;
            if Search::is_native(&config) {
                // Its layers are its engine's affair, but they must be there.
                let are_here = layers.iter().map(|layer| self.blob(layer)).collect::<Result<Vec<_>, _>>()?;
                return Ok(are_here.iter().all(Option::is_some).then_some(Held::Container));
            }
            search = Search::with_config(COMPONENT_BYTES_MAX, &config).map_err(unfit)?;
        }
        let mut found = Vec::new();
        for layer in layers.iter().rev() {
            let Some(file) = self.blob(layer)? else { return Ok(None) };
            match search.look(FileReader::new(file), &mut found) {
                Ok(Look::Enough) => break,
                Ok(Look::Below) => {}
                Err(SearchError::Unfit(error)) => return Err(unfit(error)),
                Err(SearchError::Io(error)) => return Err(self.failed(&error)),
            }
        }
        search.end().map_err(unfit)?;
        let component = Component::read(&name, found);
        component
            .map(|component| Some(Held::Component(Box::new(component))))
            .map_err(|error| Problem::new(Code::Invalid, format!("image {error}")))
    }

    fn manifest(&self, image: &Digest, digest: &Digest) -> Result<Option<Stored>, Problem> {
        let stored = self.registry.manifest(self.repository, digest).map_err(|error| self.failed(&error))?;
        let Some(StoredManifest { media_type, bytes, .. }) = stored else { return Ok(None) };
        let manifest = Manifest::parse(&bytes).map_err(|error| {
            self.no_component(image, &format!("its manifest cannot be read: {error}"), "push it again")
        })?;
        Ok(Some(Stored { manifest, media_type }))
    }

    fn blob(&self, layer: &Descriptor) -> Result<Option<File>, Problem> {
        let blob = self.registry.blob(self.repository, &layer.digest).map_err(|error| self.failed(&error))?;
        Ok(blob.map(|blob| blob.file))
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> Problem {
        Problem::new(Code::Internal, format!("failed to read {} in the registry: {error}", self.repository))
    }

    fn no_component(&self, image: &Digest, found: &str, hint: &str) -> Problem {
        Problem::new(Code::Invalid, format!("image {}@{image} holds no component: {found}", self.repository)).hint(hint)
    }
}

/// What an image holds.
enum Held {
    Component(Box<Component>),
    Container,
}

/// A manifest that is there.
struct Stored {
    manifest: Manifest,
    media_type: String,
}

/// The worlds of components that were read, by their image's digest.
#[derive(Default)]
struct Worlds {
    known: Mutex<HashMap<Digest, World>>,
    /// A component is held in memory while it is checked.
    reading: Mutex<()>,
}

impl Worlds {
    fn of(&self, image: &Digest) -> Option<World> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(image).cloned()
    }

    fn remember(&self, image: &Digest, world: World) {
        if world.imports.len() + world.exports.len() > WORLD_NAMES_MAX {
            return;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= WORLDS_MAX {
            known.clear();
        }
        known.insert(image.clone(), world);
    }
}
