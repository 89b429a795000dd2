//! How replicas are replaced: by an update, and when their node is lost.

use serde::{Deserialize, Serialize};

use crate::quantity::{Span, Timeout};

/// How one revision follows another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Update {
    /// How many more replicas than wanted there may be meanwhile. Default 1.
    pub surge: u32,
    /// How many fewer than wanted may answer meanwhile. Default 0: new ones start before old ones stop.
    pub unavailable: u32,
    /// How long a new replica must have answered before it stands in for an old one. Default 0s.
    pub healthy: Span,
}

impl Update {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Update {
    fn default() -> Self {
        Self { surge: 1, unavailable: 0, healthy: Span::from_secs(0) }
    }
}

/// What happens when a node and the control plane lose each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Offline {
    /// How long after a node was last heard its replicas are placed elsewhere; `none`: never. Default 5s, the least.
    pub replace_after: Timeout,
}

impl Offline {
    /// As soon as a node can be dead.
    pub const REPLACE_AFTER_MIN: Span = Span::from_secs(5);

    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Offline {
    fn default() -> Self {
        Self { replace_after: Timeout::After(Self::REPLACE_AFTER_MIN) }
    }
}
