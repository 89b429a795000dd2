//! Other people's tools and registries, and images that they made.
//!
//! - [`forms`]: an image in each form that a tool writes, from its documented bytes, answers through the gateway.
//! - [`verbs`]: push, pull, images, tag, rmi, login and logout, as users of docker expect them.
//! - [`foreign`]: services whose images are in another registry, which is Debian's `docker-registry`.
//! - [`tools`]: skopeo, podman and oras against the cluster's registry.
//! - [`signatures`]: signed images, with openssl, docker-registry and a library of Sigstore.
//! - [`programs`]: where these programs come from.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod foreign;
mod forms;
mod image;
mod programs;
mod signatures;
mod tools;
mod verbs;
