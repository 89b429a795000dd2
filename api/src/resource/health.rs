//! Whether a replica is well: how it is asked, and how often.

use serde::{Deserialize, Serialize};

use crate::quantity::Span;

/// A check of a replica, by its node. One of `path`, `port` and `exec` says what is asked; of a component it is `path`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Health {
    /// The path of a GET that is answered with a status from 200 to 399, on the port for requests, or on `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Without a path: a port that takes connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// A program of the container, and its arguments, that ends with code 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exec: Vec<String>,
    /// Between two checks. Default 5s.
    #[serde(default = "Health::default_every")]
    pub every: Span,
    /// How long a check may take. Default 2s.
    #[serde(default = "Health::default_timeout")]
    pub timeout: Span,
    /// After so many that failed, one after another, the replica gets nothing any more and is started anew. Default 3.
    #[serde(default = "Health::default_failures")]
    pub failures: u32,
    /// How long it may take until the first check succeeds. Requests come to it after that. Default 60s.
    #[serde(default = "Health::default_start")]
    pub start: Span,
}

impl Health {
    pub(crate) const fn default_every() -> Span {
        Span::from_secs(5)
    }

    pub(crate) const fn default_timeout() -> Span {
        Span::from_secs(2)
    }

    fn default_failures() -> u32 {
        3
    }

    fn default_start() -> Span {
        Span::from_secs(60)
    }
}
