//! `POST /v1/keyvalue`: the cluster's buckets, for nodes whose replicas use them.
//!
//! A node shows its certificate, and may use a bucket as long as it has a replica that names it. The control loop knows;
//! what it said holds for a while, so that it is not asked for every value.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use http_body_util::{BodyExt, Limited};
use serde::{Deserialize, Serialize};
use skiff_api::{Code, Name, Problem, Uid};
use skiff_keyvalue::{Answer, Engine, Error, OP_BYTES_MAX, Op};
use skiff_link::Peer;
use tokio::sync::Semaphore;

use super::Fleet;
use crate::api::Answered;
use crate::controllers::Oracle;

/// How long a node may go on with a bucket after its last replica that names it has gone.
const KNOWN_FOR: Duration = Duration::from_secs(10);
/// Base64 and what stands around it take less than as much again.
const BODY_BYTES_MAX: usize = 2 * OP_BYTES_MAX;
/// Requests at once that are in memory with their bodies; the others wait before theirs are read.
const REQUESTS_MAX: usize = 64;
/// A megabyte arrives in that time over a line of 300 kbit/s.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Something to be done with a bucket of a namespace.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BucketRequest {
    pub namespace: Name,
    pub bucket: Name,
    pub op: Op,
}

/// A machine, and the namespace and name of a bucket.
type Use = (Uid, Name, Name);

/// The cluster's buckets, and who may use them. Cheap to clone.
#[derive(Clone)]
pub(super) struct Buckets {
    pub(super) fleet: Fleet,
    pub(super) engine: Engine,
    pub(super) oracle: Oracle,
    known: Arc<Mutex<HashMap<Use, Instant>>>,
    places: Arc<Semaphore>,
}

impl Buckets {
    pub(super) fn new(fleet: Fleet, engine: Engine, oracle: Oracle) -> Self {
        let places = Arc::new(Semaphore::new(REQUESTS_MAX));
        Self { fleet, engine, oracle, known: Arc::default(), places }
    }

    async fn may_use(&self, uid: &Uid, namespace: &Name, bucket: &Name) -> bool {
        let key = (uid.clone(), namespace.clone(), bucket.clone());
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known().get(&key).is_some_and(|at| at.elapsed() < KNOWN_FOR) {
            return true;
        }
        let may = self.oracle.may_use(key.clone()).await.unwrap_or(false);
        let mut known = known();
        known.retain(|_, at| at.elapsed() < KNOWN_FOR);
        if may {
            known.insert(key, Instant::now());
        }
        may
    }
}

pub(super) async fn run(State(buckets): State<Buckets>, request: Request) -> Answered<Json<Answer>> {
    let (head, body) = request.into_parts();
    let peer = buckets.fleet.admitted(head.extensions.get::<Peer>())?;
    // Nobody closes it.
    let _place = buckets.places.acquire().await.ok();
    let BucketRequest { namespace, bucket, op } = read(body).await?;
    if !buckets.may_use(&peer.uid, &namespace, &bucket).await {
        let detail = format!("no replica on this node names the bucket {bucket} of namespace {namespace}");
        return Err(Problem::new(Code::Forbidden, detail).into());
    }
    let answer = buckets.engine.run(&format!("{namespace}/{bucket}"), op).await;
    Ok(Json(answer.map_err(|error| problem(&error))?))
}

async fn read(body: Body) -> Answered<BucketRequest> {
    let invalid = |why: &dyn std::fmt::Display| Problem::new(Code::Invalid, format!("the body cannot be read: {why}"));
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect()).await;
    let bytes = collected.map_err(|error| invalid(&error))?.map_err(|error| invalid(&error))?.to_bytes();
    Ok(serde_json::from_slice(&bytes).map_err(|error| invalid(&error))?)
}

fn problem(error: &Error) -> Problem {
    match error {
        Error::Refused(refusal) => Problem::new(Code::Invalid, refusal.to_string()),
        Error::Open { .. } | Error::Write(_) | Error::Lost | Error::Read(_) | Error::Closed => {
            tracing::error!(%error, "a bucket could not be used");
            Problem::new(Code::Unavailable, "the values cannot be read or kept at the moment")
        }
    }
}
