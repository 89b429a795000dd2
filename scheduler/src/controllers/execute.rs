//! Plans as changes of the store: one transaction for each, and no choices left.
//!
//! The transaction compares all that a plan was made from and that others may write: the service, and every replica and
//! revision that it touches. Capacity is not compared, for this task alone places replicas.

use jiff::Timestamp;
use skiff_api::resource::{Kind, Metadata, Owner, Replica, ReplicaSpec, ReplicaStatus, Revision, RevisionSpec};
use skiff_api::{Name, ReplicaName};

use crate::objects::Change;
use crate::plan::{Action, Plan, State, Workload};

/// What a plan changes; `None` if it speaks of something that is not there.
pub(super) fn change(state: &State, plan: &Plan, now: Timestamp) -> Option<Change> {
    let workload = state.workload(&plan.service)?;
    let executor = Executor { workload, namespace: &plan.service.namespace, now };
    let sets_status = plan.actions.iter().any(|action| matches!(action, Action::SetStatus(_)));
    let change = match &workload.service {
        // Writing the status compares already.
        Some(service) if !sets_status => Change::new().require(service),
        _ => Change::new(),
    };
    plan.actions.iter().try_fold(change, |change, action| executor.add(change, action))
}

struct Executor<'a> {
    workload: &'a Workload,
    namespace: &'a Name,
    now: Timestamp,
}

impl Executor<'_> {
    fn add(&self, change: Change, action: &Action) -> Option<Change> {
        Some(match action {
            Action::CreateRevision { name, spec } => {
                change.create(&Revision::new(self.metadata(name.as_str())?, RevisionSpec::clone(spec)))
            }
            Action::DeleteRevision { name } => change.delete(&*self.workload.revisions.get(name)?.object),
            Action::CreateReplica { name, revision, node, status } => {
                let service = self.service_name()?;
                let spec = ReplicaSpec { service, revision: revision.clone(), node: node.clone(), moves_to: None };
                let mut replica = Replica::new(self.metadata(name.as_str())?, spec);
                replica.status = status.clone();
                change.create(&replica)
            }
            Action::Place { name, node } => {
                let mut replica = self.replica(name)?.clone();
                replica.spec.node = Some(node.clone());
                replica.metadata.generation += 1;
                change.write_status(&replica, ReplicaStatus { since: self.now, ..ReplicaStatus::default() })
            }
            Action::Explain { name, status } => change.write_status(self.replica(name)?, status.clone()),
            Action::Move { name, to } => {
                let mut replica = self.replica(name)?.clone();
                replica.spec.moves_to = to.clone();
                replica.metadata.generation += 1;
                let status = replica.status.clone();
                change.write_status(&replica, status)
            }
            Action::DeleteReplica { name } => change.delete(self.replica(name)?),
            Action::SetStatus(status) => change.write_status(&**self.workload.service.as_ref()?, status.clone()),
        })
    }

    fn service_name(&self) -> Option<Name> {
        self.workload.service.as_ref()?.metadata.name.parse().ok()
    }

    fn replica(&self, name: &ReplicaName) -> Option<&Replica> {
        self.workload.replicas.get(name).map(|replica| &**replica)
    }

    /// The metadata of something that the service owns.
    fn metadata(&self, name: &str) -> Option<Metadata> {
        let service = self.workload.service.as_ref()?;
        let (owner, uid) = (service.metadata.name.clone(), service.metadata.uid.clone());
        let mut metadata = Metadata::new(Some(self.namespace.clone()), name);
        metadata.owners = vec![Owner { kind: Kind::Service, name: owner, uid }];
        Some(metadata)
    }
}
