//! Keys as people paste them: a public one is read back from its own text.

use skiff_api::trust::PublicKey;
use skiff_registry::sign::{SigningKey, fingerprint};

pub fn check(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(key) = text.parse::<PublicKey>() {
        let again: Result<PublicKey, _> = key.to_string().parse();
        assert_eq!(again.ok().as_ref().map(fingerprint), Some(fingerprint(&key)), "{text:?}");
    }
    // One under a passphrase costs a second on purpose, each time.
    if !SigningKey::is_sealed(text)
        && let Ok(key) = SigningKey::read(text, None)
    {
        let signature = key.sign(b"text").unwrap_or_default();
        assert!(skiff_registry::sign::key::verifies(key.public(), b"text", &signature));
    }
}
