//! Every decision of the control plane, as pure functions: state in, plan out.
//!
//! Nothing here waits, reads a clock, draws a random number or does I/O: time and names are arguments. So the same
//! modules run in the binary, in property tests against slow and obviously right checkers, and in a simulator.
//!
//! ```text
//!   State ── service ──> revision ─> rollout ─> placement ─> status ──> Plan { actions, events } ── lint ──> execute
//!     └───── desired ──> what each node should run and answer for, and who else does (endpoints)
//! ```
//!
//! [`service::plan`] puts the parts together for one service. A plan is one step, small enough for one transaction;
//! when it has been carried out, planning again yields the next step, and nothing once the service is as it should be.

pub mod action;
pub mod board;
pub mod desired;
pub mod endpoints;
pub mod everywhere;
pub mod exclusive;
pub mod job;
pub mod lint;
pub mod liveness;
pub mod names;
pub mod placement;
pub mod rebalance;
pub mod revision;
pub mod rollout;
pub mod schedule;
pub mod service;
pub mod state;
pub mod status;
pub mod why;

pub use action::{Action, Plan, PlannedEvent};
pub use board::Board;
pub use names::Names;
pub use state::{State, Workload};

#[cfg(test)]
mod scenarios;
#[cfg(test)]
pub(crate) mod testing;
