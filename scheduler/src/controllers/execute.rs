//! Plans as changes of the store: one transaction for each, and no choices left.
//!
//! The transaction compares all that a plan was made from and that others may write: the service, and every replica and
//! revision that it touches. Capacity is not compared, for this task alone places replicas.

use jiff::Timestamp;
use skiff_api::resource::{Job, JobSpec, Metadata, Owner, Replica, ReplicaSpec, ReplicaStatus, Revision, RevisionSpec};
use skiff_api::{ReplicaName, ServiceKey};

use crate::objects::Change;
use crate::plan::{Action, Plan, State, Workload};

/// What a plan changes; `None` if it speaks of something that is not there.
pub(super) fn change(state: &State, plan: &Plan, now: Timestamp) -> Option<Change> {
    let workload = state.workload(&plan.service)?;
    let executor = Executor { state, workload, key: &plan.service, now };
    // Writing the status compares already, and so does deleting.
    let compares = |action: &Action| match action {
        Action::SetStatus(_) | Action::SetJobStatus(_) => true,
        Action::DeleteJob { name } => *name == plan.service.name,
        _ => false,
    };
    let change = match (&workload.service, &workload.job) {
        _ if plan.actions.iter().any(compares) => Change::new(),
        (Some(service), _) => Change::new().require(service),
        (None, Some(job)) => Change::new().require(job),
        (None, None) => Change::new(),
    };
    plan.actions.iter().try_fold(change, |change, action| executor.add(change, action))
}

struct Executor<'a> {
    state: &'a State,
    workload: &'a Workload,
    key: &'a ServiceKey,
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
                let (service, revision, node) = (self.key.name.clone(), revision.clone(), node.clone());
                let spec = ReplicaSpec { service, revision, node, moves_to: None, stop: false };
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
            Action::StopReplica { name } => {
                let mut replica = self.replica(name)?.clone();
                replica.spec.stop = true;
                replica.metadata.generation += 1;
                let status = ReplicaStatus { since: self.now, ..replica.status.clone() };
                change.write_status(&replica, status)
            }
            Action::DeleteReplica { name } => change.delete(self.replica(name)?),
            Action::SetJobStatus(status) => change.write_status(&**self.workload.job.as_ref()?, status.clone()),
            Action::CreateJob { name, spec } => {
                let mut metadata = self.metadata(name.as_str())?;
                metadata.labels = self.workload.job.as_ref()?.metadata.labels.clone();
                change.create(&Job::new(metadata, JobSpec::clone(spec)))
            }
            Action::DeleteJob { name } => {
                let key = ServiceKey { namespace: self.key.namespace.clone(), name: name.clone() };
                change.delete(&**self.state.workload(&key)?.job.as_ref()?)
            }
            Action::SetStatus(status) => change.write_status(&**self.workload.service.as_ref()?, status.clone()),
        })
    }

    fn replica(&self, name: &ReplicaName) -> Option<&Replica> {
        self.workload.replicas.get(name).map(|replica| &**replica)
    }

    /// The metadata of something that the service or job owns.
    fn metadata(&self, name: &str) -> Option<Metadata> {
        let (kind, owner) = self.workload.metadata()?;
        let mut metadata = Metadata::new(Some(self.key.namespace.clone()), name);
        metadata.owners = vec![Owner { kind, name: owner.name.clone(), uid: owner.uid.clone() }];
        Some(metadata)
    }
}
