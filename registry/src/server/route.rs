//! What a path names. Repository names have any depth, so paths are read from their end.

use skiff_api::Digest;
use skiff_api::image::{is_repository, is_tag};

use super::error::Failure;

/// The repository that a path below `/v2/` names; `None` when the registry refuses the path or it names none.
pub fn repository_of(path: &str) -> Option<String> {
    Target::parse(path)?.ok()?.repository().map(str::to_owned)
}

/// What a path under `/v2/` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Base,
    Catalog,
    Uploads { repository: String },
    Upload { repository: String, id: String },
    Blob { repository: String, digest: Digest },
    Manifest { repository: String, reference: Reference },
    Tags { repository: String },
    Referrers { repository: String, digest: Digest },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reference {
    Tag(String),
    Digest(Digest),
}

impl Target {
    /// Reads a path with its leading `/v2/` removed. `None`: there is no such endpoint.
    pub(super) fn parse(path: &str) -> Option<Result<Self, Failure>> {
        let segments: Option<Vec<String>> = path.split('/').map(decoded).collect();
        let segments = segments?;
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let named = |name: &[&str], target: &dyn Fn(String) -> Result<Self, Failure>| {
            let name = name.join("/");
            match is_repository(&name) {
                true => target(name),
                false => Err(Failure::name_invalid(&name)),
            }
        };
        Some(match segments.as_slice() {
            [""] => Ok(Self::Base),
            ["_catalog"] => Ok(Self::Catalog),
            [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""] if !name.is_empty() => {
                named(name, &|repository| Ok(Self::Uploads { repository }))
            }
            [name @ .., "blobs", "uploads", id] if !name.is_empty() => {
                named(name, &|repository| Ok(Self::Upload { repository, id: (*id).to_owned() }))
            }
            [name @ .., "blobs", text] if !name.is_empty() => {
                named(name, &|repository| digest(text).map(|digest| Self::Blob { repository, digest }))
            }
            [name @ .., "manifests", text] if !name.is_empty() => named(name, &|repository| {
                Reference::parse(text).map(|reference| Self::Manifest { repository, reference })
            }),
            [name @ .., "tags", "list"] if !name.is_empty() => named(name, &|repository| Ok(Self::Tags { repository })),
            [name @ .., "referrers", text] if !name.is_empty() => {
                named(name, &|repository| digest(text).map(|digest| Self::Referrers { repository, digest }))
            }
            _ => return None,
        })
    }

    pub(super) fn repository(&self) -> Option<&str> {
        match self {
            Self::Base | Self::Catalog => None,
            Self::Uploads { repository }
            | Self::Upload { repository, .. }
            | Self::Blob { repository, .. }
            | Self::Manifest { repository, .. }
            | Self::Tags { repository }
            | Self::Referrers { repository, .. } => Some(repository),
        }
    }
}

impl Reference {
    fn parse(text: &str) -> Result<Self, Failure> {
        if text.contains(':') {
            return digest(text).map(Self::Digest);
        }
        Self::parse_tag(text)
    }

    pub(super) fn parse_tag(text: &str) -> Result<Self, Failure> {
        match is_tag(text) {
            true => Ok(Self::Tag(text.to_owned())),
            false => {
                let text: String = text.chars().take(140).collect();
                // The specification has no code for this; registries use this one.
                Err(Failure::new(axum::http::StatusCode::BAD_REQUEST, "TAG_INVALID", format!("{text:?} is not a tag")))
            }
        }
    }
}

pub(super) fn digest(text: &str) -> Result<Digest, Failure> {
    text.parse().map_err(|e: skiff_api::digest::InvalidDigest| Failure::digest_invalid(e.to_string()))
}

/// A path segment without its percent-encoding: some clients encode a digest's colon.
fn decoded(segment: &str) -> Option<String> {
    let mut out = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            plain => plain,
        };
        out.push(byte);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digest() -> String {
        format!("sha256:{}", "ab".repeat(32))
    }

    fn parse(path: &str) -> Target {
        Target::parse(path).unwrap().unwrap()
    }

    #[test]
    fn reads_names_of_any_depth_even_confusing_ones() {
        let digest = digest();
        assert_eq!(parse(&format!("a/blobs/{digest}")).repository(), Some("a"));
        assert_eq!(parse(&format!("a/blobs/uploads/blobs/{digest}")).repository(), Some("a/blobs/uploads"));
        assert_eq!(parse("tags/list/tags/list"), Target::Tags { repository: "tags/list".into() });
        assert_eq!(parse("a/b/blobs/uploads/"), Target::Uploads { repository: "a/b".into() });
        assert_eq!(parse("a/blobs/uploads/x").repository(), Some("a"));
        assert_eq!(
            parse(&format!("a/manifests/{}", digest.replace(':', "%3A"))),
            parse(&format!("a/manifests/{digest}"))
        );
        assert!(Target::parse("a/manifests/x/y").is_none());
        assert!(Target::parse("manifests/x").is_none());
    }

    #[test]
    fn refuses_names_that_lead_elsewhere() {
        for name in ["..", "%2e%2e", "a/%2e%2e/b", "a/../b", "%2fetc", "a%2f..", "_blobs", ""] {
            let read = Target::parse(&format!("{name}/tags/list"));
            assert!(matches!(read, Some(Err(Failure { code: "NAME_INVALID", .. }))), "{name}: {read:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_built_is_read_back(
            name in "[a-z0-9]{1,8}([._-][a-z0-9]{1,4}){0,2}(/[a-z0-9]{1,8}){0,4}",
            tag in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,30}",
        ) {
            let target = Target::Manifest { repository: name.clone(), reference: Reference::Tag(tag.clone()) };
            prop_assert_eq!(parse(&format!("{name}/manifests/{tag}")), target);
            prop_assert_eq!(parse(&format!("{name}/tags/list")), Target::Tags { repository: name });
        }

        #[test]
        fn whatever_is_read_is_safe(path in "[a-zA-Z0-9./%:_\\\\-]{0,60}(blobs|manifests|tags|uploads)?[a-zA-Z0-9./%:_\\\\-]{0,40}") {
            if let Some(Ok(target)) = Target::parse(&path)
                && let Some(name) = target.repository()
            {
                prop_assert!(is_repository(name) && !name.contains(".."), "{}", name);
            }
        }
    }
}
