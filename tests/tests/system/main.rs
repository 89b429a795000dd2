//! The whole system, through the real binary and its sockets, as a user meets it.
//!
//! - [`bad`]: bad input of every kind, each answer compared with [`golden`] output.
//! - [`gateway`]: TLS, redirects and the access log.
//! - [`tour`]: everything that a tour of the product does, and what must hold meanwhile.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod bad;
mod gateway;
mod golden;
mod tour;
