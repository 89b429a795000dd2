//! Signatures of images, in both forms, as any registry may hand them out: what counts was signed over this image's digest.

use std::sync::LazyLock;

use skiff_api::trust::PublicKey;
use skiff_api::{Digest, Trust};
use skiff_registry::sign::{Attached, Signature, judge};

/// The seeds are signatures of this image, by this key.
static IMAGE: LazyLock<Option<Digest>> =
    LazyLock::new(|| format!("sha256:{}", include_str!("../../registry/src/sign/fixtures/DIGEST")).parse().ok());
static KEY: LazyLock<Option<PublicKey>> =
    LazyLock::new(|| include_str!("../../registry/src/sign/fixtures/p256.pub").parse().ok());

pub fn check(data: &[u8]) {
    assert!(IMAGE.is_some() && KEY.is_some(), "the fixtures cannot be read");
    let (Some(image), Some(key)) = (&*IMAGE, &*KEY) else { return };
    // The simple form is two files: here the base64 of the signature is the first line.
    let bundle = Signature::Bundle(data.to_vec().into());
    let simple = data.iter().position(|byte| *byte == b'\n').and_then(|end| {
        let signature = str::from_utf8(&data[..end]).ok()?.to_owned();
        Some(Signature::Simple { payload: data[end + 1..].to_vec().into(), signature })
    });
    for signature in [Some(bundle), simple].into_iter().flatten() {
        let Ok(claim) = signature.claim(image) else {
            let attached = Attached { signatures: vec![signature], ..Attached::default() };
            assert!(judge(&trust(key), image, &attached).is_err(), "what claims nothing counts");
            continue;
        };
        let said = String::from_utf8_lossy(&claim.message);
        assert!(said.contains(image.hex()), "it claims another image: {said}");
        let attached = Attached { signatures: vec![signature], ..Attached::default() };
        let counts = judge(&trust(key), image, &attached).is_ok();
        assert_eq!(counts, skiff_registry::sign::key::verifies(key, &claim.message, &claim.signature));
    }
}

fn trust(key: &PublicKey) -> Trust {
    Trust { policies: [("release".to_owned(), vec![key.clone()])].into() }
}
