//! What a registry allows.

use std::time::Duration;

/// Bounds on what clients may make the registry hold.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The largest blob. A push that goes beyond is refused and forgotten.
    pub blob_bytes_max: u64,
    /// Uploads under way: each holds a file descriptor.
    pub uploads_max: usize,
    /// Of these, one client's.
    pub uploads_per_client_max: usize,
    /// An upload that nobody has written to for so long is given up.
    pub upload_idle: Duration,
    /// What was pushed or found so long ago, or less, is not collected.
    pub grace: Duration,
    /// The same for manifests: their blobs stay with them. People push one by its digest today and use it tomorrow.
    pub untagged: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // More than the layers of any image that people push, and less than most disks.
            blob_bytes_max: 16 << 30,
            // A quarter of the file descriptors that a machine commonly gives a process at most.
            uploads_max: 1024,
            // docker pushes five layers at a time, so a hundred pushes at once under one token.
            uploads_per_client_max: 512,
            // Longer than any pause of a client that is alive.
            upload_idle: Duration::from_secs(3600),
            // Longer than a client takes between finding a blob there and pushing the manifest that names it, unless it
            // uploads all that time, and then nothing of its repository is collected.
            grace: Duration::from_secs(3600),
            untagged: Duration::from_secs(24 * 3600),
        }
    }
}
