//! Node to control plane.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{NodeName, ReplicaKey, Uid};
use crate::resource::{EngineReport, EventType, ReplicaStatus, Resources};
use crate::wire::Fence;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "messages are few and move between channels, which hold at most hundreds"
)]
pub enum FromNode {
    /// The first message on a link.
    Hello(Hello),
    /// What the node runs. The first one after a `Hello` is whole, the next ones say what changed.
    Observed(Observed),
    /// The node holds another base than a delta named: send the whole set.
    Resync,
    Event(NodeEvent),
    /// Asked again and again while the node has what needs a lease. The time is its own, and comes back with the answer.
    Lease {
        asked_ms: u64,
    },
    /// The tunnel is not taken up. The reason is for the person who asked.
    NoTunnel {
        id: u64,
        why: String,
    },
    Logs {
        id: u64,
        lines: Vec<LogLine>,
    },
    /// No more lines come for that query. The error is for the person who asked.
    LogsEnd {
        id: u64,
        error: Option<String>,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    pub protocol: u32,
    pub node: NodeName,
    /// Survives restarts of the node.
    pub uid: Uid,
    /// New with each start of the node's process.
    pub incarnation: Uid,
    /// Skiff's version.
    pub version: String,
    /// `linux/x86_64`.
    pub platform: String,
    /// Where its gateway answers, `HOST:PORT`.
    pub gateway: String,
    /// Where it answers other nodes, `HOST:PORT`. Without it, it neither asks them nor answers them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Nodes of one site can dial one another.
    #[serde(default)]
    pub site: String,
    /// What the node's operator says of it. People may change or take away what it said first.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    pub capacity: Resources,
    pub engine: EngineReport,
    /// The version of its Docker engine, if it has one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub docker: String,
    /// The newest fence that the node has accepted.
    pub fence: Fence,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// Whether replicas that are not named are gone.
    pub whole: bool,
    /// The desired set that the node had when it looked.
    pub fence: Fence,
    pub replicas: Vec<(ReplicaKey, ReplicaStatus)>,
    /// Replicas that have stopped.
    pub gone: Vec<ReplicaKey>,
}

/// Something that a person should see in `describe`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeEvent {
    pub replica: ReplicaKey,
    pub event_type: EventType,
    pub reason: String,
    pub message: String,
}

/// Which standard stream of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    Stdout,
    Stderr,
    /// Skiff's own words about the replica: a trap, a limit, lines that were dropped.
    System,
}

/// One line that a guest wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct LogLine {
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub time: Timestamp,
    pub stream: Stream,
    pub text: String,
}
