//! Namespaces: who shares names and grants.

use serde::{Deserialize, Serialize};

use crate::grant::Grants;
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
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct NamespaceStatus {}

impl Spec for NamespaceSpec {
    const KIND: Kind = Kind::Namespace;
    type Status = NamespaceStatus;
}
