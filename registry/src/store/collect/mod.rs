//! Garbage collection while the registry serves.
//!
//! Roots are tags, and what the caller says must be retained: the images of revisions. From a root everything is reached
//! that it names: the manifests of an index, the blobs of a manifest, and the other way round the manifests that have it as
//! their subject or are about it by their tag (signatures, bills of material). What is not reached goes, unless it is fresh ([`super::fresh`]) or, if it
//! is a blob, something is being uploaded to its repository.
//!
//! ```text
//! per repository: mark (reads only) -> manifests, those first that keep others -> blobs -> left-overs
//! then            content that no repository links to
//! ```
//! Nothing is locked while it reads. Whoever makes something refer to something touches it first, holding the gate as one of
//! many; whatever is removed is removed holding the gate alone, after a look whether it was touched since. So either the
//! removal comes first, and the client is told that the thing is not there, or the touch does, and it stays, with all that
//! it keeps.
//!
//! Nothing is synced: what a power cut brings back, the next run removes again.

mod about;
mod contents;
mod graph;
mod repository;

use std::ops::ControlFlow;

use skiff_api::Digest;

use super::error::Error;
use super::open::Registry;

/// What one run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    pub manifests: u64,
    /// Links of repositories to blobs.
    pub links: u64,
    /// Content that went from the disk, and how much that was.
    pub contents: u64,
    pub bytes: u64,
    /// Something that nothing refers to was spared, because it is fresh or its repository is being pushed to: another run,
    /// later, may remove it.
    pub waits: bool,
}

/// Called between small steps: where a run pauses, and where it can be ended.
pub type Pause<'a> = &'a mut dyn FnMut() -> ControlFlow<()>;

impl Registry {
    /// Removes what nothing needs. `retained` are manifests that stay although no tag names them. Other calls go on
    /// meanwhile.
    pub fn collect(&self, retained: &[(String, Digest)], pause: Pause<'_>) -> Result<Collected, Error> {
        let inner = &*self.0;
        inner.expire_uploads();
        inner.fresh.turn();
        inner.fresh_manifests.turn();
        let mut done = Collected::default();
        let outcome = inner.collect(retained, pause, &mut done);
        inner.metrics.collected(&done);
        match outcome {
            Ok(_) => Ok(done),
            Err(source) => Err(Error::Collect { source }),
        }
    }

    /// Waits until something happened that may have left something that nothing refers to.
    pub async fn changed(&self) {
        self.0.changes.notified().await;
    }

    /// Says that what is retained is another set.
    pub fn retention_changed(&self) {
        self.0.changes.notify_one();
    }

    /// What was removed since the start, in Prometheus' text format.
    pub fn metrics(&self) -> String {
        self.0.metrics.render(self.uploads())
    }
}
