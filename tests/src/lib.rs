//! The harness of the whole-system tests: the real binary, its files, its sockets, from outside.
//!
//! A test starts a cluster, talks to it as a user does, and lets it go:
//!
//! ```no_run
//! use skiff_tests::{Cluster, guest};
//!
//! let mut cluster = Cluster::start();
//! cluster.skiff(&["push", "hello", guest("hello").to_str().unwrap()]).ok();
//! cluster.skiff(&["run", "hello", "--path", "/"]).ok();
//! assert_eq!(cluster.get("/").status, 200);
//! cluster.kill9();
//! cluster.restart();
//! cluster.eventually_answers("/", 200);
//! ```
//!
//! Nothing here knows a crate of the product: what a test sees is what a user could. Everything listens on port 0 of
//! 127.0.0.1, every wait has a deadline and says what it waited for, and a cluster is gone when its `Cluster` is: it is
//! killed by its own process id, and waited for. A test fails by panicking, so the helpers do too; the folder of a test
//! that failed is kept, and its path printed.
//!
//! - [`cluster`]: one `skiff up`, and everything a test does to it.
//! - [`docker`]: a Docker engine of a test's own.
//! - [`fleet`]: a `skiff server` and its nodes, on loopback or on machines that can be cut off.
//! - [`run`]: one finished command, and what it said.
//! - [`http`]: a client for HTTP/1.1 that can also say what is wrong on purpose.
//! - [`programs`]: other people's programs, from the machine or its package manager.
//! - [`places`]: where the binary and the guests are.
//! - [`wait`]: waiting with a deadline.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

pub mod cluster;
pub mod docker;
pub mod fleet;
pub mod http;
pub mod places;
pub mod programs;
pub mod run;
pub mod wait;

pub use crate::cluster::{Builder, Cluster, finish};
pub use crate::fleet::Fleet;
pub use crate::http::{Request, Response};
pub use crate::places::{guest, guest_env, skiff_binary};
pub use crate::run::Run;
pub use crate::wait::{eventually, within};
