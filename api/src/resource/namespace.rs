//! Namespaces: who shares names and grants.

use serde::{Deserialize, Serialize};

use crate::grant::Grants;
use crate::quantity::{Bytes, MilliCpu};
use crate::resource::{Kind, Object, Spec};

/// The namespace of an object that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Namespaces that nobody may make: their `NAME.NAMESPACE.internal` would read as a cloud's metadata service.
pub const RESERVED_NAMESPACES: [&str; 2] = ["metadata", "google"];

pub type Namespace = Object<NamespaceSpec>;

/// What holds for everything in a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct NamespaceSpec {
    /// The most that its services may allow themselves. Default: every service that agrees, every public server.
    #[serde(default)]
    pub allow: Grants,
    /// Whether replicas spread over nodes or fill one after another. Default `spread`.
    #[serde(default, skip_serializing_if = "Strategy::is_default")]
    pub placement: Strategy,
    /// The most that all its replicas may have together.
    #[serde(default, skip_serializing_if = "Quota::is_default")]
    pub quota: Quota,
}

/// Which of the nodes that fit a replica gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// The emptiest: load is even, and losing a node loses little.
    #[default]
    Spread,
    /// The fullest: few nodes are in use, and large replicas find room.
    Pack,
}

impl Strategy {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The most that all replicas of a namespace may have together. Replicas beyond it wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Quota {
    /// Placed replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// The sum of what they reserve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<MilliCpu>,
}

impl Quota {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct NamespaceStatus {}

impl Spec for NamespaceSpec {
    const KIND: Kind = Kind::Namespace;
    type Status = NamespaceStatus;
}
