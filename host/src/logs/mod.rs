//! What guests write: split into lines, limited, stored, read back and followed.
//!
//! ```text
//! guest -> Sink (one per request: splits lines) -> Journal (one per replica: limits, holds, tells followers)
//!                                                     |  flusher: at most half a second later, off the request's path
//!                                                     v
//!                                       logs/NAMESPACE/SERVICE/REPLICA/{current,previous}.ndjson
//! ```
//!
//! A write never waits for the disk: it ends in memory that is bounded by the rate limit. Logs are not worth an fsync: a
//! crash of the process loses half a second of them, a power cut some more, and a line torn by either is skipped by the
//! reader. An idle node writes nothing and wakes nobody.

mod files;
mod journal;
mod limit;
mod lines;
mod read;
mod sink;
mod store;

pub use journal::Journal;
pub use read::{ReadError, Reading};
pub use sink::Sink;
pub use store::Logs;
