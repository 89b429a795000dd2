//! `skiff up`: the whole cluster in one process.
//!
//! ```text
//! API + registry  127.0.0.1:7070   one listener: /v1 and /v2
//! gateway         127.0.0.1:8080   the node's
//! DATA/lock       held while the process runs: two processes never share a folder
//!     /token      the admin token
//!     /store.redb objects and events
//!     /registry   blobs, manifests, tags
//!     /copies     images of other registries on their way here
//!     /node       artifacts, compiled code, desired set, logs
//! ```
//! The process starts from the bottom up and stops from the top down: the gateway drains first, while the rest still
//! answers.

mod serve;

use crate::Outcome;
use crate::args::UpArgs;
use crate::verbs::serving::process;

pub(super) fn run(args: UpArgs) -> Outcome {
    process::run(serve::serve(args))
}
