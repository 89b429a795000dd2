//! Manifests as OCI and Docker write them: what is shared by whoever writes, checks or reads one.
//!
//! Reading is lenient, since anything may have been pushed: unknown fields are ignored and nearly everything may be
//! missing. The bytes of a manifest are its identity, so they are kept and passed on raw, never written anew from this.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use skiff_api::Digest;

/// Media types, from the OCI and CNCF specifications and from the tools that came before them.
pub mod media {
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// The config of the CNCF wasm artifact layout.
    pub const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
    /// The layer of the CNCF wasm artifact layout.
    pub const WASM_LAYER: &str = "application/wasm";
    /// Layers that are wasm as they are, whoever pushed them: the CNCF layout; spin and wasm-to-oci; runwasi; old
    /// wasmCloud and Istio.
    pub const WASM_LAYERS: [&str; 4] = [
        WASM_LAYER,
        "application/vnd.wasm.content.layer.v1+wasm",
        "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
        "application/vnd.module.wasm.content.layer.v1+wasm",
    ];
}

/// The largest manifest that is accepted: what the distribution specification tells registries to allow at least, and
/// what the big ones allow at most.
pub const MANIFEST_BYTES_MAX: usize = 4 << 20;

/// A reference to content by type, digest and size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

impl Descriptor {
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self { media_type: media_type.into(), digest, size, artifact_type: None, annotations: None, platform: None }
    }

    /// Whether the content lives elsewhere by design (Windows base layers): a registry must not insist on having it.
    pub fn is_foreign(&self) -> bool {
        self.media_type.contains("nondistributable") || self.media_type.contains(".foreign.")
    }
}

/// What an entry of an index runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
}

/// Any manifest: an image or artifact has `config` and `layers`, an index has `manifests`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<Descriptor>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifests: Option<Vec<Descriptor>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

impl Manifest {
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The blobs that must be there before this manifest may be.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.config.iter().chain(self.layers.iter().flatten()).filter(|blob| !blob.is_foreign())
    }

    /// The manifests that must be there before this one may be.
    pub fn children(&self) -> impl Iterator<Item = &Descriptor> {
        self.manifests.iter().flatten()
    }

    /// What kind of artifact this is in a list of referrers: its own word, else its config's type.
    pub fn artifact_kind(&self) -> Option<&str> {
        self.artifact_type.as_deref().or(self.config.as_ref().map(|config| config.media_type.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_manifest_with_fields_it_does_not_know() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let text = format!(
            r#"{{"schemaVersion":2,"later":1,"config":{{"mediaType":"x/y","digest":"{digest}","size":2,"data":"e30="}},
                "layers":[{{"mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar","digest":"{digest}","size":1}}]}}"#
        );
        let manifest = Manifest::parse(text.as_bytes()).unwrap();
        assert_eq!(manifest.blobs().count(), 1, "the foreign layer must not be asked for");
        assert_eq!(manifest.artifact_kind(), Some("x/y"));
    }

    #[test]
    fn refuses_a_descriptor_without_a_proper_digest() {
        assert!(
            Manifest::parse(br#"{"schemaVersion":2,"layers":[{"mediaType":"a/b","digest":"sha256:zz","size":1}]}"#)
                .is_err()
        );
    }
}
