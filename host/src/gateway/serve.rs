//! One request: find its service, get a place at a replica, call the guest, pass on what it says.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use http::header::CONNECTION;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, Version};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::answer::Refusal;
use super::body::{AnswerBody, Counted, GuestBody, Timer, earlier};
use super::headers;
use super::metrics::{Gauge, Metrics};
use super::path::has_dot_segment;
use super::table::{Backend, Table};
use super::target::{Entered, Refused, Target};

/// How often a request looks again when the replica that it was given is draining. Once is enough, as the table changes
/// first; more than a few would mean that a bug sends every request to a closed door.
const LOOKS_MAX: u32 = 4;

/// What is served is quoted in an error, but not a whole kilobyte of it.
const QUOTED_CHARS_MAX: usize = 200;

/// What all connections share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    table: ArcSwap<Table<Arc<Backend>>>,
    pub(super) metrics: Metrics,
    pub(super) draining: AtomicBool,
}

impl Shared {
    /// Later requests are routed by this table.
    pub(crate) fn route(&self, table: Table<Arc<Backend>>) {
        self.table.store(Arc::new(table));
    }
}

pub(super) async fn serve(shared: Arc<Shared>, client: IpAddr, request: Request<Incoming>) -> Response<AnswerBody> {
    let version = request.version();
    let mut response = match forward(&shared, client, request).await {
        Ok(response) => response,
        Err(refusal) => {
            shared.metrics.refused(refusal.code());
            refusal.answer()
        }
    };
    shared.metrics.answered(response.status());
    if version < Version::HTTP_2 && shared.draining.load(Ordering::Relaxed) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn forward(
    shared: &Arc<Shared>,
    client: IpAddr,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Refusal> {
    let started = Instant::now();
    let (mut parts, body) = request.into_parts();
    if parts.method == Method::CONNECT {
        return Err(Refusal::Connect);
    }
    if has_dot_segment(parts.uri.path()) {
        return Err(Refusal::BadPath);
    }
    let in_flight = Counted::new(shared, Gauge::InFlight);
    let (backend, target, entered) = enter(shared, &parts, started).await?;
    let timeout = &target.timeout;
    let after = |timeout: skiff_api::quantity::Timeout| timeout.as_duration().map(|after| started + after);
    let total = after(timeout.total);
    headers::to_guest(&mut parts, client);

    let call = target.runner.call(Request::from_parts(parts, body));
    let response = match earlier(after(timeout.first_byte), total) {
        None => call.await?,
        Some(deadline) => tokio::time::timeout_at(deadline, call).await.map_err(|_| {
            let service = backend.service.clone();
            match total.is_some_and(|total| total <= deadline) {
                true => Refusal::TotalTimeout(service),
                false => Refusal::FirstByteTimeout(service),
            }
        })??,
    };
    let (mut head, inner) = response.into_parts();
    headers::to_client(&mut head.headers);
    let idle = timeout.idle.as_duration();
    let body = GuestBody { inner, idle, total, timer: Timer::Off, in_flight, _entered: entered };
    Ok(Response::from_parts(head, AnswerBody::Guest(Box::new(body))))
}

/// A place at one of the service's replicas.
async fn enter(
    shared: &Arc<Shared>,
    parts: &Parts,
    started: Instant,
) -> Result<(Arc<Backend>, Arc<Target>, Entered), Refusal> {
    for _ in 0..LOOKS_MAX {
        let host = headers::host(parts);
        let found = shared.table.load().find(host, parts.uri.path()).cloned();
        let Some(backend) = found else { return Err(no_route(host, parts.uri.path())) };
        let Some(target) = backend.pick().cloned() else { return Err(Refusal::NoReplica(backend.service.clone())) };
        let timeout = &target.timeout;
        let wait =
            [timeout.first_byte, timeout.total].map(|timeout| timeout.as_duration().map(|after| started + after));
        let deadline = earlier(wait[0], wait[1]);
        match target.gate().enter(deadline, || Counted::new(shared, Gauge::Queued)).await {
            Ok(entered) => return Ok((backend, target, entered)),
            Err(Refused::Closed) => {}
            Err(Refused::QueueFull) => return Err(Refusal::QueueFull(backend.service.clone())),
            Err(Refused::QueueTimeout) => return Err(Refusal::QueueTimeout(backend.service.clone())),
        }
    }
    Err(no_route(headers::host(parts), parts.uri.path()))
}

fn no_route(host: Option<&str>, path: &str) -> Refusal {
    let quoted = |text: &str| text.chars().take(QUOTED_CHARS_MAX).collect();
    Refusal::NoRoute { host: quoted(host.unwrap_or_default()), path: quoted(path) }
}
