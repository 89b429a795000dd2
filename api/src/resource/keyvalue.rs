//! Buckets of values that a service uses.

use serde::{Deserialize, Serialize};

use crate::id::Name;
use crate::resource::RedisUrl;

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
    /// A Redis that it is kept in, and not in the cluster: `redis://HOST:6379/0`, or `rediss://` with TLS. The namespace
    /// grants the server, `allow: {tcp: [HOST:6379]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisUrl>,
    /// The key of one of the service's Secrets that has the password.
    #[serde(default, rename = "passwordKey", skip_serializing_if = "Option::is_none")]
    pub password_key: Option<String>,
    /// What all its keys begin with there. Default nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
}

impl BucketGrant {
    /// Whether the control plane keeps it.
    pub fn is_clusters(&self) -> bool {
        self.redis.is_none() && self.scope == BucketScope::Cluster
    }
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
