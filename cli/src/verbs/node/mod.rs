//! `skiff node`: a machine that runs what a control plane on another machine assigns to it.
//!
//! ```text
//! DATA/lock           held while the process runs
//! DATA/node/identity  the cluster, the node's name, key and certificate: made by the first start, with a token
//!          /time      a time that has come, for machines without a clock
//!          /…         desired set, routes, artifacts, compiled code, logs
//! ```
//! Only the first start needs the control plane. Every later one serves what is on the disk before it looks for anybody.

mod member;
mod monitor;
mod serve;

use crate::Outcome;
use crate::args::{NodeRunArgs, ServerArgs};
use crate::verbs::serving::process;

pub(super) fn run(server: ServerArgs, args: NodeRunArgs) -> Outcome {
    process::run(serve::serve(server, args))
}
