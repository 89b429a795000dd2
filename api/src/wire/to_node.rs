//! Control plane to node.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{Name, ReplicaKey, RevisionName, ServiceKey, Uid};
use crate::resource::{Callers, Route, Template};
use crate::settings::Settings;
use crate::standard::Size;
use crate::trust::Trust;
use crate::wire::{Base, Fence};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToNode {
    Desired(Desired),
    Routes(Routes),
    /// Answered by [`super::FromNode::Logs`] with the same id, until [`super::FromNode::LogsEnd`].
    Logs {
        id: u64,
        query: LogQuery,
    },
    /// Nobody reads the answer to that query any more.
    CancelLogs {
        id: u64,
    },
    /// The node holds its lease for a while, counted from when it asked: what may run in one place only may run there.
    Lease {
        asked_ms: u64,
    },
    /// Somebody wants to talk to something on the node, which takes up the tunnel of that number, or answers
    /// [`super::FromNode::NoTunnel`].
    Tunnel {
        id: u64,
        to: TunnelTo,
    },
    /// The link ends, because of what the node is or said.
    Refused {
        why: String,
    },
}

/// What the node should run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    pub fence: Fence,
    pub base: Base,
    pub upsert: Vec<Assignment>,
    pub remove: Vec<ReplicaKey>,
    /// The services whose volumes are on the node, all of them: whatever else it has of volumes goes. `None`: it is as it was
    /// the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<Vec<Uid>>,
}

/// One replica for the node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    pub replica: ReplicaKey,
    pub uid: Uid,
    pub service: Name,
    pub revision: RevisionName,
    /// Shared by the replicas of a revision.
    pub template: Arc<Template>,
    /// Who must have signed its image, where its namespace has policies. It may change under a replica: it holds for its
    /// next start. Shared by the replicas of a revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<Arc<Trust>>,
    /// What its Configs and Secrets say, where it names some. It may change under a replica: it holds for its next instance.
    /// Shared by the replicas of a revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<Arc<Settings>>,
    /// It runs once, to its end, and only while the node holds its lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// Of a service's replica: it is to stop, and the node is to say that it has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stop: bool,
    /// Of a replica with volumes that have a name: the service that they belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Uid>,
}

/// How a replica that runs once is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Task {
    /// It is to stop, and the node is to say that it has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stop: bool,
    /// It waits a while for a tunnel to its standard streams.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub attach: bool,
    /// Its standard streams say that they are a terminal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tty: bool,
}

/// What is at the node's end of a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TunnelTo {
    /// The standard streams of a task, framed as [`crate::standard`] says.
    Task(ReplicaKey),
    /// A command that is run in a container, framed both ways as [`crate::standard`] says.
    Exec(Exec),
    /// A port of a replica's, as it is. A component has none: whatever the port, its tunnel speaks HTTP.
    Port { replica: ReplicaKey, port: u16 },
}

/// A command for a container that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    pub replica: ReplicaKey,
    /// The program, and its arguments.
    pub command: Vec<String>,
    /// Whether it reads what comes; otherwise its input is empty.
    pub input: bool,
    /// It gets a terminal of that size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<Size>,
}

impl Assignment {
    pub fn service_key(&self) -> ServiceKey {
        ServiceKey { namespace: self.replica.namespace.clone(), name: self.service.clone() }
    }

    /// Whether it may run only while the node holds its lease.
    pub fn needs_lease(&self) -> bool {
        self.task.is_some() || self.template.is_exclusive()
    }

    /// Whether it is to stop, and the node is to say that it has.
    pub fn is_to_stop(&self) -> bool {
        self.stop || self.task.is_some_and(|task| task.stop)
    }
}

/// What the node's gateway should answer for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Routes {
    pub fence: Fence,
    pub base: Base,
    pub upsert: Vec<ServiceRoutes>,
    pub remove: Vec<ServiceKey>,
    /// All nodes that were removed from the cluster: others let them in no more, whatever their certificates say. `None`:
    /// none was since the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed_nodes: Option<Vec<Uid>>,
}

/// Where one service is found. Never empty: a service without routes of its own has its default host here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceRoutes {
    pub service: ServiceKey,
    pub routes: Vec<Route>,
    /// Which services may call it.
    #[serde(default, skip_serializing_if = "Callers::is_default")]
    pub callers: Callers,
    /// Other nodes that answer for it: some of them, where there are many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
}

/// A node that has replicas of a service, as other nodes reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub node: Uid,
    /// Its port for other nodes, `HOST:PORT`.
    pub address: String,
    /// How many of the service's replicas are ready there.
    pub replicas: u32,
    /// It cannot be heard by the control plane: only for requests that nobody else takes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspect: bool,
}

/// Which lines of which replica's log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogQuery {
    pub replica: ReplicaKey,
    /// Only the last so many of the stored lines.
    pub tail: Option<u64>,
    /// Only lines from then on.
    pub since: Option<Timestamp>,
    /// Go on with new lines as they come.
    pub follow: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ReplicaName;
    use crate::resource::ServiceSpec;

    #[test]
    fn what_an_earlier_version_did_not_say_is_not_so() {
        let mut spec = ServiceSpec::new("cart:1".parse().unwrap());
        let assignment = |spec: &ServiceSpec| Assignment {
            replica: ReplicaKey { namespace: "default".parse().unwrap(), name: ReplicaName::new("cart-1-a") },
            uid: Uid::new("u"),
            service: "cart".parse().unwrap(),
            revision: RevisionName::new("cart-1"),
            template: Arc::new(spec.template()),
            trust: None,
            settings: None,
            task: None,
            stop: false,
            owner: None,
        };
        let plain = assignment(&spec);
        let text = serde_json::to_string(&plain).unwrap();
        assert!(["stop", "owner", "exclusive", "volumes"].iter().all(|field| !text.contains(field)), "{text}");
        assert!(!plain.needs_lease() && !plain.is_to_stop());
        assert_eq!(serde_json::from_str::<Assignment>(&text).unwrap(), plain);
        spec.volumes = serde_json::from_str(r#"[{"name": "data", "path": "/data"}]"#).unwrap();
        let bound = Assignment { stop: true, owner: Some(Uid::new("s")), ..assignment(&spec) };
        assert!(bound.needs_lease() && bound.is_to_stop());
        let text = serde_json::to_string(&bound).unwrap();
        assert_eq!(serde_json::from_str::<Assignment>(&text).unwrap(), bound);
        let desired =
            r#"{"fence": {"epoch": 1, "term": 1, "counter": 1}, "base": "Whole", "upsert": [], "remove": []}"#;
        assert_eq!(serde_json::from_str::<Desired>(desired).unwrap().volumes, None, "nothing is said, so nothing goes");
    }
}
