//! The bundle: a Sigstore bundle 0.3 made with a key, as the only layer of a manifest that refers to the image.
//!
//! ```text
//! manifest, subject: the image ── layer ──> bundle ── DSSE envelope ──> in-toto statement: subject, predicate type
//! ```
//! Each of these names what it is, and all but the manifest are under the signature, or are compared with what is.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::json;
use skiff_api::Digest;

use super::key::hint;
use super::private::{SignError, SigningKey};
use super::{BUNDLE_BYTES_MAX, Claim, Signature, Unfit, quoted};
use crate::hash::sha256;
use crate::manifest::{Descriptor, Manifest, media};

/// The type of a bundle, of its layer, and of the manifest around it.
pub const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// What kind of statement a signature of an image is. Others, about how it was built say, are made with keys as well.
pub const PREDICATE_TYPE: &str = "https://sigstore.dev/cosign/sign/v1";

const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
const EMPTY: &[u8] = b"{}";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Option<Envelope>,
    message_signature: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Material {
    public_key: Option<KeyId>,
    certificate: Option<IgnoredAny>,
    x509_certificate_chain: Option<IgnoredAny>,
    /// Not looked at: see the module above.
    #[serde(default, rename = "tlogEntries")]
    _log: Option<IgnoredAny>,
    #[serde(default, rename = "timestampVerificationData")]
    _times: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyId {
    #[serde(default)]
    hint: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeSignature {
    sig: String,
    #[serde(default)]
    keyid: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
    #[serde(default)]
    predicate: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subject {
    digest: BTreeMap<String, String>,
}

/// What a bundle claims of an image.
pub fn claim(bundle: &[u8], digest: &Digest) -> Result<Claim, Unfit> {
    if bundle.len() as u64 > BUNDLE_BYTES_MAX {
        return Err(Unfit::TooLarge);
    }
    let bundle: Bundle = serde_json::from_slice(bundle).map_err(Unfit::unreadable)?;
    is("its type", &bundle.media_type, BUNDLE_TYPE)?;
    let Material { public_key, certificate, x509_certificate_chain, .. } = bundle.verification_material;
    let Some(key) = public_key.filter(|_| certificate.is_none() && x509_certificate_chain.is_none()) else {
        return Err(Unfit::Certificate);
    };
    let Some(envelope) = bundle.dsse_envelope.filter(|_| bundle.message_signature.is_none()) else {
        let (found, expected) = ("a signature of a message".to_owned(), "a DSSE envelope");
        return Err(Unfit::Field { what: "its content", found, expected });
    };
    is("the type of what is signed", &envelope.payload_type, PAYLOAD_TYPE)?;
    let [signature] = envelope.signatures.as_slice() else {
        return Err(Unfit::NotOne { what: "signatures", found: envelope.signatures.len() });
    };
    // Both may be left out, and either: they are hints.
    if !signature.keyid.is_empty() && !key.hint.is_empty() && signature.keyid != key.hint {
        return Err(Unfit::Hints);
    }
    let payload = STANDARD.decode(&envelope.payload).map_err(Unfit::unreadable)?;
    statement(&payload, digest)?;
    let sig = STANDARD.decode(&signature.sig).map_err(Unfit::unreadable)?;
    let hint = [key.hint, signature.keyid.clone()].into_iter().find(|hint| !hint.is_empty());
    Ok(Claim { message: encoded(PAYLOAD_TYPE, &payload), signature: sig, hint: hint.map(|hint| quoted(&hint)) })
}

/// Whether the statement is that somebody signs this image, and no other.
fn statement(payload: &[u8], digest: &Digest) -> Result<(), Unfit> {
    let statement: Statement = serde_json::from_slice(payload).map_err(Unfit::unreadable)?;
    is("its statement", &statement.kind, STATEMENT_TYPE)?;
    is("its predicate", &statement.predicate_type, PREDICATE_TYPE)?;
    let [subject] = statement.subject.as_slice() else {
        return Err(Unfit::NotOne { what: "subjects", found: statement.subject.len() });
    };
    let named = subject.digest.get(digest.algorithm().name());
    match named.is_some_and(|named| named == digest.hex()) {
        true => Ok(()),
        false => {
            let first = subject.digest.iter().next();
            let found = first.map_or_else(|| "none".to_owned(), |(algorithm, hex)| format!("{algorithm}:{hex}"));
            Err(Unfit::OtherDigest { found: quoted(&found) })
        }
    }
}

fn is(what: &'static str, found: &str, expected: &'static str) -> Result<(), Unfit> {
    match found == expected {
        true => Ok(()),
        false => Err(Unfit::Field { what, found: quoted(found), expected }),
    }
}

/// What is signed of an envelope (DSSE's pre-authentication encoding): no two types and payloads have the same.
fn encoded(kind: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// Signs an image.
pub fn sign(key: &SigningKey, digest: &Digest) -> Result<Signature, SignError> {
    let statement = Statement {
        kind: STATEMENT_TYPE.to_owned(),
        subject: vec![Subject {
            digest: BTreeMap::from([(digest.algorithm().name().to_owned(), digest.hex().to_owned())]),
        }],
        predicate_type: PREDICATE_TYPE.to_owned(),
        predicate: serde_json::Map::new(),
    };
    // Texts in a struct have a JSON form.
    let payload = serde_json::to_vec(&statement).unwrap_or_default();
    let signature = key.sign(&encoded(PAYLOAD_TYPE, &payload))?;
    let hint = hint(key.public());
    let bundle = json!({
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hint}},
        "dsseEnvelope": {
            "payload": STANDARD.encode(payload),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": STANDARD.encode(signature), "keyid": hint}],
        },
    });
    Ok(Signature::Bundle(Bytes::from(bundle.to_string())))
}

/// The layer of a manifest that is a bundle about this image. That it says so proves nothing.
pub fn layer<'a>(manifest: &'a Manifest, subject: &Digest) -> Option<&'a Descriptor> {
    let is_about = manifest.subject.as_ref().is_some_and(|of| of.digest == *subject);
    match manifest.layers.as_deref() {
        Some([layer]) if is_about && manifest.artifact_kind() == Some(BUNDLE_TYPE) => {
            Some(layer).filter(|layer| layer.media_type == BUNDLE_TYPE)
        }
        _ => None,
    }
}

/// The manifest around a bundle about `subject`, and the blobs that it names. `created`: when, in RFC 3339.
pub fn image(bundle: &Bytes, subject: Descriptor, created: &str) -> (Bytes, Vec<Bytes>) {
    let annotation = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media::OCI_MANIFEST.to_owned()),
        artifact_type: Some(BUNDLE_TYPE.to_owned()),
        config: Some(Descriptor::new(EMPTY_TYPE, sha256(EMPTY), EMPTY.len() as u64)),
        layers: Some(vec![Descriptor::new(BUNDLE_TYPE, sha256(bundle), bundle.len() as u64)]),
        subject: Some(subject),
        annotations: Some(BTreeMap::from([
            annotation("dev.sigstore.bundle.content", "dsse-envelope"),
            annotation("dev.sigstore.bundle.predicateType", PREDICATE_TYPE),
            annotation("org.opencontainers.image.created", created),
        ])),
        ..Manifest::default()
    };
    // As above.
    let manifest = Bytes::from(serde_json::to_vec(&manifest).unwrap_or_default());
    (manifest, vec![bundle.clone(), Bytes::from_static(EMPTY)])
}
