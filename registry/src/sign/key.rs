//! What a public key says of a message.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Sha512, VerifyingKey};
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use sha2::digest::Digest as _;
use skiff_api::trust::{KeyAlgorithm, PublicKey};

use crate::hash::sha256;

/// The digest of a key's DER form: `openssl pkey -pubin -in KEY.pub -outform der | sha256sum` prints the same.
pub fn fingerprint(key: &PublicKey) -> skiff_api::Digest {
    sha256(key.der())
}

/// What cosign calls a key in a bundle: the same digest, in base64.
pub fn hint(key: &PublicKey) -> String {
    STANDARD.encode(sha2::Sha256::digest(key.der()))
}

/// Whether the holder of a key signed a message. An Ed25519 signature may be of the message or, as cosign makes them since
/// 2.5, of its hash (Ed25519ph); the two cannot be taken for one another.
pub fn verifies(key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
    match key.algorithm() {
        KeyAlgorithm::P256 => {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.bytes()).verify(message, signature).is_ok()
        }
        KeyAlgorithm::Ed25519 => ed25519(key.bytes(), message, signature).unwrap_or(false),
    }
}

fn ed25519(key: &[u8], message: &[u8], signature: &[u8]) -> Option<bool> {
    let key = VerifyingKey::from_bytes(key.try_into().ok()?).ok()?;
    let signature = ed25519_dalek::Signature::from_slice(signature).ok()?;
    let of_message = key.verify_strict(message, &signature).is_ok();
    let of_hash = || {
        let hash = <Sha512 as ed25519_dalek::Digest>::new_with_prefix(message);
        key.verify_prehashed_strict(hash, None, &signature).is_ok()
    };
    Some(of_message || of_hash())
}
