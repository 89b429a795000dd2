//! The registry as its users see it: raw requests and the client, over loopback; power cuts on a simulated disk.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail as the test does")]

mod auth;
mod collect;
mod conformance;
mod crash;
mod foreign;
mod forms;
mod hostile;
mod manifests;
mod memory;
mod refusals;
mod roundtrip;
mod sessions;
mod storm;
mod support;
mod uploads;
