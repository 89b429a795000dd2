//! Signatures of images: made, attached, found and checked. Pure: whoever has bytes, has all that it takes.
//!
//! Two forms are understood, both cosign's, both made with a key:
//!
//! | form | where it is | what is signed |
//! |---|---|---|
//! | [`simple`] (cosign up to 2, podman, skopeo) | the tag `sha256-HEX.sig`, a layer for each signature | the layer: a text that names the digest |
//! | [`bundle`] (cosign 3) | a manifest that refers to the image | a DSSE envelope around an in-toto statement |
//!
//! - [`key`]: what a public key says of a message. [`private`]: the other half, as openssl and cosign keep it.
//! - [`attached`]: which of a registry's manifests carry signatures of an image.
//! - [`mod@judge`]: whether what was found is what the policies ask for, and if not, what was found.
//!
//! **What is checked.** The signature over the very bytes, by a key that the policy names; that these bytes name the digest
//! of the manifest that is about to run; each field that the formats fix. What they say of a name or a place proves
//! nothing and is not looked at: a signature moves with the image. Certificates and transparency logs are not looked at
//! either: a node has to decide alone, without a clock that it can rely on.
//!
//! **What is bounded**: how many signatures of an image are read, and how large each may be. What goes beyond is left out
//! and named, so that it cannot hide that a signature is missing, only that one is there.

pub mod attached;
pub mod bundle;
pub mod judge;
pub mod key;
pub mod private;
pub mod simple;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skiff_api::Digest;

pub use attached::{Attached, Carrier, Piece};
pub use judge::{Refusal, Seen, judge, look};
pub use key::fingerprint;
pub use private::{GeneratedKey, InvalidPrivateKey, SigningKey};

/// How many manifests with signatures of one image are looked at, and how many signatures in all. A release has one or
/// two, for each key.
pub const SIGNATURES_MAX: usize = 32;

/// The largest text that is signed in the simple form. cosign's have 250 bytes; people may add claims.
pub const PAYLOAD_BYTES_MAX: u64 = 16 << 10;

/// The largest bundle. One with an entry of a transparency log has 10 KiB.
pub const BUNDLE_BYTES_MAX: u64 = 64 << 10;

/// A signature as it was found, not checked in any way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    Simple {
        payload: Bytes,
        /// Base64.
        signature: String,
    },
    Bundle(Bytes),
}

/// The form of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    Simple,
    Bundle,
}

impl Form {
    pub fn name(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Bundle => "bundle",
        }
    }
}

/// Why something that was found is no signature of an image, before any key is tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("it cannot be read: {why}")]
    Unreadable { why: String },
    #[error("it is too large")]
    TooLarge,
    #[error("it is of another image, {found}")]
    OtherDigest { found: String },
    #[error("{what} is {found}, not {expected}")]
    Field { what: &'static str, found: String, expected: &'static str },
    #[error("it was made with a certificate, not with a key")]
    Certificate,
    #[error("it has {found} {what}, not one")]
    NotOne { what: &'static str, found: usize },
    #[error("its two hints of the key differ")]
    Hints,
}

impl Unfit {
    fn unreadable(error: impl std::fmt::Display) -> Self {
        Self::Unreadable { why: quoted(&error.to_string()) }
    }
}

/// What has to be verified of a signature that is one of this image: these bytes were signed thus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    pub message: Vec<u8>,
    pub signature: Vec<u8>,
    /// Which key it says it is from; proves nothing.
    pub hint: Option<String>,
}

impl Signature {
    pub fn form(&self) -> Form {
        match self {
            Self::Simple { .. } => Form::Simple,
            Self::Bundle(_) => Form::Bundle,
        }
    }

    /// What it claims of this image. Whether that is true, a key says.
    pub fn claim(&self, digest: &Digest) -> Result<Claim, Unfit> {
        match self {
            Self::Simple { payload, signature } => simple::claim(payload, signature, digest),
            Self::Bundle(bundle) => bundle::claim(bundle, digest),
        }
    }
}

/// A stranger's words, short and without what a terminal would obey.
fn quoted(text: &str) -> String {
    text.chars().take(100).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests;
