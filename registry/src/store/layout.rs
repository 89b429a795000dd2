//! Where things are. Every name that reaches a path has been checked: digests are well formed by their type, repository
//! names and tags here, so that no path can leave the registry's folder.

use std::path::{Path, PathBuf};

use skiff_api::Digest;
use skiff_api::image::{is_repository, is_tag};

use super::error::Error;

/// What a tag's file name ends in. A tag cannot contain a colon, so that neither another tag nor the left-over of a
/// replaced one (`.tmp`) can be taken for it.
const TAG_SUFFIX: &str = ":digest";

#[derive(Debug)]
pub(super) struct Layout {
    dir: PathBuf,
}

/// A checked repository: its name and its folder.
#[derive(Debug, Clone)]
pub(super) struct Repository {
    pub(super) name: String,
    dir: PathBuf,
}

impl Layout {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf() }
    }

    pub(super) fn version(&self) -> PathBuf {
        self.dir.join("version")
    }

    pub(super) fn uploads(&self) -> PathBuf {
        self.dir.join("uploads")
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.dir.join("blobs")
    }

    pub(super) fn blob_dir(&self, digest: &Digest) -> PathBuf {
        // 256 folders keep the listing of each short.
        self.blobs().join(digest.algorithm().name()).join(&digest.hex()[..2])
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blob_dir(digest).join(digest.hex())
    }

    pub(super) fn repositories(&self) -> PathBuf {
        self.dir.join("repositories")
    }

    pub(super) fn repository(&self, name: &str) -> Result<Repository, Error> {
        match is_repository(name) {
            true => Ok(Repository { name: name.to_owned(), dir: self.repositories().join(name) }),
            false => Err(Error::Repository { name: name.chars().take(80).collect() }),
        }
    }
}

impl Repository {
    pub(super) fn all_blobs(&self) -> PathBuf {
        self.dir.join("_blobs")
    }

    pub(super) fn blobs(&self, digest: &Digest) -> PathBuf {
        self.all_blobs().join(digest.algorithm().name())
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs(digest).join(digest.hex())
    }

    pub(super) fn all_manifests(&self) -> PathBuf {
        self.dir.join("_manifests")
    }

    pub(super) fn manifests(&self, digest: &Digest) -> PathBuf {
        self.all_manifests().join(digest.algorithm().name())
    }

    pub(super) fn manifest(&self, digest: &Digest) -> PathBuf {
        self.manifests(digest).join(digest.hex())
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn all_referrers(&self) -> PathBuf {
        self.dir.join("_referrers")
    }

    pub(super) fn referrers(&self, subject: &Digest) -> PathBuf {
        self.all_referrers().join(subject.algorithm().name()).join(subject.hex())
    }

    pub(super) fn referrer(&self, subject: &Digest, referrer: &Digest) -> PathBuf {
        self.referrers(subject).join(referrer.to_string())
    }

    pub(super) fn tags(&self) -> PathBuf {
        self.dir.join("_tags")
    }

    pub(super) fn tag(&self, tag: &str) -> Result<PathBuf, Error> {
        match is_tag(tag) {
            true => Ok(self.tags().join(format!("{tag}{TAG_SUFFIX}"))),
            false => Err(Error::Tag { tag: tag.chars().take(140).collect() }),
        }
    }
}

/// The tag that a file in a repository's `_tags` stands for.
pub(super) fn tag_of(file_name: &str) -> Option<&str> {
    file_name.strip_suffix(TAG_SUFFIX).filter(|tag| is_tag(tag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_name_leaves_the_folder(name in "[a-z0-9./_%\\\\-]{0,40}", tag in "[a-zA-Z0-9./:_-]{0,20}") {
            let layout = Layout::new(Path::new("/r"));
            if let Ok(repository) = layout.repository(&name) {
                let path = repository.all_manifests();
                prop_assert!(path.starts_with("/r/repositories"));
                prop_assert!(path.components().all(|c| c.as_os_str() != ".."));
                if let Ok(path) = repository.tag(&tag) {
                    let tags = repository.tags();
                    prop_assert_eq!(path.parent(), Some(tags.as_path()));
                    prop_assert_eq!(path.file_name().and_then(|n| n.to_str()).and_then(tag_of), Some(tag.as_str()));
                }
            }
        }
    }

    #[test]
    fn a_left_over_is_no_tag() {
        assert_eq!(tag_of("v1:digest"), Some("v1"));
        assert_eq!(tag_of("v1:digest.tmp"), None);
        assert_eq!(tag_of("v1.tmp"), None);
    }
}
