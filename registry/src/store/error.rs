//! What can go wrong in the store.

use std::io;
use std::path::PathBuf;

use skiff_api::Digest;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to open the registry in {}", dir.display())]
    Open { dir: PathBuf, source: io::Error },
    #[error(
        "failed to open the registry in {}: its layout has version {found:?}, this program knows {known:?} (hint: run a newer skiff)",
        dir.display()
    )]
    Version { dir: PathBuf, found: String, known: &'static str },
    #[error(
        "repository name {name:?} is not valid (hint: lower-case letters and digits, separated by '.', '_', '__' or dashes)"
    )]
    Repository { name: String },
    #[error(
        "tag {tag:?} is not valid (hint: up to 128 letters, digits, '_', '.' and '-', not starting with '.' or '-')"
    )]
    Tag { tag: String },
    #[error(
        "upload {id} of repository {repository} is not known (hint: it was finished, cancelled or idle for too long; start again)"
    )]
    UploadUnknown { repository: String, id: String },
    #[error("upload {id} has {has} bytes, so data at offset {offset} is out of order")]
    UploadOffset { id: String, has: u64, offset: u64 },
    #[error("more than {max} uploads are under way (hint: try again later)")]
    UploadsTooMany { max: usize },
    #[error("this client has {max} uploads under way, its share (hint: finish or cancel some, or try again later)")]
    UploadsTooManyOfClient { max: usize },
    #[error("the blob is larger than {max} bytes, the most that this registry takes")]
    BlobTooLarge { max: u64 },
    #[error("failed to start an upload to repository {repository}")]
    UploadStart { repository: String, source: io::Error },
    #[error("failed to write upload {id} of repository {repository}")]
    UploadWrite { repository: String, id: String, source: io::Error },
    #[error("the uploaded content is {actual}, not {expected}")]
    UploadDigest { expected: Digest, actual: Digest },
    #[error("failed to store blob {digest}")]
    BlobStore { digest: Digest, source: io::Error },
    #[error("failed to read blob {digest} of repository {repository}")]
    BlobRead { repository: String, digest: Digest, source: io::Error },
    #[error("failed to link blob {digest} to repository {repository}")]
    BlobLink { repository: String, digest: Digest, source: io::Error },
    #[error("failed to delete blob {digest} of repository {repository}")]
    BlobDelete { repository: String, digest: Digest, source: io::Error },
    #[error("the manifest is not valid: {why}")]
    ManifestInvalid { why: String },
    #[error("the manifest names {digest}, which repository {repository} does not have (hint: push it first)")]
    ManifestBlobUnknown { repository: String, digest: Digest },
    #[error("failed to store manifest {digest} of repository {repository}")]
    ManifestStore { repository: String, digest: Digest, source: io::Error },
    #[error("failed to read manifest {digest} of repository {repository}")]
    ManifestRead { repository: String, digest: Digest, source: io::Error },
    #[error("manifest {digest} of repository {repository} is damaged on disk (hint: push it again)")]
    ManifestDamaged { repository: String, digest: Digest },
    #[error("failed to delete manifest {digest} of repository {repository}")]
    ManifestDelete { repository: String, digest: Digest, source: io::Error },
    #[error("failed to set tag {tag} of repository {repository}")]
    TagStore { repository: String, tag: String, source: io::Error },
    #[error("failed to read tag {tag} of repository {repository}")]
    TagRead { repository: String, tag: String, source: io::Error },
    #[error("failed to delete tag {tag} of repository {repository}")]
    TagDelete { repository: String, tag: String, source: io::Error },
    #[error("failed to list {what} of repository {repository}")]
    List { what: &'static str, repository: String, source: io::Error },
    #[error("failed to remove what nothing refers to")]
    Collect { source: io::Error },
    #[error("failed to list the repositories")]
    ListRepositories { source: io::Error },
}

impl Error {
    /// Whether the disk, or the share of it that this process may use, is full.
    pub fn is_disk_full(&self) -> bool {
        let mut source = std::error::Error::source(self);
        while let Some(at) = source {
            if let Some(e) = at.downcast_ref::<io::Error>() {
                return matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            }
            source = at.source();
        }
        false
    }
}

/// A read that may find nothing.
pub(super) fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}
