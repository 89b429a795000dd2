//! From desired to observed: one task that plans, begins what is planned, and reports.
//!
//! ```text
//!  control plane --Desired, Routes--> [actor] --plan--> operations (pull, compile, start, stop), each a task
//!        ^                              |  ^                  |
//!        '------ outbox: Observed, -----'  '---- outcomes ----'
//!                Event, Logs            '--> routing table of the gateway
//! ```
//! The actor itself waits for nothing but the state file. What goes out waits in the outbox, where the newer status of a
//! replica replaces the older one, so that a slow or missing control plane costs a bounded amount of memory. All
//! decisions are [`crate::plan`]'s; a message that is wrong in any way is refused and changes nothing.

mod actor;
mod dirty;
mod lease;
mod operation;
mod outbox;
mod queries;
mod routing;
mod sets;
mod settle;
mod told;
mod tunnels;
mod worker;

pub(crate) use actor::{Command, Parts, Reconciler};
pub(crate) use operation::{Tools, chain};
