//! A component that is ready to answer requests: one replica's way into the sandbox.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Method, Request, Response};
use skiff_api::resource::Template;
use skiff_api::wire::Stream;
use tokio::sync::oneshot;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::{Error as HttpError, WasiHttpView};

use crate::logs::Sink;
use crate::metrics::Figures;
use crate::sandbox::body::{Body, ResponseTo, Settled, settle};
use crate::sandbox::code::Code;
use crate::sandbox::failure::{Failure, classify};
use crate::sandbox::guest::{Ended, Guest, Panicked};
use crate::sandbox::limits;
use crate::sandbox::meter::Meter;
use crate::sandbox::state::{self, State};
use crate::sandbox::ticker::Ticker;

/// What a replica is made of, besides its code.
#[derive(Clone)]
pub struct RunnerOptions {
    pub template: Arc<Template>,
    pub logs: Sink,
    /// Processor time of one request.
    pub cpu: Duration,
    /// Where the replica is counted.
    pub(crate) figures: Arc<Figures>,
}

impl RunnerOptions {
    /// Options with the default for what a template does not say, and figures that nobody prints.
    pub fn new(template: Arc<Template>, logs: Sink) -> Self {
        Self { template, logs, cpu: limits::CPU_PER_REQUEST, figures: Arc::default() }
    }
}

/// Answers requests, each in a fresh instance. Cheap to clone.
#[derive(Clone)]
pub struct Runner(Arc<Inner>);

pub(super) struct Inner {
    pre: ProxyPre<State>,
    ticker: Arc<Ticker>,
    options: RunnerOptions,
    /// Keeps the mapping shared with replicas that come later.
    _code: Code,
}

type Head = Result<Response<HyperOutgoingBody>, ErrorCode>;

impl Runner {
    pub(super) fn new(pre: ProxyPre<State>, code: Code, ticker: Arc<Ticker>, options: RunnerOptions) -> Self {
        Self(Arc::new(Inner { pre, ticker, options, _code: code }))
    }

    /// Puts a request to a fresh instance. The guest runs while this future and then the response's body are polled;
    /// dropping either stops it.
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
        let mut guest = self.guest(request, head_sender)?;

        // Polled by hand, because the guest goes on after the head: at its end, or once it waits with the head set.
        let (ended, head) = std::future::poll_fn(|cx| {
            let polled = std::pin::Pin::new(&mut guest).poll(cx);
            match (polled, head.try_recv()) {
                (Poll::Ready(ended), head) => Poll::Ready((Some(ended), head.ok())),
                (Poll::Pending, Ok(head)) => Poll::Ready((None, Some(head))),
                (Poll::Pending, Err(_)) => Poll::Pending,
            }
        })
        .await;
        match ended {
            None => self.streaming(guest, head, response_to),
            Some(ended) => self.complete(ended, head, response_to),
        }
    }

    /// Where the replica is counted.
    pub(crate) fn figures(&self) -> &Arc<Figures> {
        &self.0.options.figures
    }

    /// Adds a line of the node's own to the replica's log.
    pub(crate) fn note(&self, line: &str) {
        self.0.options.logs.for_request().write(Stream::System, format!("{line}\n").as_bytes());
    }

    /// A first instance, that shows whether the component starts at all.
    pub(super) async fn try_start(&self) -> Result<(), Failure> {
        let meter = Arc::new(Meter::default());
        let logs = self.0.options.logs.for_request();
        let mut store = state::store(self.0.pre.engine(), &self.0.options, &logs, meter.clone());
        let pre = self.0.pre.clone();
        let work = async move {
            let result = pre.instantiate_async(&mut store).await.map(drop);
            Ended { store, result }
        };
        let ended = Guest::new(work, meter, self.0.ticker.clone()).await;
        self.0.verdict(ended).map(drop)
    }

    fn guest<B>(&self, request: Request<B>, head: oneshot::Sender<Head>) -> Result<Guest, Failure>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let meter = Arc::new(Meter::default());
        let logs = self.0.options.logs.for_request();
        let mut store = state::store(self.0.pre.engine(), &self.0.options, &logs, meter.clone());
        let scheme = match request.uri().scheme_str() {
            Some("https") => Scheme::Https,
            _ => Scheme::Http,
        };
        let (parts, body) = request.into_parts();
        let body = RequestBody(Box::pin(body));
        let mut http = store.data_mut().http();
        let incoming = http
            .new_incoming_request(scheme, Request::from_parts(parts, body))
            .map_err(|e| Failure::BadRequest { why: format!("{e:#}") })?;
        let outparam = http.new_response_outparam(head).map_err(|e| Failure::Internal { message: format!("{e:#}") })?;
        let pre = self.0.pre.clone();
        let work = async move {
            let result = async {
                let proxy = pre.instantiate_async(&mut store).await?;
                proxy.wasi_http_incoming_handler().call_handle(&mut store, incoming, outparam).await
            }
            .await;
            Ended { store, result }
        };
        Ok(Guest::new(work, meter, self.0.ticker.clone()))
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
        let failed = match &ended {
            Ok(ended) => ended.result.is_err(),
            Err(_) => true,
        };
        let Some(Ok(_)) = &head else {
            // The reason why there is no response matters more than that there is none.
            self.0.verdict(ended)?;
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
    /// What to make of a guest's end. Failures are written to the replica's log: here, once, whoever hears of them.
    pub(super) fn verdict(&self, ended: Result<Ended, Panicked>) -> Result<Ended, Failure> {
        let failure = match ended {
            Ok(Ended { result: Ok(()), store }) => return Ok(Ended { result: Ok(()), store }),
            Ok(Ended { result: Err(error), store }) => {
                let failure = classify(&error, &store.data().blame(&self.options));
                if let Failure::Trap { kind, .. } = &failure {
                    self.options.figures.trapped(kind);
                }
                self.tell(&failure, &format!("{error:#}"));
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
        self.options.logs.for_request().write(Stream::System, text.as_bytes());
    }

    fn tell(&self, failure: &Failure, details: &str) {
        // The node is to blame for a full pool; a replica's log would fill with what says nothing about it.
        if !failure.is_guests_fault() {
            return;
        }
        self.options.logs.for_request().write(Stream::System, format!("{failure}\n{details}\n").as_bytes());
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
        Some(Err(code)) => Err(Failure::GuestError { code: format!("{code:?}") }),
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
