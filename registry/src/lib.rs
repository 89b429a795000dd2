//! OCI for Skiff: how a component is stored, pushed, pulled and served.
//!
//! - [`attached`] (both features): signatures in the embedded registry.
//! - [`manifest`], [`hash`]: the formats and digests that both sides share.
//! - [`client`] (feature `client`): from a `.wasm` file to an artifact in a registry, and back to a file on a node.
//! - [`sign`] (feature `client`): signatures of images.
//! - [`copy`] (both features): an image of another registry, into the embedded one.
//! - [`server`] (feature `server`): the embedded registry, the distribution specification under `/v2`.
//! - [`collector`] (feature `server`): when the store's garbage is collected.
//! - [`store`] (feature `server`): what the embedded registry keeps on disk; also read in-process.

#[cfg(all(feature = "client", feature = "server"))]
pub mod attached;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod collector;
#[cfg(all(feature = "client", feature = "server"))]
pub mod copy;
pub mod hash;
pub mod manifest;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "client")]
pub mod sign;
#[cfg(feature = "server")]
pub mod store;

#[cfg(feature = "client")]
pub use client::{Artifact, Client, ClientOptions};
#[cfg(feature = "server")]
pub use server::{Action, Authorizer, Decision, router, router_with};
#[cfg(feature = "server")]
pub use store::Registry;
