//! Against what openssl made (`fixtures/make.sh`), field by field.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use skiff_api::{PublicKey, Trust};

use super::judge::What;
use super::*;
use crate::manifest::{Descriptor, Manifest, media};

/// What makes a good one bad.
type Change = fn(&mut Value);

const STATEMENT: &str = include_str!("fixtures/statement.json");
const SIMPLE: &str = include_str!("fixtures/simple.json");

struct Pair {
    private: &'static str,
    public: &'static str,
    hint: &'static str,
    simple: &'static str,
    bundle: &'static str,
}

const P256: Pair = Pair {
    private: include_str!("fixtures/p256.key"),
    public: include_str!("fixtures/p256.pub"),
    hint: include_str!("fixtures/p256.hint"),
    simple: include_str!("fixtures/p256.simple.sig"),
    bundle: include_str!("fixtures/p256.bundle.json"),
};
const ED25519: Pair = Pair {
    private: include_str!("fixtures/ed25519.key"),
    public: include_str!("fixtures/ed25519.pub"),
    hint: include_str!("fixtures/ed25519.hint"),
    simple: include_str!("fixtures/ed25519.simple.sig"),
    bundle: include_str!("fixtures/ed25519.bundle.json"),
};

impl Pair {
    fn public(&self) -> PublicKey {
        self.public.parse().unwrap()
    }

    fn private(&self) -> SigningKey {
        SigningKey::read(self.private, None).unwrap()
    }

    fn simple(&self) -> Signature {
        simple_of(SIMPLE, self.simple)
    }

    fn bundle(&self) -> Signature {
        Signature::Bundle(Bytes::from_static(self.bundle.as_bytes()))
    }

    /// A statement of any content, signed properly.
    fn stating(&self, change: impl FnOnce(&mut Value)) -> Signature {
        let mut statement: Value = serde_json::from_str(STATEMENT).unwrap();
        change(&mut statement);
        let (kind, payload) = ("application/vnd.in-toto+json", statement.to_string());
        let pae = format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len());
        let sig = STANDARD.encode(self.private().sign(pae.as_bytes()).unwrap());
        let mut bundle: Value = serde_json::from_str(self.bundle).unwrap();
        bundle["dsseEnvelope"]["payload"] = STANDARD.encode(payload).into();
        bundle["dsseEnvelope"]["signatures"][0]["sig"] = sig.into();
        Signature::Bundle(bundle.to_string().into())
    }

    /// A payload of any content, signed properly.
    fn claiming(&self, change: impl FnOnce(&mut Value)) -> Signature {
        let mut payload: Value = serde_json::from_str(SIMPLE).unwrap();
        change(&mut payload);
        let payload = payload.to_string();
        let signature = STANDARD.encode(self.private().sign(payload.as_bytes()).unwrap());
        simple_of(&payload, &signature)
    }
}

fn simple_of(payload: &str, signature: &str) -> Signature {
    Signature::Simple { payload: Bytes::copy_from_slice(payload.as_bytes()), signature: signature.to_owned() }
}

fn image() -> Digest {
    format!("sha256:{}", include_str!("fixtures/DIGEST")).parse().unwrap()
}

fn other() -> Digest {
    format!("sha256:{}", "cd".repeat(32)).parse().unwrap()
}

fn trust(policies: &[(&str, &[&Pair])]) -> Trust {
    let keys = |pairs: &[&Pair]| pairs.iter().map(|pair| pair.public()).collect();
    Trust { policies: policies.iter().map(|(name, pairs)| ((*name).to_owned(), keys(pairs))).collect() }
}

fn attached(signatures: Vec<Signature>) -> Attached {
    Attached { signatures, skipped: Vec::new() }
}

fn judged(pair: &Pair, signature: Signature) -> Result<(), String> {
    judge(&trust(&[("p", &[pair])]), &image(), &attached(vec![signature])).map_err(|refusal| refusal.to_string())
}

#[test]
fn what_openssl_signed_as_specified_is_accepted() {
    for pair in [P256, ED25519] {
        assert_eq!(judged(&pair, pair.simple()), Ok(()));
        assert_eq!(judged(&pair, pair.bundle()), Ok(()));
        assert_eq!(key::hint(&pair.public()), pair.hint);
    }
}

#[test]
fn what_is_signed_here_has_the_same_form() {
    for pair in [P256, ED25519] {
        let key = pair.private();
        assert_eq!(*key.public(), pair.public());
        let Signature::Simple { payload, signature } =
            simple::sign(&key, "registry.example/shop/cart", &image()).unwrap()
        else {
            panic!("simple")
        };
        let mut ours: Value = serde_json::from_slice(&payload).unwrap();
        let theirs: Value = serde_json::from_str(SIMPLE).unwrap();
        assert_eq!(ours["optional"].take(), Value::Null);
        assert_eq!(ours["critical"], theirs["critical"]);
        assert_eq!(judged(&pair, Signature::Simple { payload, signature }), Ok(()));

        let Signature::Bundle(bytes) = bundle::sign(&key, &image()).unwrap() else { panic!("bundle") };
        let mut ours: Value = serde_json::from_slice(&bytes).unwrap();
        let mut theirs: Value = serde_json::from_str(pair.bundle).unwrap();
        let signature = ours["dsseEnvelope"]["signatures"].take();
        theirs["dsseEnvelope"]["signatures"].take();
        assert_eq!(ours, theirs, "all but the signature is the same, to the byte of its payload");
        assert_eq!(signature[0]["keyid"], pair.hint);
        assert_eq!(judged(&pair, Signature::Bundle(bytes)), Ok(()));
    }
}

/// cosign signs hashes with Ed25519 keys (Ed25519ph), by default.
#[test]
fn an_ed25519_signature_of_the_hash_counts_as_well() {
    let block = pem::parse(ED25519.private).unwrap();
    let seed: [u8; 32] = block.contents()[16..].try_into().unwrap();
    let key = ed25519_dalek::SigningKey::from_bytes(&seed);
    let hash = <ed25519_dalek::Sha512 as ed25519_dalek::Digest>::new_with_prefix(SIMPLE.as_bytes());
    let signature = key.sign_prehashed(hash, None).unwrap();
    assert_eq!(judged(&ED25519, simple_of(SIMPLE, &STANDARD.encode(signature.to_bytes()))), Ok(()));
}

#[test]
fn a_signature_of_another_image_or_by_another_key_does_not_count() {
    for pair in [P256, ED25519] {
        for signature in [pair.simple(), pair.bundle()] {
            let found = attached(vec![signature]);
            let refusal = judge(&trust(&[("p", &[&pair])]), &other(), &found).unwrap_err().to_string();
            assert!(refusal.contains("it is of another image, sha256:abab"), "{refusal}");
            let revoked = if pair.hint == P256.hint { &ED25519 } else { &P256 };
            let refusal = judge(&trust(&[("p", &[revoked])]), &image(), &found).unwrap_err().to_string();
            assert!(refusal.contains("by another key"), "{refusal}");
        }
    }
}

#[test]
fn what_names_another_digest_does_not_count_however_well_it_is_signed() {
    let simple =
        P256.claiming(|payload| payload["critical"]["image"]["docker-manifest-digest"] = other().to_string().into());
    assert!(judged(&P256, simple).unwrap_err().contains("of another image, sha256:cdcd"));
    let bundle = P256.stating(|statement| statement["subject"][0]["digest"]["sha256"] = other().hex().into());
    assert!(judged(&P256, bundle).unwrap_err().contains("of another image, sha256:cdcd"));
    // The name says nothing about the place.
    let named = P256.claiming(|payload| payload["critical"]["identity"]["docker-reference"] = "elsewhere/other".into());
    assert_eq!(judged(&P256, named), Ok(()));
}

#[test]
fn each_field_that_the_formats_fix_is_checked() {
    let simple: [(&str, Change); 5] = [
        ("its type is atomic container signature", |it| it["critical"]["type"] = "atomic container signature".into()),
        ("unknown field `more`", |it| it["critical"]["more"] = 1.into()),
        ("unknown field `extra`", |it| it["extra"] = 1.into()),
        ("missing field `docker-manifest-digest`", |it| it["critical"]["image"] = json!({})),
        ("missing field `identity`", |it| drop(it["critical"].as_object_mut().unwrap().remove("identity"))),
    ];
    for (why, change) in simple {
        let refusal = judged(&P256, P256.claiming(change)).unwrap_err();
        assert!(refusal.contains(why), "{why}: {refusal}");
    }
    let statements: [(&str, Change); 6] = [
        ("its predicate is https://slsa.dev/provenance/v1", |it| {
            it["predicateType"] = "https://slsa.dev/provenance/v1".into()
        }),
        ("its statement is https://in-toto.io/Statement/v0.1", |it| {
            it["_type"] = "https://in-toto.io/Statement/v0.1".into()
        }),
        ("it has 0 subjects", |it| it["subject"] = json!([])),
        ("it has 2 subjects", |it| it["subject"] = json!([it["subject"][0], it["subject"][0]])),
        ("of another image, sha512:00", |it| it["subject"][0]["digest"] = json!({"sha512": "00"})),
        ("missing field `predicateType`", |it| drop(it.as_object_mut().unwrap().remove("predicateType"))),
    ];
    for (why, change) in statements {
        let refusal = judged(&P256, P256.stating(change)).unwrap_err();
        assert!(refusal.contains(why), "{why}: {refusal}");
    }
    let bundles: [(&str, Change); 9] = [
        ("its type is application/vnd.dev.sigstore.bundle+json;version=0.1", |it| {
            it["mediaType"] = "application/vnd.dev.sigstore.bundle+json;version=0.1".into();
        }),
        ("made with a certificate", |it| it["verificationMaterial"] = json!({"certificate": {"rawBytes": "AA=="}})),
        ("made with a certificate", |it| it["verificationMaterial"]["certificate"] = json!({"rawBytes": "AA=="})),
        ("a signature of a message", |it| it["messageSignature"] = json!({})),
        ("the type of what is signed is text/plain", |it| it["dsseEnvelope"]["payloadType"] = "text/plain".into()),
        ("it has 2 signatures", |it| {
            let one = it["dsseEnvelope"]["signatures"][0].clone();
            it["dsseEnvelope"]["signatures"] = json!([one, one]);
        }),
        ("two hints of the key differ", |it| it["dsseEnvelope"]["signatures"][0]["keyid"] = "other".into()),
        ("unknown field `more`", |it| it["more"] = 1.into()),
        ("it cannot be read", |it| it["dsseEnvelope"]["payload"] = "*".into()),
    ];
    for (why, change) in bundles {
        let mut value: Value = serde_json::from_str(P256.bundle).unwrap();
        change(&mut value);
        let refusal = judged(&P256, Signature::Bundle(value.to_string().into())).unwrap_err();
        assert!(refusal.contains(why), "{why}: {refusal}");
    }
}

#[test]
fn what_is_cut_short_too_large_or_changed_in_one_bit_does_not_count() {
    for pair in [P256, ED25519] {
        for end in 0..pair.bundle.len() {
            let cut = Signature::Bundle(Bytes::copy_from_slice(&pair.bundle.as_bytes()[..end]));
            assert!(judged(&pair, cut).is_err(), "{end}");
        }
        for end in 0..SIMPLE.len() {
            assert!(judged(&pair, simple_of(&SIMPLE[..end], pair.simple)).is_err(), "{end}");
        }
        let signature = STANDARD.decode(pair.simple).unwrap();
        for bit in 0..signature.len() * 8 {
            let mut changed = signature.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(judged(&pair, simple_of(SIMPLE, &STANDARD.encode(changed))).is_err(), "{bit}");
        }
        for signature in ["", "=", "AA==", pair.hint] {
            assert!(judged(&pair, simple_of(SIMPLE, signature)).is_err(), "{signature}");
        }
    }
    let large = P256.claiming(|payload| payload["optional"]["more"] = "x".repeat(20 << 10).into());
    assert!(judged(&P256, large).unwrap_err().contains("it is too large"));
    let large = P256.stating(|statement| statement["predicate"]["more"] = "x".repeat(80 << 10).into());
    assert!(judged(&P256, large).unwrap_err().contains("it is too large"));
}

#[test]
fn all_policies_count_and_one_key_of_each() {
    let found = attached(vec![P256.simple(), ED25519.bundle()]);
    let of = |policies: &[(&str, &[&Pair])]| judge(&trust(policies), &image(), &found);
    assert_eq!(of(&[("a", &[&P256]), ("b", &[&ED25519])]), Ok(()));
    // While keys are replaced both are live.
    let one = attached(vec![ED25519.simple()]);
    assert_eq!(judge(&trust(&[("a", &[&P256, &ED25519])]), &image(), &one), Ok(()));
    let refusal = judge(&trust(&[("a", &[&P256, &ED25519]), ("b", &[&P256])]), &image(), &one).unwrap_err();
    assert_eq!(refusal.policy.as_deref(), Some("b"));
    // Fail closed.
    assert_eq!(of(&[]).unwrap_err().policy, None);
    assert_eq!(of(&[("a", &[])]).unwrap_err().policy.as_deref(), Some("a"));
    let nothing = judge(&trust(&[("a", &[&P256])]), &image(), &Attached::default()).unwrap_err();
    assert_eq!(
        nothing.to_string(),
        "image policy a wants sha256:abababababab signed by the key that it names; found: no signature"
    );
}

#[test]
fn what_is_seen_says_whose_it_is() {
    let found = attached(vec![P256.simple(), ED25519.bundle(), simple_of("{}", "")]);
    let seen = look(&found, &image(), &[P256.public()]);
    assert!(matches!(&seen[0].what, What::Signed { key, .. } if *key == fingerprint(&P256.public())));
    assert_eq!(seen[1].what, What::OtherKey { hint: Some(ED25519.hint.to_owned()) });
    assert!(matches!(seen[2].what, What::Unfit(Unfit::Unreadable { .. })));
}

#[test]
fn the_tag_and_the_manifests_are_as_specified() {
    let hex = include_str!("fixtures/DIGEST");
    assert_eq!(simple::tag(&image()), Some(format!("sha256-{hex}.sig")));
    let long = crate::hash::digest(skiff_api::digest::Algorithm::Sha512, b"x");
    assert_eq!(simple::tag(&long), None, "longer than a tag may be");

    let payload = Bytes::from_static(SIMPLE.as_bytes());
    let first = simple::image(None, &payload, P256.simple);
    let first = Manifest::parse(&first.manifest).unwrap();
    let both = simple::image(Some(&first), &payload, ED25519.simple);
    let both = Manifest::parse(&both.manifest).unwrap();
    let layers: Vec<(&Descriptor, &str)> = simple::layers(&both).collect();
    assert_eq!(layers.iter().map(|(_, signature)| *signature).collect::<Vec<_>>(), [P256.simple, ED25519.simple]);
    assert_eq!(layers[0].0.media_type, "application/vnd.dev.cosign.simplesigning.v1+json");
    assert_eq!(layers[0].0.digest, crate::hash::sha256(SIMPLE.as_bytes()));
    let annotations = layers[0].0.annotations.as_ref().unwrap();
    assert_eq!(annotations.keys().collect::<Vec<_>>(), ["dev.cosignproject.cosign/signature"]);

    let bytes = Bytes::from_static(P256.bundle.as_bytes());
    let subject = Descriptor::new(media::OCI_MANIFEST, image(), 7);
    let (manifest, blobs) = bundle::image(&bytes, subject, "2026-01-02T03:04:05Z");
    assert_eq!(blobs, [bytes.clone(), Bytes::from_static(b"{}")]);
    let value: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(
        value,
        json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "config": {
                "mediaType": "application/vnd.oci.empty.v1+json",
                "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
                "size": 2,
            },
            "layers": [{
                "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
                "digest": crate::hash::sha256(P256.bundle.as_bytes()),
                "size": P256.bundle.len(),
            }],
            "subject": {"mediaType": media::OCI_MANIFEST, "digest": image(), "size": 7},
            "annotations": {
                "dev.sigstore.bundle.content": "dsse-envelope",
                "dev.sigstore.bundle.predicateType": "https://sigstore.dev/cosign/sign/v1",
                "org.opencontainers.image.created": "2026-01-02T03:04:05Z",
            },
        })
    );
    let manifest = Manifest::parse(&manifest).unwrap();
    assert!(bundle::layer(&manifest, &image()).is_some() && bundle::layer(&manifest, &other()).is_none());
}

#[test]
fn as_many_as_are_read_are_read_and_the_rest_is_told() {
    let layer = |n: u64, bytes: u64| Descriptor {
        annotations: Some(BTreeMap::from([(simple::ANNOTATION.to_owned(), "AA==".to_owned())])),
        ..Descriptor::new(simple::PAYLOAD_TYPE, crate::hash::sha256(&n.to_le_bytes()), bytes)
    };
    let layers = (0..1000).map(|n| layer(n, if n == 3 { 1 << 40 } else { 10 })).collect();
    let manifest = Manifest { schema_version: 2, layers: Some(layers), ..Manifest::default() };
    let carrier = Carrier { tag: Some("x.sig".into()), media_type: String::new(), bytes: Bytes::new(), manifest };
    let mut attached = Attached::default();
    let pieces = attached.pieces(&[carrier], &image());
    assert_eq!((pieces.len(), attached.skipped.len()), (SIGNATURES_MAX, 2), "{:?}", attached.skipped);
}

#[test]
fn keys_are_read_as_openssl_and_cosign_keep_them_and_others_are_told_apart() {
    let pair = GeneratedKey::new(None).unwrap();
    assert_eq!(*SigningKey::read(&pair.private, None).unwrap().public(), pair.public);
    let sealed = GeneratedKey::new(Some("pässword")).unwrap();
    assert!(SigningKey::is_sealed(&sealed.private) && !SigningKey::is_sealed(&pair.private));
    assert_eq!(*SigningKey::read(&sealed.private, Some("pässword")).unwrap().public(), sealed.public);
    let older = sealed.private.replace("SIGSTORE", "COSIGN");
    assert_eq!(*SigningKey::read(&older, Some("pässword")).unwrap().public(), sealed.public);
    // Made by NaCl and the scrypt of Python: see `fixtures/README`.
    let theirs = include_str!("fixtures/p256.sealed.key");
    assert_eq!(*SigningKey::read(theirs, Some("correct horse")).unwrap().public(), P256.public());
    let error = |text: &str, passphrase| SigningKey::read(text, passphrase).unwrap_err().to_string();
    assert!(error(&sealed.private, None).contains("passphrase is needed"));
    assert!(error(&sealed.private, Some("password")).contains("is wrong"));
    assert!(error(P256.public, None).contains("public key"));
    assert!(error(&P256.private.replace("PRIVATE KEY", "EC PRIVATE KEY"), None).contains("openssl pkcs8 -topk8"));
    assert!(error("", None).contains("not one PEM block"));
    let block = |tag: &str, json: Value| pem::encode(&pem::Pem::new(tag, json.to_string()));
    let costly = json!({
        "kdf": {"name": "scrypt", "params": {"N": 1_u64 << 40, "r": 8, "p": 1}, "salt": "AA=="},
        "cipher": {"name": "nacl/secretbox", "nonce": "AA=="}, "ciphertext": "AA==",
    });
    assert!(error(&block("ENCRYPTED SIGSTORE PRIVATE KEY", costly), Some("x")).contains("not understood"));
    assert!(!format!("{:?}", P256.private()).contains("BEGIN"));
}
