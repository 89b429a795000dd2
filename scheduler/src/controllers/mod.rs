//! The control loop: it follows the store, plans, and carries plans out.
//!
//! ```text
//!   store ── watch ──> Mirror ── touched ──> dirty services ─┐
//!   nodes ── links ──> Reports (latest per replica) ─────────┼─> Round: plans and reports, committed side by side
//!     ^                                                      │     └── conflict or error ──> later, with back-off
//!     └──── deltas of assignments and routes <── Mirror      └── nothing to do: asleep
//! ```
//! One task decides, on one state, so that no two decisions contradict each other; only commits happen beside it. A
//! round starts when the state has caught up with what the last round wrote. What arrives meanwhile is coalesced: a
//! service is planned once however often it was touched, and of a replica's states only the last one is stored.
//!
//! Everything is derived from the store, so there is nothing to recover: after a restart, or when the store has
//! compacted what the watch still needed, the whole is read again and every service planned once. A plan commits with a
//! comparison of all it was made from; if that fails, somebody else wrote, and the service is planned again.

mod balance;
mod counters;
mod events;
mod execute;
mod links;
mod mirror;
mod queries;
mod reports;
mod retry;
mod run;
mod term;
mod wakes;

pub(crate) use counters::Counters;
pub(crate) use events::Recorder;
pub use queries::{Effect, Oracle};
pub(crate) use run::{Control, Parts};
pub use term::TermError;
pub(crate) use term::{EPOCH, Term};
