//! Why a service's replicas are where they are: the answer that `skiff why` prints.

use serde::{Deserialize, Serialize};

use crate::id::{NodeName, ReplicaName};
use crate::resource::Phase;

/// The scheduler's reasons for one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Why {
    pub replicas: Vec<WhyReplica>,
    /// How many nodes there are.
    pub nodes: usize,
    /// How many of them would take another replica now.
    pub fitting: usize,
    /// Every filter that refuses a node, with how many it refuses. A node may be refused by several.
    pub filters: Vec<WhyFilter>,
    /// What would make room, for a replica that waits.
    pub help: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct WhyReplica {
    pub name: ReplicaName,
    /// Absent while no node takes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    pub phase: Phase,
    /// What speaks for the node, or what the replica waits for; one sentence each.
    pub because: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct WhyFilter {
    /// What it asks of a node.
    pub filter: String,
    /// Nodes that it refuses.
    pub refused: usize,
    /// Nodes that nothing else refuses.
    pub alone: usize,
}

/// What a rebalancing moves, or would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Rebalance {
    pub moves: Vec<RebalanceMove>,
    /// The emptiest and the fullest node, in thousandths of their capacity: now, and once all is moved.
    pub before: [u64; 2],
    pub after: [u64; 2],
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RebalanceMove {
    /// `NAMESPACE/NAME`.
    pub replica: String,
    pub from: NodeName,
    pub to: NodeName,
}
