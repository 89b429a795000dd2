//! What the node has and runs.

use std::collections::BTreeMap;

use skiff_api::Digest;
use skiff_api::id::{ReplicaKey, Uid};
use skiff_api::resource::INTERRUPTED;

use super::backoff::Failure;

/// The state that a plan starts from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observed {
    pub code: BTreeMap<Digest, Code>,
    pub running: BTreeMap<ReplicaKey, Running>,
    /// Replicas that did not start.
    pub failed: BTreeMap<ReplicaKey, Failure>,
    /// Tasks that have ended, or that an earlier process may have begun: none of them runs again.
    pub ended: BTreeMap<ReplicaKey, Ended>,
    /// Whether the node holds its lease: what may run in one place only runs here while it does.
    pub is_leased: bool,
}

/// How a task has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub uid: Uid,
    /// Its status, where it came to its end by itself.
    pub exit_code: Option<i32>,
    /// One word for programs; empty where it has done what it was to do.
    pub reason: &'static str,
    /// One sentence for people.
    pub message: String,
}

impl Ended {
    /// It was not at fault.
    pub fn interrupted(uid: &Uid, message: &str) -> Self {
        Self { uid: uid.clone(), exit_code: None, reason: INTERRUPTED, message: message.to_owned() }
    }
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
