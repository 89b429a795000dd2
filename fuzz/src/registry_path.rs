//! The registry's paths: names of any depth, percent-encoding, and words that are both names and endpoints.

use skiff_api::image::is_repository;
use skiff_registry::server::repository_of;

/// Any well-formed digest.
const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000000";

pub fn check(data: &[u8]) {
    let Ok(path) = str::from_utf8(data) else { return };
    let Some(repository) = repository_of(path) else { return };
    // It becomes a folder's name, and rights are given by it.
    assert!(is_repository(&repository), "{path:?} names {repository:?}");
    for below in ["blobs/uploads", "blobs/uploads/", "blobs/uploads/id", "manifests/latest", "tags/list"] {
        assert_eq!(repository_of(&format!("{repository}/{below}")).as_deref(), Some(repository.as_str()), "{below}");
    }
    for below in ["blobs", "manifests", "referrers"] {
        let path = format!("{repository}/{below}/{DIGEST}");
        assert_eq!(repository_of(&path).as_deref(), Some(repository.as_str()), "{path}");
    }
}
