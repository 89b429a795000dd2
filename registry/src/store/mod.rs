//! What the embedded registry keeps on disk, and the only code that touches it.
//!
//! ```text
//! DIR/version                                   the layout's version
//!     blobs/ALG/AB/HEX                          content, once for all repositories; also the manifests' bytes
//!     uploads/ID, ID.session                    content on its way, and whose it is; goes on after a restart
//!     repositories/NAME/_blobs/ALG/HEX          the repository has this blob (empty file)
//!                       _manifests/ALG/HEX      the repository has this manifest (JSON: its media type)
//!                       _referrers/ALG/HEX/DIGEST   a manifest of this repository names that one as its subject
//!                       _tags/TAG:digest        the digest the tag stands for
//! ```
//! Content is shared, but a repository serves only what is linked to it, so that rights per repository mean something.
//!
//! Everything acknowledged survives a power cut. The order is always: content synced, renamed to its name, the
//! directory synced; then the link, synced; then what refers to it. So a cut leaves content that nothing names (removed
//! by [`collect`]), never a name without content. Readers treat a link whose content is missing as absent, which a
//! collection followed by a cut may leave behind.
//!
//! All calls block; async code makes them on a blocking thread. Handles are cheap to clone.

mod blobs;
mod collect;
mod error;
mod fresh;
mod layout;
mod limits;
mod lists;
mod manifests;
mod metrics;
mod open;
mod tags;
mod uploads;

pub use blobs::Blob;
pub use collect::{Collected, Pause};
pub use error::Error;
pub use limits::Limits;
pub use manifests::{PutManifest, Referrers, StoredManifest};
pub use open::Registry;
pub use uploads::{Coming, UploadId, UploadMark};
