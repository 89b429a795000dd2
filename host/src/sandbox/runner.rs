//! A component that is ready to answer requests: one replica's way into the sandbox.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Method, Request, Response};
use skiff_api::resource::Template;
use skiff_api::settings::Settings;
use skiff_api::wire::Stream;
use tokio::sync::oneshot::{self, error::TryRecvError};
use wasmtime::Store;
use wasmtime_wasi_http::p2::bindings::Proxy;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::{Error as HttpError, WasiHttpView};

use crate::capabilities::{Buckets, Outbound};
use crate::logs::Sink;
use crate::metrics::Figures;
use crate::sandbox::account::Account;
use crate::sandbox::body::{Body, ResponseTo, Settled, settle};
use crate::sandbox::budget::{Budget, Lease, Share, Short};
use crate::sandbox::code::{Code, Loaded};
use crate::sandbox::conduct::Conduct;
use crate::sandbox::failure::{Failure, classify};
use crate::sandbox::guest::{Ended, Guest, Instance, Panicked};
use crate::sandbox::idle::Idle;
use crate::sandbox::lane::Lanes;
use crate::sandbox::limits;
use crate::sandbox::meter::Meter;
use crate::sandbox::state::{self, State};
use crate::sandbox::ticker::Ticker;
use crate::sandbox::usage::Usage;

/// What a replica is made of, besides its code.
#[derive(Clone)]
pub struct RunnerOptions {
    pub template: Arc<Template>,
    pub logs: Sink,
    /// Processor time of one request.
    pub cpu: Duration,
    /// Where the replica is counted.
    pub(crate) figures: Arc<Figures>,
    /// What its Configs and Secrets say now.
    pub settings: Arc<ArcSwap<Settings>>,
    /// The buckets that its guests use.
    pub buckets: Buckets,
    /// What its guests reach.
    pub outbound: Outbound,
}

impl RunnerOptions {
    /// Options with the default for what a template does not say, figures that nobody prints, and nothing to reach.
    pub fn new(template: Arc<Template>, logs: Sink) -> Self {
        Self {
            template,
            logs,
            cpu: limits::CPU_PER_REQUEST,
            figures: Arc::default(),
            settings: Arc::default(),
            buckets: Buckets::default(),
            outbound: Outbound::default(),
        }
    }
}

/// What all replicas of a node share.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) ticker: Arc<Ticker>,
    pub(super) lanes: Arc<Lanes>,
    pub(super) budget: Arc<Budget>,
}

/// Answers requests, each in a fresh instance or in one that it keeps, as the template says. Cheap to clone.
#[derive(Clone)]
pub struct Runner(pub(super) Arc<Inner>);

pub(super) struct Inner {
    // Idle instances go before what they are made from.
    pub(super) idle: Idle,
    code: Code,
    /// Tells replicas apart in the lanes.
    pub(super) number: u64,
    pub(super) lanes: Arc<Lanes>,
    pub(super) conduct: Conduct,
    pub(super) share: Arc<Share>,
    pub(super) terms: Arc<Terms>,
}

/// What every instance of a replica refers to. Instances that wait belong to the rest of the replica, and hold only this.
pub(super) struct Terms {
    pub(super) ticker: Arc<Ticker>,
    pub(super) account: Account,
    usage: Arc<Usage>,
    pub(super) options: RunnerOptions,
}

#[cfg(test)]
impl Terms {
    /// Those of a replica that runs nothing.
    pub(super) fn of_nothing() -> Self {
        let template = skiff_api::resource::ServiceSpec::new("cart:1".parse().unwrap()).template();
        let usage = Arc::new(Usage::default());
        Self {
            ticker: Arc::new(Ticker::start(&wasmtime::Engine::default()).unwrap()),
            account: Account::new(usage.clone(), None),
            usage,
            options: RunnerOptions::new(Arc::new(template), Sink::new(crate::logs::Journal::in_memory())),
        }
    }
}

/// What is quoted of an error that a guest answers with, which may have words of its own.
const ERROR_CHARS_MAX: usize = 1000;

/// What a request is put to.
enum Start {
    Fresh(Lease, Arc<Loaded>),
    Reused(Instance),
}

/// Whether an instance is there.
enum Made {
    NotYet(Arc<Loaded>),
    Already(Proxy),
}

type Head = Result<Response<HyperOutgoingBody>, ErrorCode>;

impl Runner {
    pub(super) fn new(code: Code, node: &Node, options: RunnerOptions) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let Template { instance, limits, .. } = &*options.template;
        let usage = Arc::new(Usage::default());
        options.figures.attach(usage.clone());
        let memory_max = limits.memory_or_default(instance).0;
        Self(Arc::new(Inner {
            idle: Idle::new(instance.idle.as_duration()),
            code,
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            lanes: node.lanes.clone(),
            conduct: Conduct::default(),
            share: Share::new(node.budget.clone(), usage.clone(), memory_max),
            terms: Arc::new(Terms {
                ticker: node.ticker.clone(),
                account: Account::new(usage.clone(), limits.cpu),
                usage,
                options,
            }),
        }))
    }

    /// What the replica's guests have used.
    pub fn usage(&self) -> &Arc<Usage> {
        &self.0.terms.usage
    }

    /// Whether a request would be begun now: the replica has processor time, and memory for an instance.
    pub(crate) fn has_room(&self) -> bool {
        self.0.terms.account.overdrawn().is_none() && (self.0.share.has_room() || self.0.has_idle())
    }

    /// Waits until a request may be begun.
    pub(crate) async fn room(&self) {
        loop {
            while let Some(overdrawn) = self.0.terms.account.overdrawn() {
                tokio::time::sleep(overdrawn).await;
            }
            self.0.share.room(|| self.0.has_idle()).await;
            // Waiting for the one may have taken so long that the other is gone.
            if self.0.terms.account.overdrawn().is_none() {
                return;
            }
        }
    }

    /// Puts a request to an instance. The guest runs while this future and then the response's body are polled; dropping
    /// either stops it. Waits where the replica's instances have all of its memory.
    ///
    /// Headers that belong to a connection are kept from the guest. A request without an authority, as HTTP/1.0 allows
    /// it, is for `localhost`.
    pub async fn call<B>(&self, mut request: Request<B>) -> Result<Response<Body>, Failure>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        if request.uri().authority().is_none() && !request.headers().contains_key(HOST) {
            request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
        }
        let response_to = if *request.method() == Method::HEAD { ResponseTo::Head } else { ResponseTo::Other };
        let (head_sender, mut head) = oneshot::channel();
        let start = self.0.start().await?;
        let mut guest = self.guest(start, request, head_sender)?;

        // Polled by hand, because the guest goes on after the head: at its end, or once it waits with the head set.
        let mut may_come = true;
        let (ended, head) = std::future::poll_fn(|cx| {
            if let Poll::Ready(ended) = std::pin::Pin::new(&mut guest).poll(cx) {
                return Poll::Ready((Some(ended), head.try_recv().ok()));
            }
            match head.try_recv() {
                Ok(head) => return Poll::Ready((None, Some(head))),
                // It never comes, and must not be waited for: the guest's end will say why.
                Err(TryRecvError::Closed) => may_come = false,
                Err(TryRecvError::Empty) => {}
            }
            // A guest that others poll sets its head at any moment.
            if may_come && guest.is_away() {
                match std::pin::Pin::new(&mut head).poll(cx) {
                    Poll::Ready(Ok(head)) => return Poll::Ready((None, Some(head))),
                    Poll::Ready(Err(_)) => may_come = false,
                    Poll::Pending => {}
                }
            }
            Poll::Pending
        })
        .await;
        match ended {
            None => self.streaming(guest, head, response_to),
            Some(ended) => self.complete(ended, head, response_to),
        }
    }

    /// Where the replica is counted.
    pub(crate) fn figures(&self) -> &Arc<Figures> {
        &self.0.terms.options.figures
    }

    /// Adds a line of the node's own to the replica's log.
    pub(crate) fn note(&self, line: &str) {
        self.0.terms.options.logs.for_request().write(Stream::System, format!("{line}\n").as_bytes());
    }

    /// Tells of trouble with the replica as an event, unless it was told lately.
    pub(crate) fn warn(&self, reason: &str, message: String) {
        self.0.terms.options.outbound.warn(reason, message);
    }

    /// A first instance, that shows whether the component starts at all, and what memory it takes.
    pub(super) async fn try_start(&self, loaded: Arc<Loaded>) -> Result<(), Failure> {
        let inner = self.0.clone();
        let lease = inner.share.lease().map_err(|short| inner.short(short))?;
        let (meter, mut store) = inner.fresh(lease, &loaded);
        let work = async move {
            match loaded.linked.handler(&mut store).await {
                Ok(proxy) => Ended::Done(Instance { store, proxy, left: 0 }),
                Err(error) => Ended::Failed(store, error),
            }
        };
        let ended = Guest::new(work, meter, self.0.clone()).await;
        self.0.verdict(ended).map(|instance| self.0.dispose(instance.store))
    }

    fn guest<B>(&self, start: Start, request: Request<B>, head: oneshot::Sender<Head>) -> Result<Guest, Failure>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let inner = self.0.clone();
        let (meter, mut store, made, left) = match start {
            Start::Fresh(lease, loaded) => {
                let (meter, store) = inner.fresh(lease, &loaded);
                (meter, store, Made::NotYet(loaded), inner.requests())
            }
            Start::Reused(Instance { mut store, proxy, left }) => {
                let meter = Arc::new(Meter::new(inner.terms.clone()));
                store.data_mut().begin(meter.clone());
                inner.terms.usage.add_reused();
                (meter, store, Made::Already(proxy), left)
            }
        };
        let scheme = match request.uri().scheme_str() {
            Some("https") => Scheme::Https,
            _ => Scheme::Http,
        };
        let (mut parts, body) = request.into_parts();
        store.data_mut().called_by(parts.extensions.remove().unwrap_or_default());
        let body = RequestBody(Box::pin(body));
        let mut http = store.data_mut().http();
        let incoming = http
            .new_incoming_request(scheme, Request::from_parts(parts, body))
            .map_err(|e| Failure::BadRequest { why: format!("{e:#}") })?;
        let outparam = http.new_response_outparam(head).map_err(|e| Failure::Internal { message: format!("{e:#}") })?;
        let work = async move {
            let proxy = match made {
                Made::Already(proxy) => proxy,
                Made::NotYet(loaded) => match loaded.linked.handler(&mut store).await {
                    Ok(proxy) => proxy,
                    Err(error) => return Ended::Failed(store, error),
                },
            };
            match proxy.wasi_http_incoming_handler().call_handle(&mut store, incoming, outparam).await {
                Ok(()) => Ended::Done(Instance { store, proxy, left: left.saturating_sub(1) }),
                Err(error) => Ended::Failed(store, error),
            }
        };
        Ok(Guest::new(work, meter, self.0.clone()))
    }

    /// The head is there and the guest waits for something: the rest of its work is driven by the body.
    fn streaming(&self, guest: Guest, head: Option<Head>, to: ResponseTo) -> Result<Response<Body>, Failure> {
        let (parts, body) = valid(head)?.into_parts();
        Ok(Response::from_parts(parts, Body::streaming(guest, body, self.0.clone(), to)))
    }

    /// The guest has done all of its work: so the body is there too, or something is wrong with it.
    fn complete(
        &self,
        ended: Result<Ended, Panicked>,
        head: Option<Head>,
        to: ResponseTo,
    ) -> Result<Response<Body>, Failure> {
        let failed = !matches!(ended, Ok(Ended::Done(_)));
        let Some(Ok(_)) = &head else {
            // The reason why there is no response matters more than that there is none.
            let instance = self.0.verdict(ended)?;
            self.0.dispose(instance.store);
            return Err(valid(head).err().unwrap_or(Failure::NoResponse));
        };
        let (parts, body) = valid(head)?.into_parts();
        let settled = settle(ended, body, &self.0);
        // Nothing has been sent yet: a client is better off with an honest error than with the first part of an answer.
        match settled {
            Settled { failure: Some(failure), .. } if failed => Err(failure),
            settled => Ok(Response::from_parts(parts, Body::settled(settled, to))),
        }
    }
}

impl Inner {
    /// An instance that waits, or memory for another.
    async fn start(&self) -> Result<Start, Failure> {
        loop {
            if let Some(instance) = self.is_reusing().then(|| self.idle.take()).flatten() {
                return Ok(Start::Reused(instance));
            }
            match self.share.lease() {
                Ok(lease) => return Ok(Start::Fresh(lease, self.loaded().await?)),
                // What has ended, and is not wiped yet, has memory for it.
                Err(_) if self.lanes.help() => {}
                Err(Short::Node) => return Err(self.short(Short::Node)),
                Err(_) => self.share.room(|| self.has_idle()).await,
            }
        }
    }

    /// The replica's code. The first request in a while pays for the mapping.
    async fn loaded(&self) -> Result<Arc<Loaded>, Failure> {
        if let Some(loaded) = self.code.resident() {
            return Ok(loaded);
        }
        self.terms.usage.add_cold();
        self.code.linked().await.map_err(|error| {
            tracing::error!(%error, "a request needed code that cannot be loaded");
            Failure::CodeUnavailable
        })
    }

    pub(super) fn fresh(&self, lease: Lease, loaded: &Arc<Loaded>) -> (Arc<Meter>, Store<State>) {
        self.terms.usage.add_started();
        let meter = Arc::new(Meter::new(self.terms.clone()));
        let store = state::store(loaded, self, meter.clone(), lease);
        (meter, store)
    }

    fn is_reusing(&self) -> bool {
        self.terms.options.template.instance.requests > 1
    }

    fn has_idle(&self) -> bool {
        self.is_reusing() && self.idle.has_one()
    }

    /// How many requests a new instance serves: another number each time, up to what is allowed, so that a service which
    /// relies on its memory fails in tests and not on the day of a restart.
    fn requests(&self) -> u32 {
        let max = self.terms.options.template.instance.requests;
        let spread = u64::from(max / 2);
        // Its keys are random for each.
        let random = RandomState::new().build_hasher().finish();
        max - u32::try_from(random % (spread + 1)).unwrap_or(0)
    }

    pub(super) fn short(&self, short: Short) -> Failure {
        let template = &self.terms.options.template;
        match short {
            Short::Node => Failure::NodeMemory,
            Short::Instance => Failure::MemoryLimit { max: template.instance.memory, field: "instance.memory" },
            Short::Replica => {
                let max = template.limits.memory_or_default(&template.instance);
                Failure::MemoryLimit { max, field: "limits.memory" }
            }
        }
    }

    /// A request has ended as it should, its body with it: the instance waits for another, or ends.
    pub(super) fn retire(self: &Arc<Self>, mut instance: Instance) {
        let keep = instance.left > 0 && !self.share.node().is_tight() && instance.store.data_mut().end();
        match keep {
            true => {
                Idle::put(self, instance);
                self.share.nudge();
            }
            false => self.dispose(instance.store),
        }
    }

    /// Ends an instance: where it may have touched much memory, not on this thread.
    pub(super) fn dispose(&self, store: Store<State>) {
        if store.data().has_computed() || self.conduct.is_hot() {
            self.lanes.bury(store);
        }
    }

    /// What to make of a guest's end. Failures are written to the replica's log: here, once, whoever hears of them.
    pub(super) fn verdict(&self, ended: Result<Ended, Panicked>) -> Result<Instance, Failure> {
        let failure = match ended {
            Ok(Ended::Done(instance)) => return Ok(instance),
            Ok(Ended::Failed(store, error)) => {
                let failure = classify(&error, &store.data().blame(&self.terms.options));
                if let Failure::Trap { kind, .. } = &failure {
                    self.terms.options.figures.trapped(kind);
                }
                self.tell(&failure, &format!("{error:#}"));
                self.dispose(store);
                failure
            }
            Err(Panicked { message }) => {
                let failure = Failure::Internal { message };
                tracing::error!(%failure, "host code panicked on behalf of a guest");
                self.tell(&failure, "");
                failure
            }
        };
        Err(failure)
    }

    /// A guest whose response is sent has worked on for too long.
    pub(super) fn cut_off(&self, max: Duration) {
        let text = format!("the guest was stopped {} s after the end of its response\n", max.as_secs());
        self.terms.options.logs.for_request().write(Stream::System, text.as_bytes());
    }

    fn tell(&self, failure: &Failure, details: &str) {
        // The node is to blame for a full pool; a replica's log would fill with what says nothing about it.
        if !failure.is_guests_fault() {
            return;
        }
        self.terms.options.logs.for_request().write(Stream::System, format!("{failure}\n{details}\n").as_bytes());
    }
}

/// Takes only what a server can send.
fn valid(head: Option<Head>) -> Result<Response<HyperOutgoingBody>, Failure> {
    match head {
        Some(Ok(response)) if response.status().is_informational() => {
            let why = format!("status {} only announces another response", response.status().as_u16());
            Err(Failure::InvalidResponse { why })
        }
        Some(Ok(response)) => Ok(response),
        Some(Err(code)) => {
            let code = format!("{code:?}").chars().take(ERROR_CHARS_MAX).collect();
            Err(Failure::GuestError { code })
        }
        None => Err(Failure::NoResponse),
    }
}

/// A request body whose errors the guest can be told of.
struct RequestBody<B>(std::pin::Pin<Box<B>>);

impl<B> http_body::Body for RequestBody<B>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, HttpError>>> {
        let frame = self.0.as_mut().poll_frame(cx);
        // Whatever broke the body off, for the guest the client is gone.
        frame.map(|frame| frame.map(|frame| frame.map_err(|_| HttpError::ConnectionTerminated)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.0.size_hint()
    }
}
