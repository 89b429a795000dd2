//! What the node should do next: desired against observed.
//!
//! Pure: no I/O, and no clock but an argument. [`crate::reconcile`] carries the actions out, feeds what came of them back
//! into [`Observed`], and plans again; it decides nothing.

mod backoff;
mod lease;
mod observed;
mod step;

pub use backoff::{CRASH_LOOP, Failure, Retry};
pub use lease::Lease;
pub use observed::{Code, CodeStage, Ended, Observed, Running, RunningStage};
pub use step::{Action, Plan, Standing, plan, plan_for};
