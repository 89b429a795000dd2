//! One request: find its service, get a place at a replica, call the guest, pass on what it says.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::CONNECTION;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, response};
use http_body::Body;
use hyper::body::Incoming;
use skiff_api::id::ServiceKey;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Error;
use super::access::{AccessLog, AccessLogTo};
use super::answer::Refusal;
use super::body::{AnswerBody, earlier};
use super::client::Client;
use super::connection::HEADERS_MAX;
use super::flight::{Flight, Queued};
use super::headers;
use super::host::{self, host};
use super::inside::Services;
use super::path::has_dot_segment;
use super::peer::{self, Arrives, Ends, HOP_HEADER, Peers};
use super::redirect;
use super::table::{Backend, Picked, Table};
use super::target::{Entered, Refused, Target};
use super::upgrade::{self, Handshake, Upgrade};
use crate::metrics::Metrics;
use crate::sandbox;

/// How often a request looks again when the replica that it was given is draining or full. Once is enough, as the table
/// changes first; more than a few would mean that a bug sends every request to a closed door.
pub(super) const LOOKS_MAX: u32 = 4;

/// What is served is quoted in an error, but not a whole kilobyte of it.
const QUOTED_CHARS_MAX: usize = 200;

/// What all connections share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    table: ArcSwap<Table<Arc<Backend>>>,
    pub(super) services: ArcSwap<Services>,
    pub(crate) metrics: Arc<Metrics>,
    pub(super) access: Option<AccessLog>,
    pub(super) draining: AtomicBool,
    /// The way to other nodes, if there is one.
    pub(crate) peers: Option<Peers>,
    /// Told when the tables change.
    pub(super) rerouted: Notify,
}

impl Shared {
    pub(crate) fn new(access_log: Option<AccessLogTo>, ends: Option<Ends>) -> Result<Self, Error> {
        let metrics = Arc::<Metrics>::default();
        let open = |to: AccessLogTo| {
            AccessLog::start(to.clone(), metrics.clone()).map_err(|source| Error::AccessLog { to, source })
        };
        let access = access_log.map(open).transpose()?;
        let peers = ends.map(|ends| Peers::new(ends, metrics.clone()));
        Ok(Self { metrics, access, peers, ..Self::default() })
    }

    /// The services that guests find now.
    pub(crate) fn services(&self) -> Arc<Services> {
        self.services.load_full()
    }

    /// Later requests are routed by this table, and those of guests find services here.
    pub(crate) fn route(&self, table: Table<Arc<Backend>>, services: Services) {
        self.table.store(Arc::new(table));
        self.services.store(Arc::new(services));
        self.rerouted.notify_waiters();
    }
}

/// The request counts from now on, not from when this is first polled: before that, hyper looks whether its client has
/// closed the connection.
pub(super) fn serve(
    client: Arc<Client>,
    request: Request<Incoming>,
) -> impl Future<Output = Response<AnswerBody>> + Send {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let flight = Flight::new(client, &parts);
    answer(flight, started, parts, body)
}

async fn answer(mut flight: Flight, started: Instant, parts: Parts, body: Incoming) -> Response<AnswerBody> {
    let (version, is_head) = (parts.version, parts.method == Method::HEAD);
    let mut handshake = None;
    let answer = match flight.client.redirect_port {
        None => forward(&mut flight, started, (parts, body), &mut handshake).await,
        Some(port) => redirect::answer(&parts, port).map(Answer::Own),
    };
    let answer = answer.unwrap_or_else(|refusal| {
        flight.refused(&refusal);
        let mut answer = refusal.answer();
        if let (Some(_), Some(verdict)) = (&flight.client.node, refusal.verdict()) {
            answer.headers_mut().insert(HOP_HEADER, HeaderValue::from_static(verdict.name()));
        }
        Answer::Own(answer)
    });
    let (status, headers) = answer.head();
    flight.answered(status, headers, started.elapsed());
    let is_draining = flight.client.shared.draining.load(Ordering::Relaxed);
    let mut response = match answer {
        Answer::Own(response) => {
            flight.ended();
            response
        }
        Answer::Guest(Guest { head, .. }) | Answer::Elsewhere(head, _)
            if version == Version::HTTP_2 && is_bodiless(is_head, head.status) =>
        {
            flight.ended();
            Response::from_parts(head, AnswerBody::Whole(None))
        }
        Answer::Guest(Guest { mut head, body, entered, started }) => {
            let (client, is_upgraded) = (flight.client.clone(), head.status == StatusCode::SWITCHING_PROTOCOLS);
            let body = AnswerBody::of_guest(body, started, flight, entered, is_upgraded);
            match handshake {
                Some(handshake) if is_upgraded => return upgrade::switch(head, body, handshake, &client.upgraded),
                _ => upgrade::to_node(&mut head),
            }
            Response::from_parts(head, body)
        }
        Answer::Elsewhere(head, body) => {
            let client = flight.client.clone();
            let body = AnswerBody::of_node(body, flight);
            match handshake {
                Some(handshake) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
                    return upgrade::switch(head, body, handshake, &client.upgraded);
                }
                _ => Response::from_parts(head, body),
            }
        }
    };
    if version < Version::HTTP_2 && is_draining {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// What a client gets.
pub(super) enum Answer {
    Own(Response<AnswerBody>),
    Guest(Guest),
    /// Another node's, of its guest or its own.
    Elsewhere(response::Parts, Arrives),
}

/// A guest's answer.
pub(super) struct Guest {
    head: response::Parts,
    body: sandbox::Body,
    entered: Entered,
    /// From when on its time counts.
    started: Instant,
}

impl Answer {
    fn head(&self) -> (StatusCode, &HeaderMap) {
        match self {
            Self::Own(response) => (response.status(), response.headers()),
            Self::Guest(Guest { head, .. }) | Self::Elsewhere(head, _) => (head.status, &head.headers),
        }
    }
}

/// Answers that end with their head. hyper sees to it in HTTP/1.1 only.
fn is_bodiless(is_head: bool, status: StatusCode) -> bool {
    is_head || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}

/// Where a request goes.
pub(super) enum Place {
    /// To a replica on this node.
    Here(Arc<Target>, Entered),
    /// To another node. There may be replicas here that are full.
    There { service: ServiceKey, is_full_here: bool },
}

async fn forward(
    flight: &mut Flight,
    started: Instant,
    (mut parts, body): (Parts, Incoming),
    handshake: &mut Option<Handshake>,
) -> Result<Answer, Refusal> {
    if flight.client.node.is_some() {
        return Box::pin(peer::serve(flight, started, (parts, body))).await;
    }
    check(&parts)?;
    if let Some(upgrade) = Upgrade::wanted(&parts) {
        let (answer, begun) = Box::pin(upgrade::forward(flight, started, parts, upgrade)).await?;
        *handshake = begun;
        return Ok(answer);
    }
    let place = enter(&flight.client, &parts, started).await?;
    headers::to_guest(&mut parts, &flight.client);
    match place {
        Place::Here(target, entered) => {
            here(flight, (target, entered), started, Request::from_parts(parts, body)).await
        }
        // Boxed, so that what stays here costs nothing more.
        Place::There { service, is_full_here } => {
            Box::pin(peer::forward(flight, (service, is_full_here), started, (parts, body))).await
        }
    }
}

/// The answer of a replica on this node.
pub(super) async fn here<B>(
    flight: &mut Flight,
    (target, entered): (Arc<Target>, Entered),
    started: Instant,
    request: Request<B>,
) -> Result<Answer, Refusal>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    flight.board(target.clone());
    let call = target.runner.call(request);
    let response = in_time(call, deadline(&target, started), &target.cut).await.map_err(|late| {
        let refusal = match late {
            Late::Cut => Refusal::Stopped(target.service.clone()),
            Late::Deadline if is_total(&target) => Refusal::TotalTimeout(target.service.clone()),
            Late::Deadline => Refusal::FirstByteTimeout(target.service.clone()),
        };
        target.runner.note(&format!("a request got {}: {refusal}", refusal.status()));
        refusal
    })??;
    let (mut head, body) = response.into_parts();
    headers::to_client(&mut head.headers);
    Ok(Answer::Guest(Guest { head, body, entered, started }))
}

/// What no guest gets to see.
fn check(parts: &Parts) -> Result<(), Refusal> {
    if parts.method == Method::CONNECT {
        return Err(Refusal::Connect);
    }
    // hyper sees to it in HTTP/1.1 only.
    if parts.headers.len() > HEADERS_MAX {
        return Err(Refusal::TooManyHeaders(parts.headers.len()));
    }
    host::check(parts)?;
    if !host::has_target(parts) {
        return Err(Refusal::BadTarget);
    }
    if has_dot_segment(parts.uri.path()) {
        return Err(Refusal::BadPath);
    }
    Ok(())
}

/// A place at one of the service's replicas, or the way to another node that has some.
pub(super) async fn enter(client: &Client, parts: &Parts, started: Instant) -> Result<Place, Refusal> {
    let mut full = None;
    for _ in 0..LOOKS_MAX {
        let target = match pick(&client.shared, parts, full.is_some())? {
            Picked::Here(target) => target,
            Picked::There(service) => return Ok(Place::There { service, is_full_here: full.is_some() }),
        };
        let entered = target.enter(deadline(&target, started), || Queued::new(client, &target)).await;
        match entered {
            Ok(entered) => return Ok(Place::Here(target, entered)),
            Err(Refused::Closed) => {}
            // The emptiest one is full, too.
            Err(Refused::QueueFull) if full.is_some() => return elsewhere(&client.shared, &target),
            Err(Refused::QueueFull) => full = Some(target),
            Err(Refused::QueueTimeout) => return Err(refused(&target, Refusal::QueueTimeout)),
        }
    }
    match (pick(&client.shared, parts, full.is_some())?, full) {
        (Picked::There(service), full) => Ok(Place::There { service, is_full_here: full.is_some() }),
        (Picked::Here(target), Some(_)) => elsewhere(&client.shared, &target),
        (Picked::Here(target), None) => Err(Refusal::NoReplica(target.service.clone())),
    }
}

/// All replicas here are full, of which this is one: another node may have room.
pub(super) fn elsewhere(shared: &Shared, target: &Target) -> Result<Place, Refusal> {
    let services = shared.services.load();
    match services.get(&target.service).is_some_and(|callee| !callee.backend.remotes().is_empty()) {
        true => Ok(Place::There { service: target.service.clone(), is_full_here: true }),
        false => Err(refused(target, Refusal::QueueFull)),
    }
}

/// A refusal that is a replica's.
pub(super) fn refused(target: &Target, refusal: fn(ServiceKey) -> Refusal) -> Refusal {
    let refusal = refusal(target.service.clone());
    target.refused(&refusal);
    refusal
}

/// What to try next.
fn pick(shared: &Shared, parts: &Parts, was_full: bool) -> Result<Picked, Refusal> {
    let (host, path) = (host(parts), parts.uri.path());
    let table = shared.table.load();
    let Some(backend) = table.find(host, path) else { return Err(no_route(host, path)) };
    backend.look(was_full)
}

fn no_route(host: Option<&str>, path: &str) -> Refusal {
    let quoted = |text: &str| text.chars().take(QUOTED_CHARS_MAX).collect();
    Refusal::NoRoute { host: quoted(host.unwrap_or_default()), path: quoted(path) }
}

/// When the head of the answer must be there.
pub(super) fn deadline(target: &Target, started: Instant) -> Option<Instant> {
    let [first_byte, total] = [target.timeout.first_byte, target.timeout.total].map(|timeout| timeout.as_duration());
    earlier(first_byte.map(|after| started + after), total.map(|after| started + after))
}

/// Whether the total time is the one that ends first.
pub(super) fn is_total(target: &Target) -> bool {
    match (target.timeout.first_byte.as_duration(), target.timeout.total.as_duration()) {
        (Some(first_byte), Some(total)) => total <= first_byte,
        (first_byte, total) => first_byte.is_none() && total.is_some(),
    }
}

/// Why a call is not waited for any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    Deadline,
    Cut,
}

/// Calls, and waits. Most guests answer when they are first polled: for those no timer is made.
pub(super) async fn in_time<F: Future>(
    call: F,
    deadline: Option<Instant>,
    cut: &CancellationToken,
) -> Result<F::Output, Late> {
    let mut call = pin!(call);
    let mut late = None;
    std::future::poll_fn(move |cx| {
        if let Poll::Ready(answer) = call.as_mut().poll(cx) {
            return Poll::Ready(Ok(answer));
        }
        let late = late.get_or_insert_with(|| Box::pin(until(deadline, cut.clone())));
        late.as_mut().poll(cx).map(Err)
    })
    .await
}

async fn until(deadline: Option<Instant>, cut: CancellationToken) -> Late {
    let deadline = async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = deadline => Late::Deadline,
        () = cut.cancelled() => Late::Cut,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_ends_by_itself_by_its_deadline_or_by_a_cut() {
        let cut = CancellationToken::new();
        let soon = Some(Instant::now() + Duration::from_secs(1));
        assert_eq!(in_time(async { 7 }, Some(Instant::now()), &cut).await, Ok(7));
        assert_eq!(in_time(tokio::time::sleep(Duration::from_millis(999)), soon, &cut).await, Ok(()));
        assert_eq!(in_time(std::future::pending::<()>(), soon, &cut).await, Err(Late::Deadline));
        let cutting = cut.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            cutting.cancel();
        });
        assert_eq!(in_time(std::future::pending::<()>(), None, &cut).await, Err(Late::Cut));
    }
}
