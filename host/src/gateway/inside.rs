//! Requests from guests on this node: the same places, limits and answers as for requests from outside, and no connection
//! where there is a replica here.
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
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::answer::Refusal;
use super::body::{AnswerBody, earlier, short};
use super::headers;
use super::path::has_dot_segment;
use super::peer::{Arrives, HOP_HEADER, NotSent, Order, Passed, Tape, send};
use super::serve::{LOOKS_MAX, Late, Place, Shared, deadline, elsewhere, in_time, is_total, refused};
use super::table::{Backend, Picked};
use super::target::{Entered, Refused, Target};
use super::upgrade::UPGRADE_HEADER;
use crate::capabilities::Chain;
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
pub(crate) struct CalleeBody(Comes);

enum Comes {
    From(FromGuest),
    /// From another node, which keeps the time.
    FromNode(Box<Arrives>),
}

struct FromGuest {
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

/// Puts a request to one replica, whoever may call it.
pub(super) async fn put<B>(target: Arc<Target>, request: Request<B>) -> Called
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let times = Times { started: Instant::now(), patience: None };
    let refusal = match target.enter(deadline(&target, times.started), || ()).await {
        Ok(entered) => match here((target, entered), times, request).await {
            Ok(called) => return called,
            Err(Unanswered::Refused(refusal)) => refusal,
            Err(Unanswered::NotACaller) => return Called::NotACaller,
            Err(Unanswered::Impatient) => return Called::Impatient,
        },
        Err(Refused::Closed) => Refusal::Stopped(target.service.clone()),
        Err(Refused::QueueFull) => refused(&target, Refusal::QueueFull),
        Err(Refused::QueueTimeout) => refused(&target, Refusal::QueueTimeout),
    };
    Called::Whole(own(&refusal))
}

/// The answer to a call that would make a chain of calls too long.
pub(crate) fn too_deep(chain: String) -> Response<Bytes> {
    own(&Refusal::CallDepth(chain))
}

fn own(refusal: &Refusal) -> Response<Bytes> {
    refusal.answer().map(|body| match body {
        AnswerBody::Whole(bytes) => bytes.unwrap_or_default(),
        AnswerBody::Guest(_) | AnswerBody::Node(_) => Bytes::new(),
    })
}

async fn answer<B>(
    shared: &Shared,
    call: Call<'_>,
    started: Instant,
    mut request: Request<B>,
) -> Result<Called, Unanswered>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    if has_dot_segment(request.uri().path()) {
        return Err(Refusal::BadPath.into());
    }
    request.headers_mut().remove(HOP_HEADER);
    request.headers_mut().remove(UPGRADE_HEADER);
    let times = Times { started, patience: call.patience.map(|patience| started + patience) };
    match enter(shared, call, times).await? {
        Place::Here(target, entered) => here((target, entered), times, request).await,
        Place::There { is_full_here, .. } => Box::pin(there(shared, call, times, is_full_here, request)).await,
    }
}

/// When a call began, and until when its caller waits for the head of the answer.
#[derive(Debug, Clone, Copy)]
struct Times {
    started: Instant,
    patience: Option<Instant>,
}

/// The answer of another node.
async fn there<B>(
    shared: &Shared,
    call: Call<'_>,
    times: Times,
    is_full_here: bool,
    request: Request<B>,
) -> Result<Called, Unanswered>
where
    B: Body<Data = Bytes> + Send + 'static,
{
    let (parts, body) = request.into_parts();
    let (chain, tape) = (parts.extensions.get::<Chain>().cloned().unwrap_or_default(), Tape::new(body));
    let order = Order { service: call.to, chain: &chain, started: times.started, is_full_here };
    let sending = send(shared, order, &parts, &tape);
    let sent = match times.patience {
        Some(patience) => timeout_at(patience, sending).await.map_err(|_| Unanswered::Impatient)?,
        None => sending.await,
    };
    match sent {
        Ok(Passed { head, body, .. }) => Ok(Called::Streams(head, CalleeBody(Comes::FromNode(Box::new(body))))),
        Err(NotSent::Here) => {
            let Place::Here(target, entered) = enter(shared, call, times).await? else {
                return Err(Refusal::NoReplica(call.to.clone()).into());
            };
            let Some(body) = tape.copy() else { return Err(Refusal::PeerLost(call.to.clone()).into()) };
            here((target, entered), times, Request::from_parts(parts, body)).await
        }
        Err(NotSent::Refused(refusal)) => Err(refusal.into()),
        Err(NotSent::NotACaller) => Err(Unanswered::NotACaller),
    }
}

/// The answer of a replica on this node.
async fn here<B>(
    (target, entered): (Arc<Target>, Entered),
    Times { started, patience }: Times,
    request: Request<B>,
) -> Result<Called, Unanswered>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
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
    let body = FromGuest { inner, idle, total, counted, _entered: entered };
    Ok(Called::Streams(head, CalleeBody(Comes::From(body))))
}

/// A place at one of the service's replicas, or the way to another node that has some.
async fn enter(shared: &Shared, call: Call<'_>, times: Times) -> Result<Place, Unanswered> {
    let Times { started, patience } = times;
    let mut was_full = false;
    for _ in 0..LOOKS_MAX {
        let target = match pick(shared, call, was_full)? {
            Picked::Here(target) => target,
            Picked::There(service) => return Ok(Place::There { service, is_full_here: was_full }),
        };
        let limit = earlier(deadline(&target, started), Some(started + QUEUE_MAX));
        let queued = || {
            target.figures.add(Gauge::Queued, 1);
            Waiting(target.clone())
        };
        match target.enter(earlier(limit, patience), queued).await {
            Ok(entered) => return Ok(Place::Here(target.clone(), entered)),
            Err(Refused::Closed) => {}
            // The emptiest one is full, too.
            Err(Refused::QueueFull) if was_full => return Ok(elsewhere(shared, &target)?),
            Err(Refused::QueueFull) => was_full = true,
            Err(Refused::QueueTimeout) if patience.is_some_and(|patience| patience <= Instant::now()) => {
                return Err(Unanswered::Impatient);
            }
            Err(Refused::QueueTimeout) => return Err(refused(&target, Refusal::QueueTimeout).into()),
        }
    }
    Err(Refusal::NoReplica(call.to.clone()).into())
}

fn pick(shared: &Shared, call: Call<'_>, was_full: bool) -> Result<Picked, Unanswered> {
    let services = shared.services.load();
    // One that nobody knows is answered as one that has no replica.
    let Some(callee) = services.get(call.to) else { return Err(Refusal::NoReplica(call.to.clone()).into()) };
    if !callee.callers.include(&call.to.namespace, call.from) {
        return Err(Unanswered::NotACaller);
    }
    Ok(callee.backend.look(was_full)?)
}

impl CalleeBody {
    /// The next piece, as long as it comes in time.
    pub(crate) async fn next(&mut self) -> Option<Result<Frame<Bytes>, Broken>> {
        match &mut self.0 {
            Comes::From(guest) => guest.next().await,
            Comes::FromNode(arrives) => arrives.next().await.map(|frame| frame.map_err(|_| Broken)),
        }
    }
}

impl FromGuest {
    async fn next(&mut self) -> Option<Result<Frame<Bytes>, Broken>> {
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
#[derive(Debug, thiserror::Error)]
#[error("the body of the answer broke off")]
pub(crate) struct Broken;
