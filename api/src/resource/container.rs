//! What only containers have: native images, which nodes hand to their Docker engine.

use serde::{Deserialize, Serialize};

use crate::id::Name;
use crate::resource::Template;

/// What runs an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// A component, in the node's own sandbox.
    Wasm,
    /// A container, by the node's Docker engine.
    Docker,
}

impl Runtime {
    pub fn name(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
            Self::Docker => "docker",
        }
    }
}

/// Where a container listens, by TCP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Port {
    /// The port that is called `http` answers the service's requests; a single one needs no name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    pub port: u16,
}

/// The name of the port that answers requests, among several.
pub const HTTP_PORT: &str = "http";

/// The port that answers requests: the one of that name, or the only one.
pub fn http_port(ports: &[Port]) -> Option<u16> {
    let named = ports.iter().find(|port| port.name.as_ref().is_some_and(|name| name.as_str() == HTTP_PORT));
    let only = match ports {
        [only] => Some(only),
        _ => None,
    };
    named.or(only).map(|port| port.port)
}

impl Template {
    /// Whether a Docker engine runs it.
    pub fn is_container(&self) -> bool {
        self.runtime == Some(Runtime::Docker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, port: u16) -> Port {
        Port { name: (!name.is_empty()).then(|| name.parse().unwrap()), port }
    }

    #[test]
    fn requests_go_to_the_port_of_that_name_or_to_the_only_one() {
        assert_eq!(http_port(&[]), None);
        assert_eq!(http_port(&[port("", 80)]), Some(80));
        assert_eq!(http_port(&[port("main", 80)]), Some(80));
        assert_eq!(http_port(&[port("admin", 80), port("http", 81)]), Some(81));
        assert_eq!(http_port(&[port("admin", 80), port("other", 81)]), None);
    }
}
