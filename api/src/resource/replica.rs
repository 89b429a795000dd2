//! Replicas: placed copies of a revision.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{Name, NodeName, RevisionName};
use crate::resource::{Kind, Object, Spec};

pub type Replica = Object<ReplicaSpec>;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ReplicaSpec {
    /// The service or job that it belongs to.
    pub service: Name,
    pub revision: RevisionName,
    /// Where it runs; absent while no node fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// Where it is to move: its successor starts there, and it stops once that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moves_to: Option<NodeName>,
    /// It is to stop where it is, and goes once that is known: nothing may take its place before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stop: bool,
}

/// The state of a replica.
///
/// ```text
/// Pending -> Pulling -> Compiling -> Ready -> Stopping
///               \___________\_______> Failed -> (after a back-off) Pulling
/// a job's:                           Ready -> Succeeded, or Failed for good
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Phase {
    /// Not placed, or its node has not answered yet.
    #[default]
    Pending,
    /// The node fetches the artifact.
    Pulling,
    /// The node compiles it.
    Compiling,
    /// It answers requests, or, as a worker, runs.
    Ready,
    /// It cannot run; the message says why. The node tries again, unless it has ended.
    Failed,
    /// It finishes the requests in flight, or what a worker is at.
    Stopping,
    /// It has done what it was to do.
    Succeeded,
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Pulling => "Pulling",
            Self::Compiling => "Compiling",
            Self::Ready => "Ready",
            Self::Failed => "Failed",
            Self::Stopping => "Stopping",
            Self::Succeeded => "Succeeded",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ReplicaStatus {
    pub phase: Phase,
    /// One word for programs: why it is in this phase.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// One sentence for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When it came into this phase.
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub since: Timestamp,
    /// How often the node tried again after a failure.
    pub retries: u32,
    /// Of a task: it has run, or was stopped, and will not run again. Of a service's: it was told to stop, and has.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
    /// Of a task that has ended by itself: its status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

/// Why a task has ended that was not at fault.
pub const INTERRUPTED: &str = "Interrupted";

impl ReplicaStatus {
    /// A task that has ended and was not at fault: another one does its work.
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self {
            phase: Phase::Failed,
            reason: INTERRUPTED.to_owned(),
            message: message.into(),
            ended: true,
            ..Self::default()
        }
    }

    pub fn is_interrupted(&self) -> bool {
        self.ended && self.reason == INTERRUPTED
    }
}

impl Object<ReplicaSpec> {
    /// Whether it belongs to a job, and so runs once.
    pub fn is_task(&self) -> bool {
        self.metadata.owners.iter().any(|owner| owner.kind == Kind::Job)
    }
}

impl Spec for ReplicaSpec {
    const KIND: Kind = Kind::Replica;
    type Status = ReplicaStatus;
}
