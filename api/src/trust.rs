//! Who must have signed an image: public keys, the repositories that a policy covers, and what follows for one image.
//!
//! A namespace without policies runs any image. One with policies runs only images that at least one of them covers, and
//! each that does must be fulfilled: another name for the same image is no way around a policy.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::ImageRef;
use crate::image::is_repository_pattern;
use crate::resource::ImagePolicySpec;

/// A PEM text of one key takes less than 200 bytes.
const PEM_BYTES_MAX: usize = 2048;

const PEM_TAG: &str = "PUBLIC KEY";

/// What comes before the point of a P-256 key in its DER form (RFC 5480), and before the 32 bytes of an Ed25519 key (RFC
/// 8410). There is one way to write either, so nothing has to be parsed.
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const ED25519_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// An uncompressed point: a mark, and two coordinates.
const P256_POINT_BYTES: usize = 65;
const P256_POINT_MARK: u8 = 4;
const ED25519_BYTES: usize = 32;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyAlgorithm {
    /// ECDSA on P-256 with SHA-256.
    P256,
    Ed25519,
}

impl KeyAlgorithm {
    pub fn name(self) -> &'static str {
        match self {
            Self::P256 => "p256",
            Self::Ed25519 => "ed25519",
        }
    }

    fn prefix(self) -> &'static [u8] {
        match self {
            Self::P256 => &P256_PREFIX,
            Self::Ed25519 => &ED25519_PREFIX,
        }
    }
}

/// A public key, as `openssl pkey -pubout` writes it. Prints as PEM.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey {
    algorithm: KeyAlgorithm,
    der: Vec<u8>,
}

/// Why a text is no public key that signatures can be checked with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    #[error("it is not one PEM block that begins with -----BEGIN PUBLIC KEY----- (hint: openssl pkey -in KEY -pubout)")]
    NotPem,
    #[error("it is a private key, which must stay secret (hint: write its public half: openssl pkey -in KEY -pubout)")]
    Private,
    #[error("it is a {found}, not a public key (hint: openssl pkey -in KEY -pubout)")]
    Other { found: String },
    #[error("it is neither a P-256 nor an Ed25519 key (hint: `skiff sign --generate-key FILE` makes one of P-256)")]
    Algorithm,
}

impl PublicKey {
    /// A key from its own bytes: the uncompressed point, or the 32 bytes.
    pub fn new(algorithm: KeyAlgorithm, bytes: &[u8]) -> Result<Self, InvalidKey> {
        Self::from_der(&[algorithm.prefix(), bytes].concat())
    }

    /// A key from its DER form, a SubjectPublicKeyInfo.
    pub fn from_der(der: &[u8]) -> Result<Self, InvalidKey> {
        let algorithm = match der {
            _ if der.starts_with(&P256_PREFIX) => {
                let point = &der[P256_PREFIX.len()..];
                (point.len() == P256_POINT_BYTES && point[0] == P256_POINT_MARK).then_some(KeyAlgorithm::P256)
            }
            _ if der.starts_with(&ED25519_PREFIX) => {
                (der.len() == ED25519_PREFIX.len() + ED25519_BYTES).then_some(KeyAlgorithm::Ed25519)
            }
            _ => None,
        };
        let algorithm = algorithm.ok_or(InvalidKey::Algorithm)?;
        Ok(Self { algorithm, der: der.to_vec() })
    }

    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// Its SubjectPublicKeyInfo.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its own bytes: see [`PublicKey::new`].
    pub fn bytes(&self) -> &[u8] {
        &self.der[self.algorithm.prefix().len()..]
    }
}

impl FromStr for PublicKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.len() > PEM_BYTES_MAX || !text.starts_with("-----BEGIN ") {
            return Err(InvalidKey::NotPem);
        }
        let blocks = pem::parse_many(text).map_err(|_| InvalidKey::NotPem)?;
        let [block] = blocks.as_slice() else { return Err(InvalidKey::NotPem) };
        match block.tag() {
            PEM_TAG => Self::from_der(block.contents()),
            tag if tag.contains("PRIVATE KEY") => Err(InvalidKey::Private),
            tag => Err(InvalidKey::Other { found: tag.chars().take(40).collect() }),
        }
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        f.write_str(&pem::encode_config(&pem::Pem::new(PEM_TAG, self.der.clone()), config))
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Some repositories: `*`, `shop/*`, `shop/cart`, `ghcr.io/acme/*`, `ghcr.io/*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RepositoryPattern {
    All,
    /// Everything below a folder or a registry.
    Below(String),
    One(String),
}

/// Why a text names no repositories.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} names no repositories (hint: write \"*\", NAMESPACE/NAME, \"NAMESPACE/*\", or with a registry \"ghcr.io/acme/*\"; without a tag)"
)]
pub struct InvalidRepositories {
    text: String,
}

impl RepositoryPattern {
    /// What a text stands for, where `is_name` takes the folder or the repository in it.
    pub fn read(text: &str, is_name: impl FnOnce(&str) -> bool) -> Option<Self> {
        let (name, pattern): (_, fn(String) -> Self) = match text.strip_suffix("/*") {
            _ if text == "*" => return Some(Self::All),
            Some(folder) => (folder, Self::Below),
            None => (text, Self::One),
        };
        is_name(name).then(|| pattern(name.to_owned()))
    }

    /// Whether it covers a repository by its whole name: see [`ImageRef::full_repository`].
    pub fn covers(&self, repository: &str) -> bool {
        match self {
            Self::All => true,
            Self::Below(folder) => repository.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/')),
            Self::One(name) => name == repository,
        }
    }
}

impl FromStr for RepositoryPattern {
    type Err = InvalidRepositories;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A registry, or a folder, is not a repository.
        let is_whole = |name: &str| text.ends_with("/*") || name.contains('/');
        Self::read(text, |name| is_whole(name) && is_repository_pattern(name))
            .ok_or_else(|| InvalidRepositories { text: text.chars().take(80).collect() })
    }
}

impl fmt::Display for RepositoryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Below(folder) => write!(f, "{folder}/*"),
            Self::One(name) => f.write_str(name),
        }
    }
}

impl Serialize for RepositoryPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RepositoryPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Who must have signed one image, by policy: for each, the holder of one of these keys. Without any, nobody can have: no
/// policy of the namespace covers the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    pub policies: BTreeMap<String, Vec<PublicKey>>,
}

impl Trust {
    /// What the policies of a namespace ask of an image there. `None`: there are none.
    pub fn of<'a>(
        policies: impl IntoIterator<Item = (&'a str, &'a ImagePolicySpec)>,
        image: &ImageRef,
        namespace: &str,
    ) -> Option<Self> {
        let repository = image.full_repository(namespace);
        let mut all = policies.into_iter().peekable();
        all.peek()?;
        let covering = all.filter(|(_, policy)| policy.covers(&repository));
        Some(Self { policies: covering.map(|(name, policy)| (name.to_owned(), policy.keys.clone())).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P256: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE3R0ZtpfBd3Y8DaXuB1gM8JPlhsDI
EfXO/WsMJEN14hEn8wajX2HklqL7igZPFICv6tBUGylIHp2mTH2Nhv38mg==
-----END PUBLIC KEY-----
";
    const ED25519: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
";

    #[test]
    fn keys_are_read_back_as_they_are_written() {
        for (text, algorithm) in [(P256, KeyAlgorithm::P256), (ED25519, KeyAlgorithm::Ed25519)] {
            let key: PublicKey = text.parse().unwrap();
            assert_eq!((key.algorithm(), key.to_string().as_str()), (algorithm, text));
            assert_eq!(PublicKey::new(algorithm, key.bytes()), Ok(key));
        }
    }

    #[test]
    fn what_is_no_such_key_is_told_apart() {
        let of = |text: &str| text.parse::<PublicKey>().unwrap_err();
        assert_eq!(of(""), InvalidKey::NotPem);
        assert_eq!(of(&format!("{P256}{ED25519}")), InvalidKey::NotPem, "one of two would be overlooked");
        assert_eq!(of(&P256.replace("END PUBLIC", "END PRIVATE")), InvalidKey::NotPem);
        assert_eq!(of(&format!("{P256}{}", " x".repeat(2000))), InvalidKey::NotPem);
        assert_eq!(of(&P256.replace("PUBLIC", "PRIVATE")), InvalidKey::Private);
        assert!(matches!(of(&P256.replace("PUBLIC KEY", "CERTIFICATE")), InvalidKey::Other { .. }));
        for der in [&P256_PREFIX[..], &ED25519_PREFIX, b"", &[&ED25519_PREFIX[..], &[0; 33]].concat()] {
            assert_eq!(PublicKey::from_der(der), Err(InvalidKey::Algorithm));
        }
        // A compressed point.
        assert!(PublicKey::new(KeyAlgorithm::P256, &[2; 65]).is_err());
    }

    fn policy(repositories: &[&str]) -> ImagePolicySpec {
        let repositories = repositories.iter().map(|text| text.parse().unwrap()).collect();
        ImagePolicySpec { repositories, keys: vec![P256.parse().unwrap()] }
    }

    #[test]
    fn policies_that_cover_an_image_all_count_and_without_one_nobody_can_have_signed() {
        let policies = [("all", policy(&["*"])), ("acme", policy(&["ghcr.io/acme/*", "shop/cart"]))];
        let of = |policies: &[(&str, ImagePolicySpec)], image: &str| {
            let trust = Trust::of(policies.iter().map(|(name, spec)| (*name, spec)), &image.parse().unwrap(), "shop")?;
            Some(trust.policies.into_keys().collect::<Vec<_>>())
        };
        assert_eq!(of(&[], "cart"), None);
        assert_eq!(of(&policies, "cart:1"), Some(vec!["acme".into(), "all".into()]));
        assert_eq!(of(&policies, "ghcr.io/acme/a/b"), Some(vec!["acme".into(), "all".into()]));
        assert_eq!(of(&policies, "GHCR.io/acme/a"), Some(vec!["acme".into(), "all".into()]));
        assert_eq!(of(&policies[1..], "ghcr.io/acmeco/a"), Some(vec![]));
        // The copy under its own name is another image to a policy, and so refused.
        assert_eq!(of(&policies[1..], "shop/mirror/ghcr.io/acme/a"), Some(vec![]));
        let docker = [("d", policy(&["docker.io/library/nginx"]))];
        assert_eq!(of(&docker, "docker.io/nginx"), Some(vec!["d".into()]));
        assert_eq!(of(&docker, "index.docker.io/library/nginx"), Some(vec!["d".into()]));
    }

    #[test]
    fn patterns_have_no_tags_and_no_other_stars() {
        for text in ["*", "shop/*", "shop/cart", "ghcr.io/*", "ghcr.io/acme/*", "localhost:5000/a", "localhost:5000/*"]
        {
            assert_eq!(text.parse::<RepositoryPattern>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "/*",
            "**",
            "cart:1",
            "shop/cart:1",
            "shop/**",
            "a*",
            "ghcr.io:x/*",
            "Shop/*",
            "shop/",
            "cart",
            "GHCR.io/a",
        ] {
            assert!(text.parse::<RepositoryPattern>().is_err(), "{text}");
        }
    }
}
