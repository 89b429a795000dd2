//! Image references, read as docker reads them, with the cluster's own registry as the default one.
//!
//! ```text
//! [REGISTRY/]REPOSITORY[:TAG][@DIGEST]
//! ```
//! Before a slash, a first segment that contains `.` or `:` or is `localhost` names a registry; anything else is a
//! repository of the cluster's own, where a name of one segment means `NAMESPACE/NAME`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::digest::{Digest, InvalidDigest};

/// The distribution specification's limit on the length of a repository name.
const REPOSITORY_BYTES_MAX: usize = 255;
/// The distribution specification's limit on the length of a tag.
const TAG_BYTES_MAX: usize = 128;

/// A parsed image reference. Prints as it was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef {
    registry: Option<String>,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidImage {
    #[error("the image is empty (hint: write NAME, NAME:TAG or NAME@sha256:…)")]
    Empty,
    #[error(
        "image {image:?}: repository {repository:?} has {bytes} bytes, more than the {REPOSITORY_BYTES_MAX} that are allowed"
    )]
    LongRepository { image: String, repository: String, bytes: usize },
    #[error(
        "image {image:?}: {part:?} is not a repository name (hint: lower-case letters and digits, separated by '.', '_', '__' or dashes)"
    )]
    Repository { image: String, part: String },
    #[error("image {image:?}: {part:?} is not a registry (hint: write HOST or HOST:PORT)")]
    Registry { image: String, part: String },
    #[error(
        "image {image:?}: {part:?} is not a tag (hint: up to 128 letters, digits, '_', '.' and '-', not starting with '.' or '-')"
    )]
    Tag { image: String, part: String },
    #[error("image {image:?}: {source}")]
    Digest { image: String, source: InvalidDigest },
}

impl ImageRef {
    /// The registry's `HOST[:PORT]`, or `None` for the cluster's own.
    pub fn registry(&self) -> Option<&str> {
        self.registry.as_deref()
    }

    /// The repository as written.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The repository in the cluster's own registry for a workload of `namespace`: one segment is completed, and what is
    /// of another registry is where its copy for this namespace is, `NAMESPACE/mirror/HOST[_PORT]/REPOSITORY`.
    pub fn repository_in(&self, namespace: &str) -> String {
        match &self.registry {
            Some(registry) => {
                // A host may be written in upper case, and have a colon; a repository may not.
                let host = registry.to_ascii_lowercase().replace(':', "_");
                format!("{namespace}/mirror/{host}/{}", self.repository)
            }
            None if self.repository.contains('/') => self.repository.clone(),
            None => format!("{namespace}/{}", self.repository),
        }
    }

    /// The repository's whole name, with its registry, or with its namespace where it is the cluster's own: one name for
    /// each, whatever the ways to write it.
    pub fn full_repository(&self, namespace: &str) -> String {
        let Some(registry) = &self.registry else { return self.repository_in(namespace) };
        match registry.to_ascii_lowercase().as_str() {
            "docker.io" | "index.docker.io" if !self.repository.contains('/') => {
                format!("docker.io/library/{}", self.repository)
            }
            "index.docker.io" => format!("docker.io/{}", self.repository),
            registry => format!("{registry}/{}", self.repository),
        }
    }

    /// The tag as written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The tag to resolve: the written one, else `latest`.
    pub fn tag_or_latest(&self) -> &str {
        self.tag.as_deref().unwrap_or("latest")
    }

    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same reference, pinned.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }

    /// The same reference as a person wrote it: without a digest.
    #[must_use]
    pub fn without_digest(&self) -> Self {
        Self { digest: None, ..self.clone() }
    }

    /// The same reference in the cluster's own registry. The registry stays where leaving it out would make the
    /// repository's first segment one: `own.example/a.b/c` is not `a.b/c`.
    #[must_use]
    pub fn without_registry(&self) -> Self {
        let registry = self.registry.clone().filter(|_| split_registry(&self.repository).0.is_some());
        Self { registry, ..self.clone() }
    }
}

impl FromStr for ImageRef {
    type Err = InvalidImage;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(InvalidImage::Empty);
        }
        // Messages quote the image: keep them readable when it is a megabyte of noise.
        let image: String = text.chars().take(300).collect();
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|source| InvalidImage::Digest { image: image.clone(), source })?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (registry, path) = split_registry(rest);
        if let Some(registry) = registry
            && !is_registry(registry)
        {
            return Err(InvalidImage::Registry { image, part: shortened(registry) });
        }
        let (repository, tag) = match path.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (path, None),
        };
        if let Some(tag) = tag
            && !is_tag(tag)
        {
            return Err(InvalidImage::Tag { image, part: shortened(tag) });
        }
        if repository.len() > REPOSITORY_BYTES_MAX {
            let bytes = repository.len();
            return Err(InvalidImage::LongRepository { image, repository: shortened(repository), bytes });
        }
        if !is_repository(repository) {
            return Err(InvalidImage::Repository { image, part: shortened(repository) });
        }
        Ok(Self {
            registry: registry.map(str::to_owned),
            repository: repository.to_owned(),
            tag: tag.map(str::to_owned),
            digest,
        })
    }
}

/// The registry, if there is one, and the rest.
fn split_registry(text: &str) -> (Option<&str>, &str) {
    match text.split_once('/') {
        Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => (Some(first), path),
        _ => (None, text),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Whether a text is a repository name of the distribution specification, of any depth.
pub fn is_repository(text: &str) -> bool {
    text.len() <= REPOSITORY_BYTES_MAX && !text.is_empty() && text.split('/').all(is_repository_segment)
}

/// Whether a text is the whole name of a repository, or of a registry or folder: `shop/cart`, `ghcr.io/acme`, `ghcr.io`,
/// and the folder `shop`. A registry is in lower case.
pub(crate) fn is_repository_pattern(text: &str) -> bool {
    let (first, rest) = text.split_once('/').map_or((text, None), |(first, rest)| (first, Some(rest)));
    let is_host = first.contains(['.', ':']) || first == "localhost";
    match is_host {
        true => is_registry(first) && first == first.to_ascii_lowercase() && rest.is_none_or(is_repository),
        false => is_repository(text),
    }
}

fn is_repository_segment(segment: &str) -> bool {
    let alnum = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = segment.as_bytes();
    let edges = bytes.first().is_some_and(alnum) && bytes.last().is_some_and(alnum);
    edges
        && bytes
            .split(alnum)
            .filter(|separator| !separator.is_empty())
            .all(|separator| matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-'))
}

/// Whether a text is a tag of the distribution specification.
pub fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut bytes = text.bytes();
    text.len() <= TAG_BYTES_MAX && bytes.next().is_some_and(word) && bytes.all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let label = |l: &str| {
        !l.is_empty()
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    host.split('.').all(label)
        && port.is_none_or(|p| p.bytes().all(|b| b.is_ascii_digit()) && p.parse::<u16>().is_ok_and(|n| n > 0))
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(registry) = &self.registry {
            write!(f, "{registry}/")?;
        }
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl Serialize for ImageRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ImageRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ImageRef {
        text.parse().unwrap()
    }

    #[test]
    fn tells_registries_from_repositories_as_docker_does() {
        assert_eq!(parse("cart").registry(), None);
        assert_eq!(parse("cart:1.4").tag(), Some("1.4"));
        assert_eq!(parse("shop/cart").registry(), None);
        assert_eq!(parse("localhost/cart").registry(), Some("localhost"));
        assert_eq!(parse("localhost:5000/cart").registry(), Some("localhost:5000"));
        assert_eq!(parse("ghcr.io/a/b/c:d").repository(), "a/b/c");
        assert_eq!(parse("cart").repository_in("shop"), "shop/cart");
        assert_eq!(parse("ops/cart").repository_in("shop"), "ops/cart");
        assert_eq!(parse("ghcr.io/a/cart:1").repository_in("shop"), "shop/mirror/ghcr.io/a/cart");
        for text in ["LOCALHOST:5000/cart", "10.0.0.1:80/a/b"] {
            let copy = parse(text).repository_in("shop");
            assert!(is_repository(&copy), "{copy}");
        }
    }

    #[test]
    fn prints_as_written() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for text in ["cart", "cart:1", "a.io:80/b/c:t", &format!("cart:1@{digest}"), &format!("cart@{digest}")] {
            assert_eq!(parse(text).to_string(), text);
        }
    }

    #[test]
    fn leaving_the_registry_out_keeps_the_repository() {
        assert_eq!(parse("own.example:80/shop/cart:1").without_registry(), parse("shop/cart:1"));
        for text in ["own.example/a.b/c:1", "own.example/localhost/c"] {
            let own = parse(text).without_registry();
            assert_eq!(parse(&own.to_string()), own);
            assert_eq!(own.repository_in("shop"), parse(text).repository_in("shop"));
        }
    }

    #[test]
    fn refuses_what_is_no_reference() {
        for text in [
            "",
            "Cart",
            "cart:",
            "cart:.x",
            "a//b",
            "/a",
            "a/",
            "a..b",
            "cart@sha256:1",
            "x.y:0/a",
            "x.y:99999/a",
            "a_.b",
            "a b",
        ] {
            assert!(text.parse::<ImageRef>().is_err(), "{text}");
        }
    }
}
