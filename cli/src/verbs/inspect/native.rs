//! `skiff inspect` of an image that a Docker engine runs: its platform, what it starts, and the layers of its file system.

use serde::Deserialize;
use serde_json::{Value, json};
use skiff_api::Digest;
use skiff_registry::Client;
use skiff_registry::client::{CONFIG_BYTES_MAX, PulledManifest, Search, Selection, for_machine, select};
use skiff_registry::manifest::{Descriptor, Manifest};

use crate::exit::Failure;
use crate::signers::Signers;

/// What its config says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    os: String,
    architecture: String,
    config: Run,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Run {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    exposed_ports: Option<serde_json::Map<String, Value>>,
}

/// A native image: of an index, that of this kind of machine.
pub(super) struct Native {
    config: Config,
    /// All that an index has.
    platforms: Vec<String>,
    layers: Vec<Descriptor>,
}

/// Reads an image, and says whether it is one that an engine runs.
pub(super) async fn of(client: &Client, repository: &str, pulled: &PulledManifest) -> Result<Option<Native>, Failure> {
    let image = format!("{repository}@{}", pulled.digest);
    let Ok(mut manifest) = Manifest::parse(&pulled.bytes) else { return Ok(None) };
    let mut media_type = pulled.media_type.clone();
    let mut platforms = Vec::new();
    // An index, an image of it, and what that is made of.
    for _ in 0..3 {
        let next = match select(&manifest, &media_type) {
            Ok(Selection::Layers { config: Some(config), layers }) if config.size <= CONFIG_BYTES_MAX => {
                let json = client.small_blob(&image, repository, &config).await?;
                if !Search::is_native(&json) {
                    return Ok(None);
                }
                let config = serde_json::from_slice(&json).unwrap_or_default();
                return Ok(Some(Native { config, platforms, layers }));
            }
            Ok(Selection::Platforms(images)) => {
                platforms = images.iter().filter_map(platform).collect();
                // Any of them shows what it is, where none is for this machine.
                for_machine(&images, std::env::consts::ARCH).ok().or(images.first()).cloned()
            }
            Ok(Selection::Child(child)) => Some(child),
            Ok(Selection::Layers { .. }) | Err(_) => None,
        };
        let Some(next) = next else { return Ok(None) };
        let child = client.pull_manifest(repository, &next.digest.to_string()).await?;
        let Ok(parsed) = Manifest::parse(&child.bytes) else { return Ok(None) };
        (manifest, media_type) = (parsed, child.media_type);
    }
    Ok(None)
}

fn platform(image: &Descriptor) -> Option<String> {
    image.platform.as_ref().map(|platform| format!("{}/{}", platform.os, platform.architecture))
}

impl Native {
    fn platforms(&self) -> Vec<String> {
        match self.platforms.is_empty() {
            true => vec![format!("{}/{}", self.config.os, self.config.architecture)],
            false => self.platforms.clone(),
        }
    }

    fn starts(&self) -> Vec<String> {
        let Run { entrypoint, cmd, .. } = &self.config.config;
        entrypoint.iter().chain(cmd).flatten().cloned().collect()
    }

    fn ports(&self) -> Vec<String> {
        self.config.config.exposed_ports.iter().flat_map(|ports| ports.keys().cloned()).collect()
    }

    fn bytes(&self) -> u64 {
        self.layers.iter().map(|layer| layer.size).sum()
    }

    pub(super) fn text(&self, name: &str, digest: &Digest, signers: &Signers) -> String {
        let run = &self.config.config;
        let or_none = |text: String| if text.is_empty() { "<none>".to_owned() } else { text };
        let head = [
            ("Name", name.to_owned()),
            ("Digest", digest.to_string()),
            ("Kind", format!("container, {} layers of {} bytes", self.layers.len(), self.bytes())),
            ("Platforms", self.platforms().join(", ")),
            ("Starts", or_none(self.starts().join(" "))),
            ("User", run.user.clone().filter(|user| !user.is_empty()).unwrap_or_else(|| "root".to_owned())),
            ("Folder", run.working_dir.clone().filter(|folder| !folder.is_empty()).unwrap_or_else(|| "/".to_owned())),
            ("Ports", or_none(self.ports().join(", "))),
            ("Signed", signers.verdict()),
            ("Verdict", "runs as a service on nodes with a Docker engine".to_owned()),
        ];
        let mut text: String =
            head.iter().map(|(label, value)| format!("{:<11}{value}\n", format!("{label}:"))).collect();
        if let Some(signers) = signers.table() {
            text += "\n";
            text += &signers;
        }
        text
    }

    pub(super) fn value(&self, name: &str, digest: &Digest, manifest: &PulledManifest, signers: &Signers) -> Value {
        let layers: Vec<Value> =
            self.layers.iter().map(|layer| json!({"digest": layer.digest, "bytes": layer.size})).collect();
        json!({
            "name": name,
            "digest": digest,
            "bytes": self.bytes(),
            "platforms": self.platforms(),
            "starts": self.starts(),
            "user": self.config.config.user,
            "folder": self.config.config.working_dir,
            "ports": self.ports(),
            "layers": layers,
            "mediaType": manifest.media_type,
            "manifest": serde_json::from_slice::<Value>(&manifest.bytes).unwrap_or_default(),
            "signed": signers.value(),
            "verdict": "runs as a service on nodes with a Docker engine",
        })
    }
}
