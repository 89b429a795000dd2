//! Revisions: immutable snapshots of what a service's replicas are made from.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::grant::{Allow, Privilege};
use crate::id::Name;
use crate::image::ImageRef;
use crate::resource::{
    BucketGrant, Health, HttpTimeout, InstanceLimits, Kind, Object, Port, ReplicaLimits, Resources, Runtime, Spec,
    Volume,
};

pub type Revision = Object<RevisionSpec>;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RevisionSpec {
    pub service: Name,
    /// From 1, one higher for each change of the template.
    pub number: u64,
    pub template: Template,
}

/// Everything that a node needs to run a replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// Always with a digest.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub image: ImageRef,
    /// What runs it. `None`: the node's own sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub privileges: Vec<Privilege>,
    #[serde(default)]
    pub timeout: HttpTimeout,
    pub in_flight: u32,
    pub resources: Resources,
    #[serde(default, skip_serializing_if = "ReplicaLimits::is_default")]
    pub limits: ReplicaLimits,
    #[serde(default)]
    pub instance: InstanceLimits,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub config: Vec<Name>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Name>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_from: Vec<Name>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keyvalue: Vec<BucketGrant>,
    #[serde(default, skip_serializing_if = "Allow::is_empty")]
    pub allow: Allow,
    /// A node runs it only while it holds its lease.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exclusive: bool,
    /// Nodes make nothing of it: it tells one revision from another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub restarted_at: Option<Timestamp>,
}

impl Template {
    /// Whether what is made from it may run in one place only.
    pub fn is_exclusive(&self) -> bool {
        self.exclusive || self.bound_by().is_some()
    }

    /// The volume that keeps it on one node, if there is one.
    pub fn bound_by(&self) -> Option<&Volume> {
        self.volumes.iter().find(|volume| volume.binds())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RevisionStatus {}

impl Spec for RevisionSpec {
    const KIND: Kind = Kind::Revision;
    type Status = RevisionStatus;
}
