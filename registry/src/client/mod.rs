//! From a `.wasm` file to an artifact in the cluster's registry, and back to a file on a node.
//!
//! - [`component`]: what a `.wasm` file is, and the adapting of core modules.
//! - [`artifact`]: the CNCF wasm artifact layout around it.
//! - [`mod@select`]: which layers of an image matter, whoever pushed it; [`search`]: the component in them, unpacked by
//!   [`unpack`].
//! - [`remote`]: a registry, how it is reached and how often it is asked; [`options`] says which. [`challenge`], [`auth`] and
//!   [`credentials`]: who asks. [`reach`]: where it may lead. [`failure`]: what its errors mean.
//! - [`fetch`]: manifests and lists; [`blob`]: a blob into a file; [`push`], [`pull`]: the two directions; [`link`]:
//!   one image under two names; [`summary`]: one in a list; [`signatures`]: who signed it.

mod artifact;
mod auth;
mod blob;
mod challenge;
mod component;
mod credentials;
mod error;
mod failure;
mod fetch;
mod files;
mod link;
mod options;
mod pull;
mod push;
mod reach;
mod remote;
mod search;
mod select;
mod signatures;
mod summary;
mod unpack;

pub use artifact::Artifact;
pub use component::{COMPONENT_BYTES_MAX, Component, InvalidWasm, NESTING_MAX, World, is_too_deep};
pub use credentials::{Credential, CredentialError, Logins, docker_key, encoded, helper_program};
pub use error::{Error, Login};
pub use fetch::PulledManifest;
pub use files::FileReader;
pub use options::{ClientOptions, RegistryKind};
pub use pull::{Form, PulledComponent};
pub use remote::Client;
pub use search::{CONFIG_BYTES_MAX, Look, Search, SearchError, Sink};
pub use select::{INDEX_DEPTH_MAX, Selection, Unfit, for_machine, select};
pub use summary::{ImageKind, Summary};
