//! What a list of images says of one: what it is, how large, how old.

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use skiff_api::Digest;

use super::error::Error;
use super::fetch::{collect, pull_scope};
use super::remote::{Call, Client};
use super::search::CONFIG_BYTES_MAX;
use super::select::{Selection, quoted, select};
use crate::hash;
use crate::manifest::{Descriptor, Manifest, media};

/// One image in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    pub kind: ImageKind,
    /// What is pulled of it: config and layers. An index has nothing of its own.
    pub bytes: u64,
    /// When it was built, if it says so.
    pub created: Option<Timestamp>,
}

/// What an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageKind {
    /// A component, as its config says.
    Component,
    /// A core module, as its config says.
    Module,
    /// A layer of WebAssembly, of which nothing else is known.
    Wasm,
    /// Layers of a file system, for `OS/ARCHITECTURE`.
    Container(String),
    /// Several images, one for each platform.
    Index,
    /// Something else, by its type.
    Other(String),
}

impl fmt::Display for ImageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Component => f.write_str("component"),
            Self::Module => f.write_str("module"),
            Self::Wasm => f.write_str("wasm"),
            Self::Container(platform) => f.write_str(platform),
            Self::Index => f.write_str("index"),
            Self::Other(kind) => f.write_str(kind),
        }
    }
}

/// What configs of all kinds say, as far as it matters.
#[derive(Debug, Default, Deserialize)]
struct Config {
    created: Option<String>,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    component: Option<serde::de::IgnoredAny>,
}

impl Summary {
    /// From a manifest of this type and its config, which may be of any kind, or nothing.
    pub fn of(manifest: &Manifest, media_type: &str, config: &[u8]) -> Self {
        let config: Config = serde_json::from_slice(config).unwrap_or_default();
        let config_type = manifest.config.as_ref().map(|config| config.media_type.as_str()).unwrap_or_default();
        let blobs = manifest.config.iter().chain(manifest.layers.iter().flatten());
        let bytes = blobs.fold(0_u64, |sum, blob| sum.saturating_add(blob.size));
        let kind = match select(manifest, media_type) {
            _ if manifest.manifests.is_some() => ImageKind::Index,
            _ if crate::sign::simple::layers(manifest).next().is_some() => ImageKind::Other("signature".to_owned()),
            Ok(_) if config_type == media::WASM_CONFIG && config.component.is_some() => ImageKind::Component,
            Ok(_) if config_type == media::WASM_CONFIG && config.os == "wasip1" => ImageKind::Module,
            Ok(Selection::Layers { config: Some(_), .. }) if !config.os.is_empty() => {
                ImageKind::Container(format!("{}/{}", quoted(&config.os), quoted(&config.architecture)))
            }
            Ok(Selection::Layers { layers, .. })
                if layers.iter().any(|layer| media::WASM_LAYERS.contains(&layer.media_type.as_str())) =>
            {
                ImageKind::Wasm
            }
            _ => {
                let own = manifest.artifact_type.as_deref().or(Some(config_type).filter(|kind| !kind.is_empty()));
                let layer = || manifest.layers.as_deref()?.first().map(|layer| layer.media_type.as_str());
                ImageKind::Other(quoted(own.or_else(layer).unwrap_or("empty")))
            }
        };
        // What is built so that it can be built again has no time, and says the first of all.
        let created = config.created.and_then(|text| text.parse().ok()).filter(|at| *at > Timestamp::UNIX_EPOCH);
        Self { kind, bytes, created }
    }
}

impl Client {
    /// What a list says of an image.
    pub async fn summary(&self, repository: &str, digest: &Digest) -> Result<Summary, Error> {
        let pulled = self.pull_manifest(repository, &digest.to_string()).await?;
        let image = || format!("{repository}@{digest}");
        let manifest = Manifest::parse(&pulled.bytes).map_err(|source| Error::Manifest { image: image(), source })?;
        let config = match manifest.config.as_ref().filter(|config| config.size > 0 && config.size <= CONFIG_BYTES_MAX)
        {
            Some(config) => self.small_blob(&image(), repository, config).await?,
            None => Bytes::new(),
        };
        Ok(Summary::of(&manifest, &pulled.media_type, &config))
    }

    /// A small blob, checked, in memory.
    pub async fn small_blob(&self, image: &str, repository: &str, config: &Descriptor) -> Result<Bytes, Error> {
        let inner = &*self.0;
        let read = || async {
            let answer = inner.send(Call {
                image,
                method: Method::GET,
                url: inner.url(&format!("/v2/{repository}/blobs/{}", config.digest)).await,
                headers: HeaderMap::new(),
                body: None,
                scope: pull_scope(repository),
            });
            let mut answer = answer.await?;
            if answer.status() != StatusCode::OK {
                return Err(inner.refused(image, answer).await);
            }
            let mut bytes = Vec::new();
            let bytes_max = usize::try_from(config.size).unwrap_or(usize::MAX);
            collect(&mut answer, bytes_max, &mut bytes).await.map_err(|error| inner.broke_off(image, error))?;
            Ok(Bytes::from(bytes))
        };
        let bytes = inner.retried(read).await?;
        let actual = hash::digest(config.digest.algorithm(), &bytes);
        match actual == config.digest {
            true => Ok(bytes),
            false => {
                let expected = config.digest.clone();
                Err(Error::DigestMismatch { image: image.to_owned(), expected, actual })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::sha256;

    fn summary(config: (&str, &str), layer: &str) -> Summary {
        let descriptor = |kind: &str, bytes: u64| Descriptor::new(kind, sha256(kind.as_bytes()), bytes);
        let manifest = Manifest {
            schema_version: 2,
            config: Some(descriptor(config.0, 10)),
            layers: Some(vec![descriptor(layer, 100)]),
            ..Manifest::default()
        };
        Summary::of(&manifest, media::OCI_MANIFEST, config.1.as_bytes())
    }

    #[test]
    fn says_what_an_image_is() {
        let of = |config, layer| summary(config, layer).kind.to_string();
        let component = r#"{"os":"wasip2","architecture":"wasm","component":{"exports":[]}}"#;
        assert_eq!(of((media::WASM_CONFIG, component), media::WASM_LAYER), "component");
        assert_eq!(of((media::WASM_CONFIG, r#"{"os":"wasip1"}"#), media::WASM_LAYER), "module");
        assert_eq!(of(("application/vnd.oci.empty.v1+json", "{}"), media::WASM_LAYERS[1]), "wasm");
        let docker = r#"{"os":"wasi","architecture":"wasm"}"#;
        assert_eq!(
            of(("application/vnd.oci.image.config.v1+json", docker), "application/vnd.oci.image.layer.v1.tar+gzip"),
            "wasi/wasm"
        );
        let chart = of(
            ("application/vnd.cncf.helm.config.v1+json", "[]"),
            "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
        );
        assert_eq!(chart, "application/vnd.cncf.helm.config.v1+json");
        let index = Manifest { schema_version: 2, manifests: Some(vec![]), ..Manifest::default() };
        assert_eq!(Summary::of(&index, media::OCI_INDEX, b"").kind, ImageKind::Index);
    }

    #[test]
    fn a_time_that_says_nothing_is_none() {
        let at = |text: &str| {
            summary((media::WASM_CONFIG, &format!(r#"{{"created":"{text}"}}"#)), media::WASM_LAYER).created
        };
        assert_eq!(at("2026-03-04T10:00:00.5Z"), Some("2026-03-04T10:00:00.5Z".parse().unwrap()));
        assert_eq!(at("1970-01-01T00:00:00Z"), None);
        assert_eq!(at("0001-01-01T00:00:00Z"), None);
        assert_eq!(at("yesterday"), None);
        assert_eq!(summary((media::WASM_CONFIG, "{}"), media::WASM_LAYER).bytes, 110);
    }
}
