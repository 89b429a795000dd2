//! Buckets of values that a service uses.

use serde::{Deserialize, Serialize};

use crate::id::Name;

/// A bucket that a service may use through `wasi:keyvalue`. It belongs to the service's namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct BucketGrant {
    /// What guests open it by.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub bucket: Name,
    /// Who shares it. Default `cluster`.
    #[serde(default, skip_serializing_if = "BucketScope::is_default")]
    pub scope: BucketScope,
}

/// Who shares a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum BucketScope {
    /// All replicas of the namespace, wherever they are. The control plane keeps it, and is needed for it.
    #[default]
    Cluster,
    /// Those on one node, which keeps it and needs nobody for it.
    Node,
}

impl BucketScope {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
