//! `skiff server`: the control plane and the registry of a fleet.
//!
//! ```text
//! 0.0.0.0:7070         one TLS listener: API /v1, registry /v2, links of nodes
//! DATA/authority.pem   the cluster's own certificate authority: whoever has it can be any node
//!     /lock, token, store.redb, registry, copies   as `skiff up` has them
//! ```
//! A cluster of `skiff up` becomes one of many machines when the same data folder is served so, and back.

mod serve;

use crate::Outcome;
use crate::args::ControlArgs;
use crate::verbs::serving::process;

pub(super) fn run(args: ControlArgs) -> Outcome {
    process::run(serve::serve(args))
}
