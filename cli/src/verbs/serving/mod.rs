//! What the verbs that serve are made of: `up`, `server` and `node`.
//!
//! ```text
//!   up      = control plane + node, plain HTTP on this machine
//!   server  = control plane, behind TLS
//!   node    = node, linked to a control plane elsewhere
//! ```
//! Each starts from the bottom up and stops from the top down: what answers drains first, while the rest still works.

pub(super) mod api;
pub(super) mod authority;
mod certificate;
pub(super) mod control;
pub(super) mod data;
mod garbage;
mod images;
pub(super) mod listen;
mod mirror;
pub(super) mod node;
pub(super) mod process;
mod rights;
pub(super) mod tls;
