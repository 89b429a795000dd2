//! What the control plane asks its own registry, in the same process.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use skiff_api::{Code, Digest, Problem};
use skiff_registry::Registry;
use skiff_registry::client::{COMPONENT_BYTES_MAX, World};
use skiff_registry::manifest::{Descriptor, Manifest, media};
use skiff_scheduler::api::{Artifact, Images};
use tokio::task::spawn_blocking;

/// Components whose world is remembered: an apply of what was applied before reads no component again. Each takes some
/// kilobytes.
const WORLDS_MAX: usize = 1024;

/// Larger worlds are read again each time: a thousand of the largest would take a gigabyte.
const WORLD_NAMES_MAX: usize = 200;

/// The cluster's registry and the address it is known by.
pub(super) struct OwnRegistry {
    pub(super) registry: Registry,
    /// `HOST:PORT`.
    pub(super) address: String,
    worlds: Arc<Worlds>,
}

/// The worlds of components by their layer's digest.
type Worlds = Mutex<HashMap<Digest, World>>;

impl OwnRegistry {
    pub(super) fn new(registry: Registry, address: String) -> Self {
        Self { registry, address, worlds: Arc::default() }
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

    fn is_own(&self, registry: &str) -> bool {
        registry == self.address
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
        let stored = self.registry.manifest(self.repository, &digest).map_err(|error| self.failed(&error))?;
        let Some(stored) = stored else { return Ok(None) };
        let manifest =
            Manifest::parse(&stored.bytes).map_err(|error| self.no_component(&digest, &error.to_string()))?;
        let layers = manifest.layers.as_deref().unwrap_or_default();
        let Some(layer) = layers.iter().find(|layer| media::WASM_LAYERS.contains(&layer.media_type.as_str())) else {
            let found: Vec<_> = layers.iter().map(|layer| layer.media_type.as_str()).collect();
            return Err(self.no_component(&digest, &format!("its layers are [{}]", found.join(", "))));
        };
        let world = self.world(&digest, layer, worlds)?;
        Ok(world.map(|World { imports, exports }| Artifact { digest, imports, exports }))
    }

    /// What the component itself says: a manifest's config repeats it, but whoever pushed it may have written anything.
    fn world(&self, manifest: &Digest, layer: &Descriptor, worlds: &Worlds) -> Result<Option<World>, Problem> {
        let known = worlds.lock().unwrap_or_else(PoisonError::into_inner).get(&layer.digest).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let blob = self.registry.blob(self.repository, &layer.digest).map_err(|error| self.failed(&error))?;
        let Some(blob) = blob else { return Ok(None) };
        let bytes = blob.file.read_all(COMPONENT_BYTES_MAX).map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => self.no_component(manifest, &format!("its layer is too large: {error}")),
            _ => self.failed(&error),
        })?;
        let world = World::read(&format!("{}@{manifest}", self.repository), &bytes)
            .map_err(|error| self.no_component(manifest, &error.to_string()))?;
        if world.imports.len() + world.exports.len() <= WORLD_NAMES_MAX {
            let mut worlds = worlds.lock().unwrap_or_else(PoisonError::into_inner);
            if worlds.len() >= WORLDS_MAX {
                worlds.clear();
            }
            worlds.insert(layer.digest.clone(), world.clone());
        }
        Ok(Some(world))
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> Problem {
        Problem::new(Code::Internal, format!("failed to read {} in the registry: {error}", self.repository))
    }

    fn no_component(&self, digest: &Digest, why: &str) -> Problem {
        Problem::new(Code::Invalid, format!("image {}@{digest} holds no component: {why}", self.repository))
            .hint("push the .wasm file with `skiff push NAME FILE.wasm`")
    }
}
