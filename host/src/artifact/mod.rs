//! The node's copies of what the registry holds, and the native code made from them.
//!
//! ```text
//! artifacts/sha256/HEX.wasm        HEX is the digest of the image's manifest
//! artifacts/sha256/HEX.sum         the component's own digest (see [`whole`])
//! artifacts/sha256/HEX.signed      manifest and signatures, where somebody must have signed it (see [`evidence`])
//! artifacts/sha256/HEX.layerN      what the component was made from, where it is no layer itself (likewise)
//! compiled/KEY/HEX.cwasm           KEY is what compiled code depends on besides the component
//! compiled/KEY/HEX.TERMS.proven    an instance of it has started here, on these terms (see [`proof`])
//! ```
//! A file is either whole or has another name: it is written as `NAME.tmp`, synced, renamed, and its directory synced
//! before anybody is told of it. So a start after a crash believes the names, removes the rest, and neither pulls nor
//! compiles what it has: a node without an uplink comes back with everything it served.
//!
//! What no desired replica names any more stays up to [`UNNAMED_BYTES_MAX`], so that going back to the last revision
//! needs no uplink either; the longest unnamed goes first.

mod cache;
mod error;
mod evidence;
mod proof;
mod pull;
mod whole;

pub use cache::{Artifacts, UNNAMED_BYTES_MAX};
pub use error::{OpenError, PullError};
pub(crate) use evidence::Distrust;
pub(crate) use proof::Terms;
pub use pull::Pulled;
