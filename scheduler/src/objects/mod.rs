//! Typed objects over the store.
//!
//! Everything that reads or writes an object goes through [`Objects`] and [`Change`], so that no caller can forget what
//! belongs to a write: the comparison with what was seen, the generation, the route index, the namespace that must
//! exist. What lies under which key is in [`key`].

mod access;
mod change;
mod codec;
mod error;
mod events;
mod indexed;
pub mod key;
mod namespaces;

pub use access::{Listed, Objects};
pub use change::Change;
pub use codec::decode;
pub use error::Error;
pub use events::{Events, Note};
pub use indexed::{Indexed, default_host, routes_of};
pub use key::ObjectKey;

#[cfg(test)]
mod tests;
