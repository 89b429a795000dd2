//! Which manifests of a repository carry signatures of an image, and where in them.

use bytes::Bytes;
use skiff_api::Digest;

use super::{BUNDLE_BYTES_MAX, PAYLOAD_BYTES_MAX, SIGNATURES_MAX, Signature, bundle, simple};
use crate::manifest::{Descriptor, Manifest};

/// A manifest that carries signatures, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carrier {
    /// The tag that it is found by; one that is not found by a tag refers to the image.
    pub tag: Option<String>,
    pub media_type: String,
    pub bytes: Bytes,
    pub manifest: Manifest,
}

/// A blob that is, or is part of, a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    pub blob: Descriptor,
    /// What signs it, in the simple form.
    pub signature: Option<String>,
}

impl Piece {
    /// The signature, of its blob's bytes.
    pub fn with(self, bytes: Bytes) -> Signature {
        match self.signature {
            Some(signature) => Signature::Simple { payload: bytes, signature },
            None => Signature::Bundle(bytes),
        }
    }
}

/// What was found of an image's signatures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attached {
    pub signatures: Vec<Signature>,
    /// What was left out, and why.
    pub skipped: Vec<String>,
}

impl Attached {
    /// Notes what is left out, as long as it is worth reading.
    pub fn skip(&mut self, what: impl Into<String>) {
        if self.skipped.len() < SIGNATURES_MAX {
            self.skipped.push(what.into());
        }
    }

    /// The pieces to read of these manifests: as many as are looked at, and none that is too large.
    pub fn pieces(&mut self, carriers: &[Carrier], subject: &Digest) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for Carrier { tag, manifest, .. } in carriers {
            let (found, bytes_max): (Vec<Piece>, _) = match tag {
                Some(_) => {
                    let layers = simple::layers(manifest);
                    let piece = |(blob, signature): (&Descriptor, &str)| Piece {
                        blob: blob.clone(),
                        signature: Some(signature.to_owned()),
                    };
                    (layers.map(piece).collect(), PAYLOAD_BYTES_MAX)
                }
                None => {
                    let layer = bundle::layer(manifest, subject).cloned();
                    (layer.map(|blob| Piece { blob, signature: None }).into_iter().collect(), BUNDLE_BYTES_MAX)
                }
            };
            for piece in found {
                match () {
                    () if piece.blob.size > bytes_max => {
                        self.skip(format!(
                            "one with {} bytes, more than the {bytes_max} that are read",
                            piece.blob.size
                        ));
                    }
                    () if pieces.len() == SIGNATURES_MAX => {
                        self.skip(format!("more than the {SIGNATURES_MAX} that are read"));
                        return pieces;
                    }
                    () => pieces.push(piece),
                }
            }
        }
        pieces
    }
}
