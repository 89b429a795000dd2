//! Going back to an earlier revision of a service: what is asked for, and what happened.

use serde::{Deserialize, Serialize};

/// Where to go back to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RollBack {
    /// The number of a revision that is kept. Default: the newest that differs from the service as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
}

/// What going back did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RolledBack {
    /// The revision whose template the service has now.
    pub revision: u64,
    /// Whether it had another one before.
    pub changed: bool,
}
