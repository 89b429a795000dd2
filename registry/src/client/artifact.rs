//! A component in the CNCF wasm artifact layout: a manifest, a config and one uncompressed layer.
//!
//! The same component gives the same bytes and so the same digest, whenever and wherever it is packed: pushing twice is
//! no change, and a digest in a manifest file can be reproduced. Hence `created` is the epoch unless it is set.

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use skiff_api::Digest;

use super::component::{Component, InvalidWasm, World};
use crate::hash::sha256;
use crate::manifest::{Descriptor, Manifest, media};

/// A component, packed and ready to be pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    component: Component,
    layer: Descriptor,
    config: Blob,
    manifest: Blob,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Blob {
    digest: Digest,
    bytes: Bytes,
}

/// The config of the layout. The order of the fields is part of the digest.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Config<'a> {
    created: String,
    architecture: &'static str,
    os: &'static str,
    layer_digests: [&'a Digest; 1],
    component: Interfaces<'a>,
}

#[derive(Debug, Serialize)]
struct Interfaces<'a> {
    exports: &'a [String],
    imports: &'a [String],
}

impl Artifact {
    /// Packs the content of a `.wasm` file: a component, or a core wasip1 module, which is adapted to one. `file` names
    /// it in errors. The config says that it was created at 1970-01-01T00:00:00Z.
    pub fn from_wasm(file: &str, bytes: impl Into<Bytes>) -> Result<Self, InvalidWasm> {
        Component::read(file, bytes).map(|component| Self::pack(component, Timestamp::UNIX_EPOCH))
    }

    /// The same artifact with another time in its config, to the second.
    #[must_use]
    pub fn created(self, at: Timestamp) -> Self {
        Self::pack(self.component, at)
    }

    fn pack(component: Component, created: Timestamp) -> Self {
        let layer = Descriptor::new(media::WASM_LAYER, sha256(&component.bytes), component.bytes.len() as u64);
        let config = Blob::json(&Config {
            created: created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            architecture: "wasm",
            os: "wasip2",
            layer_digests: [&layer.digest],
            component: Interfaces { exports: &component.world.exports, imports: &component.world.imports },
        });
        let manifest = Blob::json(&Manifest {
            schema_version: 2,
            media_type: Some(media::OCI_MANIFEST.to_owned()),
            config: Some(Descriptor::new(media::WASM_CONFIG, config.digest.clone(), config.bytes.len() as u64)),
            layers: Some(vec![layer.clone()]),
            ..Manifest::default()
        });
        Self { component, layer, config, manifest }
    }

    /// The manifest's digest: the artifact's identity.
    pub fn digest(&self) -> &Digest {
        &self.manifest.digest
    }

    /// The manifest, byte for byte.
    pub fn manifest(&self) -> &Bytes {
        &self.manifest.bytes
    }

    /// What has to be there before the manifest: digests and bytes.
    pub fn blobs(&self) -> [(&Digest, &Bytes); 2] {
        [(&self.layer.digest, &self.component.bytes), (&self.config.digest, &self.config.bytes)]
    }

    /// The component itself.
    pub fn component(&self) -> &Bytes {
        &self.component.bytes
    }

    /// What the component imports and exports.
    pub fn world(&self) -> &World {
        &self.component.world
    }

    /// Whether the file was a core module.
    pub fn is_adapted(&self) -> bool {
        self.component.adapted
    }
}

impl Blob {
    fn json(value: &impl Serialize) -> Self {
        // Serialising these structs cannot fail: their keys are text and they hold no floats.
        let bytes = Bytes::from(serde_json::to_vec(value).unwrap_or_default());
        Self { digest: sha256(&bytes), bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact() -> Artifact {
        let text = r#"(component (import "a:b/c@1.0.0" (instance)))"#;
        Artifact::from_wasm("a.wasm", wat::parse_str(text).unwrap()).unwrap()
    }

    #[test]
    fn follows_the_layout_to_the_byte() {
        let artifact = artifact();
        let layer = sha256(artifact.component());
        let config = format!(
            r#"{{"created":"1970-01-01T00:00:00Z","architecture":"wasm","os":"wasip2","layerDigests":["{layer}"],"component":{{"exports":[],"imports":["a:b/c@1.0.0"]}}}}"#
        );
        assert_eq!(artifact.config.bytes, config);
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.wasm.config.v0+json","digest":"{}","size":{}}},"layers":[{{"mediaType":"application/wasm","digest":"{layer}","size":{}}}]}}"#,
            sha256(config.as_bytes()),
            config.len(),
            artifact.component().len()
        );
        assert_eq!(artifact.manifest(), &manifest);
        assert_eq!(artifact.digest(), &sha256(manifest.as_bytes()));
    }

    #[test]
    fn has_one_digest_for_the_same_bytes_and_time() {
        let at = Timestamp::from_second(1_700_000_000).unwrap();
        assert_eq!(artifact().digest(), artifact().digest());
        assert_ne!(artifact().digest(), artifact().created(at).digest());
        assert_eq!(artifact().created(at), artifact().created(at));
    }
}
