//! Buckets of values by key, durable in one file: what `wasi:keyvalue` stands on.
//!
//! A node has buckets of its own (scope `node`), which work with nobody to ask; the control plane has those that all nodes
//! share (scope `cluster`). Both are an [`Engine`]. An operation ([`Op`]) is done as a whole or not at all, and is durable when it
//! is answered ([`Answer`]). A bucket is named by whoever uses the engine: `NAMESPACE/BUCKET`.

mod engine;
mod op;
mod tables;

pub use engine::{Engine, Error, Limits};
pub use op::{Answer, KEY_BYTES_MAX, KEYS_MAX, OP_BYTES_MAX, Op, PAGE_KEYS, Print, Refusal, VALUE_BYTES_MAX, Value};
