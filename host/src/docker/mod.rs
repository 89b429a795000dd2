//! Containers: native images, run by the machine's Docker engine.
//!
//! ```text
//! registry --(the node's own client)--> image::load --> engine
//! reconcile --start, stop, watch--> Containers --Engine API--> engine --> container <--call-- gateway
//! ```
//! The engine needs no configuration, no login and no trust: the node pulls an image as it pulls a component, by digest, and
//! hands it over. A container is named after its replica and labelled with its node, so that a node that starts again finds
//! its own, goes on with those that are wanted and removes the rest; what has not its label is never touched.
//!
//! What a container keeps beside its image is [`volume`]'s affair.
//!
//! Each container has a network of its own, without a way out: the node reaches it, no other container does, and nothing is
//! published on the machine's addresses. It has no capabilities, gains none, writes to `/tmp` and its volumes only, and is held to its limits
//! by the kernel. Every call to the engine ends in time: an engine that hangs is the trouble of its replicas, not the node's.

mod call;
mod containers;
mod engine;
mod error;
mod exec;
mod files;
mod health;
mod image;
mod logs;
mod network;
mod shape;
mod upgrade;
mod volume;

pub(crate) use call::Callee;
pub(crate) use containers::{Containers, Exit, Owner};
pub(crate) use engine::Engine;
pub(crate) use error::Error;
pub(crate) use volume::Keep;
