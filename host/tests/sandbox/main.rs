//! The sandbox and the compiling process, with real guests: every limit with the failure it ends in, and a benign guest
//! just below it.
//!
//! The guests are those of `cargo xtask guests`.

// What a node is made of is nested deeper than the compiler looks by itself.
#![recursion_limit = "256"]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod budgets;
mod cancel;
mod code;
mod compile;
mod idle;
mod limits;
mod neighbours;
mod prepare;
mod reuse;
mod support;
mod traffic;
