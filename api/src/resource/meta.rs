//! What every object says about itself.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{Name, Uid};
use crate::resource::Kind;

/// The metadata of an object. All but name, namespace, labels and annotations is the server's to write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    pub name: String,
    /// Absent for kinds that belong to the whole cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Name>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub uid: Uid,
    /// How often the spec changed, from 1.
    #[serde(default)]
    pub generation: u64,
    /// Opaque; changes with every write, and is compared on update.
    #[serde(default)]
    pub resource_version: String,
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub created: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub deleted_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<Owner>,
}

impl Metadata {
    /// The metadata of an object that no server has seen yet.
    pub fn new(namespace: Option<Name>, name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            namespace,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            uid: Uid::default(),
            generation: 0,
            resource_version: String::new(),
            created: Timestamp::default(),
            deleted_at: None,
            finalizers: Vec::new(),
            owners: Vec::new(),
        }
    }
}

/// An object that this one goes away with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Owner {
    pub kind: Kind,
    pub name: String,
    pub uid: Uid,
}
