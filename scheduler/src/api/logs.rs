//! Logs: the lines of a replica, or of all replicas of a service, as they are on the nodes.
//!
//! `tail` counts lines per replica. What ends the lines of one replica early is a problem on a line of its own. Followed,
//! the logs of a service go on with replicas that it gets later. Those are asked for once they have run: a node that has
//! only been told of a replica has no log of it yet, and its "there is none" would be the last word on it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::Uri;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use skiff_api::quantity::Span;
use skiff_api::resource::{Job, JobSpec, Phase, Replica, ReplicaSpec, Selector, ServiceSpec};
use skiff_api::wire::{LogLine, LogQuery};
use skiff_api::{Kind, Name, NodeName, ReplicaKey, ReplicaName};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::ApiState;
use super::failure::{Result, invalid};
use super::log_merge::{Merge, Said};
use super::target::{Target, query};
use super::watch::ndjson;
use crate::objects::{ObjectKey, decode, key};
use crate::store::{Batch, Entry, Revision, Watch};

/// A person who follows does not notice that; a node on a slow line answers in it.
const PATIENCE_FOLLOWING: Duration = Duration::from_millis(200);
/// Without follow the order matters more, and every source ends.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LogsQuery {
    #[serde(default)]
    follow: bool,
    tail: Option<u64>,
    since: Option<String>,
}

/// One line of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReplicaLine {
    pub replica: ReplicaName,
    #[serde(flatten)]
    pub line: LogLine,
}

pub(super) async fn of_replica(state: ApiState, target: Target, uri: Uri) -> Result<Response> {
    let logs = Wanted::from(&uri)?;
    let replica = state.objects.find::<ReplicaSpec>(target.namespace.as_ref(), &target.name).await?;
    let mut lines = Lines::new(&state, logs);
    lines.add(&replica, logs);
    Ok(lines.into_response())
}

pub(super) async fn of_service(state: ApiState, target: Target, uri: Uri) -> Result<Response> {
    let logs = Wanted::from(&uri)?;
    let namespace = target.namespace.as_ref();
    let service = state.objects.find::<ServiceSpec>(namespace, &target.name).await?;
    let listed = state.objects.list::<ReplicaSpec>(namespace, &Selector::default()).await?;
    let mut lines = Lines::of(&state, logs, &service.metadata.name, &listed.items);
    if logs.follow {
        lines.more = More::watch(&state, namespace, &service.metadata.name, listed.revision);
    }
    Ok(lines.into_response())
}

/// A job's lines come to an end when it does.
pub(super) async fn of_job(state: ApiState, target: Target, uri: Uri) -> Result<Response> {
    let logs = Wanted::from(&uri)?;
    let namespace = target.namespace.as_ref();
    // Read later than the list: an end in between would be in neither, and waited for in vain.
    let listed = state.objects.list::<ReplicaSpec>(namespace, &Selector::default()).await?;
    let job = state.objects.find::<JobSpec>(namespace, &target.name).await?;
    let mut lines = Lines::of(&state, logs, &job.metadata.name, &listed.items);
    if logs.follow && job.status.finished.is_none() {
        lines.more = More::watch_job(&state, &job, listed.revision);
    }
    Ok(lines.into_response())
}

/// Which lines.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    follow: bool,
    tail: Option<u64>,
    since: Option<Timestamp>,
}

impl Wanted {
    fn from(uri: &Uri) -> Result<Self> {
        let LogsQuery { follow, tail, since } = query(uri)?;
        let since = since.as_deref().map(|text| since_when(text, Timestamp::now())).transpose()?;
        Ok(Self { follow, tail, since })
    }
}

/// A point in time, or a span before now.
fn since_when(text: &str, now: Timestamp) -> Result<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let span = text.parse::<Span>().ok().and_then(|span| SignedDuration::try_from(span.as_duration()).ok());
    match span {
        Some(span) => Ok(now.checked_sub(span).unwrap_or(Timestamp::MIN)),
        None => {
            let problem = invalid(format!("since: {text:?} is neither a time nor a span"));
            Err(problem.hint("write 10m, 1h30m or 2026-01-31T12:00:00Z").into())
        }
    }
}

/// Whether a replica's node has begun to run it, and so has a log of it. If not, the watch tells when it has.
fn has_run(replica: &Replica) -> bool {
    match replica.status.phase {
        Phase::Ready | Phase::Stopping | Phase::Succeeded => true,
        // The other failures come before anything of the guest has run.
        Phase::Failed => replica.status.ended || replica.status.reason == "StartFailed",
        Phase::Pending | Phase::Pulling | Phase::Compiling => false,
    }
}

/// An answer in the making.
struct Lines {
    state: ApiState,
    merge: Merge,
    known: BTreeSet<String>,
    more: Option<More>,
    stop: CancellationToken,
}

/// Where replicas that come later are seen.
struct More {
    service: Name,
    /// The job that there are no more of once it has ended.
    job: Option<ObjectKey>,
    watch: Watch,
}

impl More {
    fn watch(state: &ApiState, namespace: Option<&Name>, service: &str, after: Revision) -> Option<Self> {
        let watch = state.objects.store().watch(&key::prefix(Kind::Replica, namespace), after);
        service.parse().ok().map(|service| Self { service, job: None, watch })
    }

    fn watch_job(state: &ApiState, job: &Job, after: Revision) -> Option<Self> {
        let watch = state.objects.store().watch(key::OBJECTS, after);
        let (service, job) = (job.metadata.name.parse().ok()?, Some(ObjectKey::of(job)));
        Some(Self { service, job, watch })
    }

    /// Whether nothing comes any more: the job has ended, or is gone.
    fn is_over(&self, batch: &Batch) -> bool {
        let Some(job) = self.job.as_ref().map(ObjectKey::object) else { return false };
        let ended = |entry: &Entry| decode::<JobSpec>(entry).is_ok_and(|job| job.status.finished.is_some());
        batch.changes.iter().any(|change| *change.key == *job && change.after.as_ref().is_none_or(ended))
    }
}

impl Lines {
    fn new(state: &ApiState, logs: Wanted) -> Self {
        let patience = if logs.follow { PATIENCE_FOLLOWING } else { PATIENCE };
        let (state, stop) = (state.clone(), state.stop.clone());
        Self { state, merge: Merge::new(patience), known: BTreeSet::new(), more: None, stop }
    }

    /// Those of a service's replicas, or of a job's.
    fn of(state: &ApiState, logs: Wanted, owner: &str, replicas: &[Replica]) -> Self {
        let mut lines = Self::new(state, logs);
        let is_its = |replica: &&Replica| replica.spec.service.as_str() == owner && (!logs.follow || has_run(replica));
        replicas.iter().filter(is_its).for_each(|replica| lines.add(replica, logs));
        lines
    }

    /// A replica that is not placed yet has no lines; it is added when it is.
    fn add(&mut self, replica: &Replica, logs: Wanted) {
        let name = &replica.metadata.name;
        let (Some(node), Some(namespace)) = (&replica.spec.node, &replica.metadata.namespace) else { return };
        if !self.known.insert(name.clone()) {
            return;
        }
        let key = ReplicaKey { namespace: namespace.clone(), name: ReplicaName::new(name.as_str()) };
        let query = LogQuery { replica: key, tail: logs.tail, since: logs.since, follow: logs.follow };
        self.merge.add(name.clone(), self.state.logs.logs(&NodeName::new(node.as_str()), query));
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let step = tokio::select! {
                () = self.stop.cancelled() => return None,
                step = step(&mut self.merge, self.more.as_mut()) => step,
            };
            match step {
                Step::Said(replica, said) => return Some(bytes(replica, said)),
                Step::Replicas(batch) => self.add_new(&batch),
                Step::NoMoreReplicas => self.more = None,
                Step::End => return None,
            }
        }
    }

    fn add_new(&mut self, batch: &Batch) {
        let Some(service) = self.more.as_ref().map(|more| more.service.clone()) else { return };
        let all = Wanted { follow: true, tail: None, since: None };
        for entry in batch.changes.iter().filter_map(|change| change.after.as_ref()) {
            // A replica that cannot be read is the controllers' to report.
            if let Ok(replica) = decode::<ReplicaSpec>(entry)
                && replica.spec.service == service
                && has_run(&replica)
            {
                self.add(&replica, all);
            }
        }
        if self.more.as_ref().is_some_and(|more| more.is_over(batch)) {
            self.more = None;
        }
    }

    fn into_response(self) -> Response {
        let body = stream::unfold(self, |mut lines| async move {
            let line = lines.next().await?;
            Some((Ok::<_, Infallible>(line), lines))
        });
        ndjson(Body::from_stream(body))
    }
}

enum Step {
    Said(String, Said),
    Replicas(Batch),
    NoMoreReplicas,
    End,
}

async fn step(merge: &mut Merge, more: Option<&mut More>) -> Step {
    let Some(more) = more else {
        return merge.next().await.map_or(Step::End, |(replica, said)| Step::Said(replica, said));
    };
    let lines = async {
        match merge.next().await {
            Some((replica, said)) => Step::Said(replica, said),
            // Nothing now; the watch may bring another replica.
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        step = lines => step,
        batch = more.watch.next() => batch.map_or(Step::NoMoreReplicas, Step::Replicas),
    }
}

fn bytes(replica: String, said: Said) -> Bytes {
    let text = match said {
        Ok(line) => serde_json::to_vec(&ReplicaLine { replica: ReplicaName::new(replica), line }),
        Err(problem) => serde_json::to_vec(&problem),
    };
    let mut text = text.unwrap_or_default();
    text.push(b'\n');
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_or_a_span() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let text = |since: &str| since_when(since, now).map(|time| time.to_string()).map_err(|f| f.0.detail);
        assert_eq!(text("10m").unwrap(), "2026-01-31T11:50:00Z");
        assert_eq!(text("2026-01-01T00:00:00+01:00").unwrap(), "2025-12-31T23:00:00Z");
        assert_eq!(text("yesterday").unwrap_err(), "since: \"yesterday\" is neither a time nor a span");
    }
}
