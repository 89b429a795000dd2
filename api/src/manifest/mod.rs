//! Manifests: what people write, in YAML or JSON, several documents a file.
//!
//! ```text
//! text --tree--> nodes that know their line, column and path --decode--> typed objects, strictly
//! ```
//! A document is an envelope (`metadata`, `spec`) or its flat form, in which the spec's fields and the metadata's stand
//! side by side. Both are strict: an unknown field is an error that names the nearest valid one. Reading goes through a
//! tree of our own because the decoder must know, for each value, where it stands in the file; the YAML itself is
//! parsed by a library with budgets against alias bombs.
//!
//! The same reader takes the bodies of API writes, so that `curl` and `skiff apply` get the same messages.

mod decode;
mod fault;
mod overlay;
mod reader;
mod tree;

pub use fault::ManifestError;
pub use overlay::{Source, read_overlaid};
pub use reader::{Document, Typed, read};

/// The most bytes of one manifest file or API body: a thousand times a long manifest, and still nothing to a server.
pub const MANIFEST_BYTES_MAX: usize = 1 << 20;
