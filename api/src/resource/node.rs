//! Nodes: machines that run instances.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::Uid;
use crate::quantity::{Bytes, MilliCpu};
use crate::resource::{Kind, Object, Spec};

pub type Node = Object<NodeSpec>;

/// Memory and CPU: of a node, or reserved by a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Resources {
    #[serde(default = "small_memory")]
    pub memory: Bytes,
    #[serde(default = "small_cpu")]
    pub cpu: MilliCpu,
}

/// A component that waits takes some kilobytes, its loaded code a hundred or two, and an instance at work rarely more than
/// the rest of this. Ten thousand of them fit a machine with 16 GiB.
fn small_memory() -> Bytes {
    Bytes::mebi(1)
}

/// None: a component that waits for requests takes no processor time, and any share of it, reserved ten thousand times, is
/// more than a small machine has. Whoever needs a share at all times says so.
fn small_cpu() -> MilliCpu {
    MilliCpu(0)
}

impl Resources {
    pub const ZERO: Self = Self { memory: Bytes(0), cpu: MilliCpu(0) };

    /// What a replica reserves when its manifest says nothing: a component that waits for requests needs little.
    pub fn small() -> Self {
        Self { memory: small_memory(), cpu: small_cpu() }
    }

    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            memory: Bytes(self.memory.0.saturating_add(other.memory.0)),
            cpu: MilliCpu(self.cpu.0.saturating_add(other.cpu.0)),
        }
    }

    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self {
            memory: Bytes(self.memory.0.saturating_sub(other.memory.0)),
            cpu: MilliCpu(self.cpu.0.saturating_sub(other.cpu.0)),
        }
    }
}

/// A node has nothing for people to set yet: it describes itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct NodeSpec {}

/// Whether a node is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Liveness {
    Alive,
    /// Its link is down: it gets no new replicas.
    #[default]
    Suspect,
}

impl Liveness {
    pub fn name(self) -> &'static str {
        match self {
            Self::Alive => "Alive",
            Self::Suspect => "Suspect",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    pub liveness: Liveness,
    /// When its liveness changed.
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub since: Timestamp,
    /// Tells one run of the node's process from another.
    pub incarnation: Uid,
    /// Skiff's version there.
    pub version: String,
    /// `linux/x86_64`.
    pub platform: String,
    /// Where its gateway answers, `HOST:PORT`.
    pub gateway: String,
    /// What placement may reserve there.
    pub capacity: Resources,
    pub engine: EngineReport,
}

/// What the node's sandbox chose for its machine, and why.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct EngineReport {
    /// `wasmtime 48.0.8`.
    pub name: String,
    /// Instances that can live at once.
    pub instances: u32,
    /// Every choice that depends on the machine, with its reason: `pagemap-scan: off (swap is on)`.
    pub choices: BTreeMap<String, String>,
}

impl Spec for NodeSpec {
    const KIND: Kind = Kind::Node;
    type Status = NodeStatus;
}
