//! What the control plane asks its own registry, in the same process.

use std::io;

use async_trait::async_trait;
use serde::Deserialize;
use skiff_api::{Code, Digest, Problem};
use skiff_registry::Registry;
use skiff_registry::client::COMPONENT_BYTES_MAX;
use skiff_registry::manifest::{Manifest, media};
use skiff_scheduler::api::{Artifact, Images};
use tokio::task::spawn_blocking;

/// More than any list of interfaces.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// The cluster's registry and the address it is known by.
pub(super) struct OwnRegistry {
    pub registry: Registry,
    /// `HOST:PORT`.
    pub address: String,
}

#[async_trait]
impl Images for OwnRegistry {
    async fn find(&self, repository: &str, reference: &str) -> Result<Option<Artifact>, Problem> {
        let (registry, repository, reference) = (self.registry.clone(), repository.to_owned(), reference.to_owned());
        let found = spawn_blocking(move || find(&registry, &repository, &reference)).await;
        found.unwrap_or_else(|error| Err(Problem::new(Code::Internal, format!("failed to read the registry: {error}"))))
    }

    fn is_own(&self, registry: &str) -> bool {
        registry == self.address
    }
}

/// The part of an artifact's config that tells what a component does.
#[derive(Deserialize)]
struct Config {
    component: Interfaces,
}

#[derive(Deserialize)]
struct Interfaces {
    exports: Vec<String>,
}

fn find(registry: &Registry, repository: &str, reference: &str) -> Result<Option<Artifact>, Problem> {
    let failed = |error: &dyn std::fmt::Display| {
        Problem::new(Code::Internal, format!("failed to read {repository} in the registry: {error}"))
    };
    let digest = match reference.parse::<Digest>() {
        Ok(digest) => Some(digest),
        Err(_) => registry.resolve(repository, reference).map_err(|error| failed(&error))?,
    };
    let Some(digest) = digest else { return Ok(None) };
    let Some(stored) = registry.manifest(repository, &digest).map_err(|error| failed(&error))? else {
        return Ok(None);
    };
    let not_component = |why: String| {
        Problem::new(Code::Invalid, format!("image {repository}@{digest} holds no component: {why}"))
            .hint("push the .wasm file with `skiff push NAME FILE.wasm`")
    };
    let manifest = Manifest::parse(&stored.bytes).map_err(|error| not_component(error.to_string()))?;
    let blob = |digest: &Digest, bytes_max: u64| -> Result<Option<Vec<u8>>, Problem> {
        let Some(blob) = registry.blob(repository, digest).map_err(|error| failed(&error))? else { return Ok(None) };
        blob.file.read_all(bytes_max).map(Some).map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => not_component(format!("a part of it is too large: {error}")),
            _ => failed(&error),
        })
    };
    // The usual layout says in its config what the component exports.
    if let Some(config) = manifest.config.as_ref().filter(|config| config.media_type == media::WASM_CONFIG)
        && let Some(bytes) = blob(&config.digest, CONFIG_BYTES_MAX)?
        && let Ok(config) = serde_json::from_slice::<Config>(&bytes)
    {
        return Ok(Some(Artifact { digest, exports: config.component.exports }));
    }
    // Other tools push the bare layer.
    let layers = manifest.layers.as_deref().unwrap_or_default();
    let Some(layer) = layers.iter().find(|layer| media::WASM_LAYERS.contains(&layer.media_type.as_str())) else {
        let found: Vec<_> = layers.iter().map(|layer| layer.media_type.as_str()).collect();
        return Err(not_component(format!("its layers are [{}]", found.join(", "))));
    };
    let Some(bytes) = blob(&layer.digest, COMPONENT_BYTES_MAX)? else { return Ok(None) };
    let artifact = skiff_registry::Artifact::from_wasm(&format!("{repository}@{digest}"), bytes)
        .map_err(|error| not_component(error.to_string()))?;
    Ok(Some(Artifact { digest, exports: artifact.exports().to_vec() }))
}
