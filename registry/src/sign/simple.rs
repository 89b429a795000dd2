//! The simple form: a short text that names a digest, as a layer of the image `sha256-HEX.sig`, with its signature beside it.
//!
//! The text is that of containers-signature(5); cosign gives it a type of its own, and ignores the name in it.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use skiff_api::Digest;

use super::private::{SignError, SigningKey};
use super::{Claim, PAYLOAD_BYTES_MAX, Signature, Unfit, quoted};
use crate::hash::sha256;
use crate::manifest::{Descriptor, Manifest, media};

/// The type of the layer.
pub const PAYLOAD_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// The annotation of the layer that is its signature, in base64.
pub const ANNOTATION: &str = "dev.cosignproject.cosign/signature";

const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";

/// What the text is.
const KIND: &str = "cosign container image signature";

/// The tag under which the signatures of an image are. `None`: its name would be longer than a tag may be.
pub fn tag(digest: &Digest) -> Option<String> {
    let tag = format!("{}-{}.sig", digest.algorithm().name(), digest.hex());
    skiff_api::image::is_tag(&tag).then_some(tag)
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload<'a> {
    #[serde(borrow)]
    critical: Critical<'a>,
    /// Anybody's claims.
    #[serde(default)]
    optional: Option<&'a RawValue>,
}

/// Whoever does not know a field in here must not accept the signature, says the format.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical<'a> {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: std::borrow::Cow<'a, str>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Identity {
    docker_reference: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Image {
    docker_manifest_digest: String,
}

/// What a signature of this form claims of an image.
pub fn claim(payload: &[u8], signature: &str, digest: &Digest) -> Result<Claim, Unfit> {
    if payload.len() as u64 > PAYLOAD_BYTES_MAX {
        return Err(Unfit::TooLarge);
    }
    let Payload { critical, .. } = serde_json::from_slice(payload).map_err(Unfit::unreadable)?;
    if critical.kind != KIND {
        return Err(Unfit::Field { what: "its type", found: quoted(&critical.kind), expected: KIND });
    }
    let named = critical.image.docker_manifest_digest;
    if named != digest.to_string() {
        return Err(Unfit::OtherDigest { found: quoted(&named) });
    }
    let signature = STANDARD.decode(signature).map_err(Unfit::unreadable)?;
    Ok(Claim { message: payload.to_vec(), signature, hint: None })
}

/// Signs an image. `name` is what it is called where it is signed, `HOST/REPOSITORY`: people may want to read it.
pub fn sign(key: &SigningKey, name: &str, digest: &Digest) -> Result<Signature, SignError> {
    let payload = Payload {
        critical: Critical {
            identity: Identity { docker_reference: name.to_owned() },
            image: Image { docker_manifest_digest: digest.to_string() },
            kind: KIND.into(),
        },
        optional: None,
    };
    // Texts in a struct have a JSON form.
    let payload = Bytes::from(serde_json::to_vec(&payload).unwrap_or_default());
    let signature = STANDARD.encode(key.sign(&payload)?);
    Ok(Signature::Simple { payload, signature })
}

/// The layers of a manifest that are signatures, with what signs each.
pub fn layers(manifest: &Manifest) -> impl Iterator<Item = (&Descriptor, &str)> {
    manifest.layers.iter().flatten().filter(|layer| layer.media_type == PAYLOAD_TYPE).filter_map(|layer| {
        let signature = layer.annotations.as_ref()?.get(ANNOTATION)?;
        Some((layer, signature.as_str()))
    })
}

/// What is to be stored under the tag.
#[derive(Debug)]
pub struct SignedImage {
    pub blobs: Vec<Bytes>,
    pub manifest: Bytes,
}

/// The image with one more signature than `before`, which is what is under the tag now.
pub fn image(before: Option<&Manifest>, payload: &Bytes, signature: &str) -> SignedImage {
    let mut layers = before.and_then(|before| before.layers.clone()).unwrap_or_default();
    let annotations = BTreeMap::from([(ANNOTATION.to_owned(), signature.to_owned())]);
    let layer = Descriptor::new(PAYLOAD_TYPE, sha256(payload), payload.len() as u64);
    layers.push(Descriptor { annotations: Some(annotations), ..layer });
    let config = Bytes::from(config(&layers));
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media::OCI_MANIFEST.to_owned()),
        config: Some(Descriptor::new(CONFIG_TYPE, sha256(&config), config.len() as u64)),
        layers: Some(layers),
        ..Manifest::default()
    };
    // As above.
    let manifest = Bytes::from(serde_json::to_vec(&manifest).unwrap_or_default());
    SignedImage { blobs: vec![payload.clone(), config], manifest }
}

/// The config of an image that is for no machine: registries and tools want one that names its layers.
fn config(layers: &[Descriptor]) -> String {
    let digests: Vec<&Digest> = layers.iter().map(|layer| &layer.digest).collect();
    serde_json::json!({
        "architecture": "", "os": "", "config": {},
        "rootfs": {"type": "layers", "diff_ids": digests},
    })
    .to_string()
}
