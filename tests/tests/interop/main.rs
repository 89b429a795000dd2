//! Other people's tools and registries, and images that they made.
//!
//! - [`forms`]: an image in each form that a tool writes, from its documented bytes, answers through the gateway.
//! - [`verbs`]: push, pull, images, tag, rmi, login and logout, as users of docker expect them.
//! - [`foreign`]: services whose images are in another registry, which is Debian's `docker-registry`.
//! - [`docker`]: a real engine, with and without a login, and over TLS from another machine.
//! - [`containers`], [`volumes`]: native images, run by an engine, and what they keep.
//! - [`containers`], [`doorway`]: native images on a real engine, and what they reach.
//! - [`tools`]: skopeo, podman, oras and wkg against the cluster's registry.
//! - [`examples`]: components that other projects' tools make of their own examples.
//! - [`signatures`]: signed images, with openssl, docker-registry and a library of Sigstore.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod containers;
mod docker;
mod doorway;
mod examples;
mod foreign;
mod forms;
mod image;
mod inside;
mod mixed;
mod platforms;
mod signatures;
mod tools;
mod upgrades;
mod verbs;
mod volumes;
