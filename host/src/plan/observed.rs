//! What the node has and runs.

use std::collections::BTreeMap;

use skiff_api::Digest;
use skiff_api::id::{ReplicaKey, Uid};

use super::backoff::Failure;

/// The state that a plan starts from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    pub code: BTreeMap<Digest, Code>,
    pub running: BTreeMap<ReplicaKey, Running>,
    /// Replicas that did not start.
    pub failed: BTreeMap<ReplicaKey, Failure>,
}

/// What is known of an image's code.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Code {
    pub stage: CodeStage,
    /// Why the last pull or compile failed.
    pub failure: Option<Failure>,
}

/// Where the code of an image is on its way to the engine.
///
/// ```text
/// Missing -> Pulling -> Pulled -> Compiling -> Compiled
///    ^----------'          ^----------'
/// ```
/// Compiled code that turns out to be damaged is `Pulled` again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CodeStage {
    #[default]
    Missing,
    Pulling,
    Pulled,
    Compiling,
    Compiled,
}

/// A replica that exists on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    pub uid: Uid,
    pub stage: RunningStage,
}

/// ```text
/// Starting -> Ready -> Stopping -> gone
///     '-> failed  '--------^
/// ```
/// A replica that is no longer wanted while it starts is stopped once it has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunningStage {
    Starting,
    Ready,
    Stopping,
}
