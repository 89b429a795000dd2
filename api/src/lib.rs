//! The language shared by all of Skiff: what is stored, exchanged and printed. It is at the bottom of the house: every
//! other crate uses it, and it uses none.

pub mod capability;
#[cfg(feature = "client")]
pub mod client;
pub mod digest;
pub mod grant;
pub mod id;
pub mod image;
pub mod manifest;
pub mod nearest;
pub mod problem;
pub mod quantity;
pub mod resource;
pub mod rollback;
pub mod schedule;
pub mod settings;
pub mod standard;
pub mod trust;
pub mod validate;
pub mod why;
pub mod wire;

pub use digest::Digest;
pub use id::{Name, NodeName, ReplicaKey, ReplicaName, RevisionName, ServiceKey, Uid};
pub use image::ImageRef;
pub use problem::{Code, Problem};
pub use resource::Kind;
pub use trust::{PublicKey, Trust};
