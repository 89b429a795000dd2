//! A whole node against a control plane that is only messages, and a real registry.
//!
//! The guests are those of `cargo xtask guests`.

// What a node is made of is nested deeper than the compiler looks by itself.
#![recursion_limit = "256"]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod artifacts;
mod calls;
mod drain;
mod exclusive;
mod fleet;
mod limits;
mod logs;
mod metrics;
mod outbound;
mod peer_calls;
mod peer_failures;
mod peer_moves;
mod peers;
mod restart;
mod routes;
mod serve;
mod settings;
mod signed;
mod streams;
mod support;
mod tasks;
mod tls;
mod update;
mod uplink;
