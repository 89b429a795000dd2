//! The typed client of the control plane's API.
//!
//! Every call answers with the object or an [`Error`] that keeps the server's [`Problem`](crate::Problem). Nothing is
//! retried here but watches, which resume where they were: a caller knows best whether its write may be sent twice.

mod calls;
mod error;
mod logs;
mod streams;
mod transport;
mod watch;

pub use calls::{Applied, ApplyAction, List, ListMeta, ListQuery, Moved, Run, Scope, VersionInfo};
pub use error::Error;
pub use logs::{LogEntry, LogOptions, LogTarget};
pub use transport::{Client, ClientOptions};
pub use watch::{Change, WatchEvent, WatchType};
