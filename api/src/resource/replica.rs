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
    pub service: Name,
    pub revision: RevisionName,
    /// Where it runs; absent while no node fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// Where it is to move: its successor starts there, and it stops once that answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moves_to: Option<NodeName>,
}

/// The state of a replica.
///
/// ```text
/// Pending -> Pulling -> Compiling -> Ready -> Stopping
///               \___________\_______> Failed -> (after a back-off) Pulling
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
    /// It cannot run; the message says why. The node tries again.
    Failed,
    /// It finishes the requests in flight, or what a worker is at.
    Stopping,
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
}

impl Spec for ReplicaSpec {
    const KIND: Kind = Kind::Replica;
    type Status = ReplicaStatus;
}
