//! From a `.wasm` file to an artifact in the cluster's registry, and back to a file on a node.
//!
//! - [`component`]: what a `.wasm` file is, and the adapting of core modules.
//! - [`artifact`]: the CNCF wasm artifact layout around it.
//! - [`remote`]: a registry as `oci-client` reaches it, with its login and its retries; [`failure`]: what its errors mean.
//! - [`push`], [`pull`]: the two directions; [`fetch`]: a manifest, as long as it may be.

mod artifact;
mod component;
mod error;
mod failure;
mod fetch;
mod options;
mod pull;
mod push;
mod remote;

pub use artifact::Artifact;
pub use component::{COMPONENT_BYTES_MAX, InvalidWasm, NESTING_MAX, World, is_too_deep};
pub use error::Error;
pub use options::ClientOptions;
pub use pull::{PulledComponent, PulledManifest};
pub use remote::Client;
