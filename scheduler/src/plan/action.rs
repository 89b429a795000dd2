//! What a plan consists of.

use jiff::Timestamp;
use skiff_api::resource::{EventType, JobSpec, JobStatus, ObjectRef, ReplicaStatus, RevisionSpec, ServiceStatus};
use skiff_api::{Name, NodeName, ReplicaName, RevisionName, ServiceKey};

/// One step for one service or job: its actions go into one transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub service: ServiceKey,
    pub actions: Vec<Action>,
    /// What happens and why, for people; written once the actions are done.
    pub events: Vec<PlannedEvent>,
    /// When to plan again although nothing happened.
    pub wake: Option<Timestamp>,
}

impl Plan {
    pub fn nothing(service: ServiceKey) -> Self {
        Self { service, actions: Vec::new(), events: Vec::new(), wake: None }
    }

    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }
}

/// A change of one object.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    CreateRevision {
        name: RevisionName,
        spec: Box<RevisionSpec>,
    },
    DeleteRevision {
        name: RevisionName,
    },
    /// `status` says why there is no node, if there is none.
    CreateReplica {
        name: ReplicaName,
        revision: RevisionName,
        node: Option<NodeName>,
        status: ReplicaStatus,
    },
    /// Gives a replica that waited for room its node.
    Place {
        name: ReplicaName,
        node: NodeName,
    },
    /// Says anew why a replica has no node.
    Explain {
        name: ReplicaName,
        status: ReplicaStatus,
    },
    /// Has a replica move to a node, or stay where it is.
    Move {
        name: ReplicaName,
        to: Option<NodeName>,
    },
    /// Has a replica stop where it is; what is to take its place waits until that is known.
    StopReplica {
        name: ReplicaName,
    },
    DeleteReplica {
        name: ReplicaName,
    },
    SetStatus(ServiceStatus),
    SetJobStatus(JobStatus),
    /// Makes the job that a schedule has come to.
    CreateJob {
        name: Name,
        spec: Box<JobSpec>,
    },
    /// Deletes a job that a schedule has made, or the job itself.
    DeleteJob {
        name: Name,
    },
}

/// An event without its time and count.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedEvent {
    pub regarding: ObjectRef,
    pub event_type: EventType,
    pub reason: &'static str,
    pub message: String,
}
