//! Volumes: what a container has beside its image, and keeps.

use serde::{Deserialize, Serialize};

use crate::grant::FullPath;
use crate::id::{Name, NodeName, Uid};

/// A folder of a container that outlives it. It has either a name or a path of the machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// A volume of the node's Docker engine. It is made for the service, and stays until that is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>))]
    pub name: Option<Name>,
    /// A file or folder of the machine, without symbolic links in its path. The namespace grants it, `allow: {hostPaths: [PATH]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_path: Option<FullPath>,
    /// Where the container finds it.
    pub path: FullPath,
    /// Whether it only reads. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

impl Volume {
    /// Whether it is what it is on one node only: whoever has it stays there.
    pub fn binds(&self) -> bool {
        self.name.is_some() || !self.read_only
    }

    /// What people call it.
    pub fn called(&self) -> &str {
        match (&self.name, &self.host_path) {
            (Some(name), _) => name.as_str(),
            (None, Some(path)) => path.as_str(),
            (None, None) => self.path.as_str(),
        }
    }
}

/// The node that has a service's volumes. A machine of the same name that joined later does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Home {
    pub node: NodeName,
    pub uid: Uid,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_reads_the_machine_may_run_anywhere() {
        let volume = |text: &str| serde_json::from_str::<Volume>(text).unwrap();
        assert!(volume(r#"{"name": "data", "path": "/data"}"#).binds());
        assert!(volume(r#"{"name": "data", "path": "/data", "readOnly": true}"#).binds());
        assert!(volume(r#"{"hostPath": "/srv", "path": "/data"}"#).binds());
        assert!(!volume(r#"{"hostPath": "/srv", "path": "/data", "readOnly": true}"#).binds());
    }
}
