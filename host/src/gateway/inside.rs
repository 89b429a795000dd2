//! Requests from guests on this node: the same places, limits and answers as for requests from outside, and no connection.
//!
//! Whatever keeps a service from answering is a response, as a client outside would get it. Only what concerns the caller
//! itself is none: that it may not call, or that it does not want to wait any longer.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, response};
use http_body::{Body, Frame};
use skiff_api::id::ServiceKey;
use skiff_api::resource::Callers;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::answer::Refusal;
use super::body::{AnswerBody, earlier, short};
use super::headers;
use super::path::has_dot_segment;
use super::serve::{LOOKS_MAX, Late, Shared, deadline, in_time, is_total, refused};
use super::table::Backend;
use super::target::{Entered, Refused, Target};
use crate::metrics::Gauge;
use crate::sandbox;

/// A call waits in a queue no longer than this, whatever its timeouts say: in a cycle of calls, the place that it waits
/// for may be its own.
const QUEUE_MAX: Duration = Duration::from_secs(30);

/// Services by name, for calls.
pub(crate) type Services = HashMap<ServiceKey, Callee>;

/// A service as its callers see it.
#[derive(Debug)]
pub(crate) struct Callee {
    pub(crate) backend: Arc<Backend>,
    pub(crate) callers: Callers,
}

/// Who calls whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'c> {
    pub(crate) from: &'c ServiceKey,
    pub(crate) to: &'c ServiceKey,
    /// The caller does not wait longer for the head of the answer.
    pub(crate) patience: Option<Duration>,
}

/// What came of a call.
#[must_use]
pub(crate) enum Called {
    /// All of an answer: a short one of the service's, or one of the gateway's own.
    Whole(Response<Bytes>),
    /// The service answers, and goes on with its body.
    Streams(response::Parts, CalleeBody),
    /// The service does not let the caller call it.
    NotACaller,
    /// The caller did not want to wait any longer.
    Impatient,
}

/// The body of a service's answer. The service works while it is read, and is stopped when it is dropped.
pub(crate) struct CalleeBody {
    inner: sandbox::Body,
    idle: Option<Duration>,
    total: Option<Instant>,
    counted: Counted,
    _entered: Entered,
}

/// A request that is counted at its replica while it lasts.
struct Counted(Arc<Target>);

impl Counted {
    fn new(target: Arc<Target>) -> Self {
        target.figures.add(Gauge::InFlight, 1);
        Self(target)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.figures.add(Gauge::InFlight, -1);
    }
}

/// The same for one that waits.
struct Waiting(Arc<Target>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.figures.add(Gauge::Queued, -1);
    }
}

/// Why a service did not answer.
enum Unanswered {
    Refused(Refusal),
    NotACaller,
    Impatient,
}

impl From<Refusal> for Unanswered {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Answers a guest's request to a service.
pub(crate) async fn call<B>(shared: &Shared, call: Call<'_>, request: Request<B>) -> Called
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let started = Instant::now();
    match answer(shared, call, started, request).await {
        Ok(called) => called,
        Err(Unanswered::Refused(refusal)) => Called::Whole(own(&refusal)),
        Err(Unanswered::NotACaller) => Called::NotACaller,
        Err(Unanswered::Impatient) => Called::Impatient,
    }
}

/// The answer to a call that would make a chain of calls too long.
pub(crate) fn too_deep(chain: String) -> Response<Bytes> {
    own(&Refusal::CallDepth(chain))
}

fn own(refusal: &Refusal) -> Response<Bytes> {
    refusal.answer().map(|body| match body {
        AnswerBody::Whole(bytes) => bytes.unwrap_or_default(),
        AnswerBody::Guest(_) => Bytes::new(),
    })
}

async fn answer<B>(shared: &Shared, call: Call<'_>, started: Instant, request: Request<B>) -> Result<Called, Unanswered>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    if has_dot_segment(request.uri().path()) {
        return Err(Refusal::BadPath.into());
    }
    let patience = call.patience.map(|patience| started + patience);
    let (target, entered) = enter(shared, call, started, patience).await?;
    let counted = Counted::new(target.clone());
    let limit = deadline(&target, started);
    let waited = in_time(target.runner.call(request), earlier(limit, patience), &target.cut).await;
    let outcome = match waited {
        Ok(outcome) => outcome.map_err(Refusal::from),
        Err(Late::Cut) => Err(Refusal::Stopped(target.service.clone())),
        Err(Late::Deadline) if patience.is_some_and(|patience| limit.is_none_or(|limit| patience < limit)) => {
            return Err(Unanswered::Impatient);
        }
        Err(Late::Deadline) if is_total(&target) => Err(Refusal::TotalTimeout(target.service.clone())),
        Err(Late::Deadline) => Err(Refusal::FirstByteTimeout(target.service.clone())),
    };
    let status = outcome.as_ref().map_or_else(Refusal::status, Response::status);
    target.figures.answered(status, started.elapsed());
    let (mut head, mut inner) = match outcome {
        Ok(response) => response.into_parts(),
        Err(refusal) => {
            target.refused(&refusal);
            return Err(refusal.into());
        }
    };
    headers::to_client(&mut head.headers);
    if let Some(bytes) = short(&mut inner) {
        return Ok(Called::Whole(Response::from_parts(head, bytes)));
    }
    let idle = target.timeout.idle.as_duration();
    let total = target.timeout.total.as_duration().map(|total| started + total);
    Ok(Called::Streams(head, CalleeBody { inner, idle, total, counted, _entered: entered }))
}

/// A place at one of the service's replicas.
async fn enter(
    shared: &Shared,
    call: Call<'_>,
    started: Instant,
    patience: Option<Instant>,
) -> Result<(Arc<Target>, Entered), Unanswered> {
    let mut was_full = false;
    for _ in 0..LOOKS_MAX {
        let target = pick(shared, call, was_full)?;
        let limit = earlier(deadline(&target, started), Some(started + QUEUE_MAX));
        let queued = || {
            target.figures.add(Gauge::Queued, 1);
            Waiting(target.clone())
        };
        match target.enter(earlier(limit, patience), queued).await {
            Ok(entered) => return Ok((target.clone(), entered)),
            Err(Refused::Closed) => {}
            // The emptiest one is full, too.
            Err(Refused::QueueFull) if was_full => return Err(refused(&target, Refusal::QueueFull).into()),
            Err(Refused::QueueFull) => was_full = true,
            Err(Refused::QueueTimeout) if patience.is_some_and(|patience| patience <= Instant::now()) => {
                return Err(Unanswered::Impatient);
            }
            Err(Refused::QueueTimeout) => return Err(refused(&target, Refusal::QueueTimeout).into()),
        }
    }
    Err(Refusal::NoReplica(call.to.clone()).into())
}

fn pick(shared: &Shared, call: Call<'_>, was_full: bool) -> Result<Arc<Target>, Unanswered> {
    let services = shared.services.load();
    // A node does not know of services that are only elsewhere.
    let Some(callee) = services.get(call.to) else { return Err(Refusal::NoReplica(call.to.clone()).into()) };
    if !callee.callers.include(&call.to.namespace, call.from) {
        return Err(Unanswered::NotACaller);
    }
    let picked = if was_full { callee.backend.emptiest() } else { callee.backend.pick() };
    picked.cloned().ok_or_else(|| Refusal::NoReplica(call.to.clone()).into())
}

impl CalleeBody {
    /// The next piece, as long as it comes in time.
    pub(crate) async fn next(&mut self) -> Option<Result<Frame<Bytes>, Broken>> {
        let limit = earlier(self.idle.map(|idle| Instant::now() + idle), self.total);
        let cut: &CancellationToken = &self.counted.0.cut;
        let inner = &mut self.inner;
        let frame = poll_fn(move |cx| Pin::new(&mut *inner).poll_frame(cx));
        match in_time(frame, limit, cut).await {
            Ok(None) => None,
            // A service that never lets its caller wait is stopped here.
            Ok(Some(Ok(frame))) if self.total.is_none_or(|total| Instant::now() < total) => Some(Ok(frame)),
            Ok(Some(_)) | Err(_) => {
                self.counted.0.figures.cut_off();
                Some(Err(Broken))
            }
        }
    }
}

/// A body that broke off; the service's log says why.
#[derive(Debug)]
pub(crate) struct Broken;
