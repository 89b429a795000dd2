//! What the embedded registry keeps on disk, and the only code that touches it.
//!
//! ```text
//! DIR/version                                   the layout's version
//!     blobs/ALG/AB/HEX                          content, once for all repositories; also the manifests' bytes
//!     uploads/ID                                content on its way; emptied at start
//!     repositories/NAME/_blobs/ALG/HEX          the repository has this blob (empty file)
//!                       _manifests/ALG/HEX      the repository has this manifest (JSON: its media type)
//!                       _referrers/ALG/HEX/DIGEST   a manifest of this repository names that one as its subject
//!                       _tags/TAG:digest        the digest the tag stands for
//! ```
//! Content is shared, but a repository serves only what is linked to it, so that rights per repository mean something.
//!
//! Everything acknowledged survives a power cut. The order is always: content synced, renamed to its name, the
//! directory synced; then the link, synced; then what refers to it. So a cut leaves content that nothing names (removed
//! by [`sweep`] at the next start), never a name without content. Readers treat a link whose content is missing as
//! absent, which a sweep followed by a cut may leave behind.
//!
//! All calls block; async code makes them on a blocking thread. Handles are cheap to clone.

mod blobs;
mod error;
mod layout;
mod lists;
mod manifests;
mod open;
mod sweep;
mod tags;
mod uploads;

pub use blobs::Blob;
pub use error::Error;
pub use manifests::{PutManifest, StoredManifest};
pub use open::Registry;
pub use uploads::UploadId;
