//! `POST /v1/namespaces/NAMESPACE/jobs/NAME/attach`: the standard streams of a job's task.
//!
//! The request's body is standard input, the answer's body both outputs, framed as [`skiff_api::standard`] says. The two go
//! on side by side: whoever attaches reads while it writes. A body that ends ends the task's input; an answer that ends is
//! the end of the task, or of the connection to it.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use skiff_api::resource::{JobSpec, Phase, ReplicaSpec, Selector};
use skiff_api::wire::TunnelTo;
use skiff_api::{Code, Kind, NodeName, Problem, ReplicaKey, ReplicaName, standard};

use super::ApiState;
use super::failure::Result;
use super::reach::dig;
use super::target::Target;
use crate::objects::key;
use crate::store::Change;

/// How long a task may take to begin; whoever has more patience asks again.
const BEGINS_WITHIN: Duration = Duration::from_secs(45);

pub(super) async fn job(state: ApiState, target: Target, body: Body) -> Result<Response> {
    let waited = tokio::time::timeout(BEGINS_WITHIN, running(&state, &target)).await;
    let (node, replica) = waited.map_err(|_| {
        let detail = format!("no task of job {} has begun within {} s", target.name, BEGINS_WITHIN.as_secs());
        Problem::new(Code::Unavailable, detail).hint("see `skiff describe job NAME`, or ask again")
    })??;
    dig(&state, &node, TunnelTo::Task(replica), body, standard::CONTENT_TYPE).await
}

/// The job's task, and where it runs, once it does.
async fn running(state: &ApiState, target: &Target) -> Result<(NodeName, ReplicaKey)> {
    let namespace = target.namespace.as_ref();
    loop {
        // What changes from here on ends the wait below.
        let listed = state.objects.list::<ReplicaSpec>(namespace, &Selector::default()).await?;
        let mut changes = state.objects.store().watch(key::OBJECTS, listed.revision);
        let job = state.objects.find::<JobSpec>(namespace, &target.name).await?;
        if !job.spec.attach {
            let problem = Problem::new(Code::Conflict, format!("job {} takes no clients", target.name));
            return Err(problem
                .hint("`skiff logs` shows what it writes; attach: true in its manifest lets one attach")
                .into());
        }
        if job.status.finished.is_some() {
            return Err(Problem::new(Code::Conflict, format!("job {} has ended", target.name)).into());
        }
        let is_it = |replica: &&skiff_api::resource::Replica| {
            replica.spec.service.as_str() == target.name
                && !replica.status.ended
                && replica.status.phase == Phase::Ready
        };
        if let Some(task) = listed.items.iter().find(is_it)
            && let (Some(node), Some(namespace)) = (&task.spec.node, &task.metadata.namespace)
        {
            let name = ReplicaName::new(task.metadata.name.as_str());
            return Ok((NodeName::new(node.as_str()), ReplicaKey { namespace: namespace.clone(), name }));
        }
        let (replicas, own) = (key::prefix(Kind::Replica, namespace), target.key(Kind::Job).object());
        let concerns = |change: &Change| change.key.starts_with(&replicas) || *change.key == *own;
        // An error is that too much has changed to be told: it is read anew.
        while changes.next().await.is_ok_and(|batch| !batch.changes.iter().any(concerns)) {}
    }
}
