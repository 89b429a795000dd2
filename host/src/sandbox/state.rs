//! What the host holds for one instance: its view of WASI, its limits, and the hooks of wasi:http.

use std::sync::{Arc, LazyLock};

use arc_swap::Guard;
use http::{HeaderName, Request};
use skiff_api::resource::Template;
use skiff_api::settings::Settings;
use skiff_api::wire::Stream;
use wasmtime::component::ResourceTable;
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error as HttpError, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpCtx,
    WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use crate::capabilities::{Buckets, Chain, Outbound, Sending};
use crate::logs::Sink;
use crate::sandbox::budget::Lease;
use crate::sandbox::code::Loaded;
use crate::sandbox::failure::{Blame, CpuExhausted, Stopped};
use crate::sandbox::limits::{self, Memory};
use crate::sandbox::meter::{Meter, Verdict};
use crate::sandbox::runner::{Inner, RunnerOptions};
use crate::sandbox::sockets::Sockets;
use crate::sandbox::stdio::LogStream;
use crate::sandbox::worker::Alone;

/// Ticks until a computing guest is interrupted: the next one.
const TICKS_TO_DEADLINE: u64 = 1;

/// Host objects that a guest may keep from one request to the next beyond those that its first one left: what it makes
/// once, on paths that it takes late. More is a leak, and ends the instance.
const OBJECTS_KEPT_MAX: usize = 16;

/// The data of an instance's store.
pub(super) struct State {
    table: ResourceTable,
    /// Made by the first call that needs it: a service that only answers makes none, and it costs a microsecond.
    wasi: Option<Box<Wasi>>,
    http: WasiHttpCtx,
    hooks: Hooks,
    memory: Memory,
    /// That of the request which is served.
    meter: Arc<Meter>,
    /// What the first request left.
    objects: Option<usize>,
    /// What it has as one that runs on its own.
    alone: Option<Alone>,
    /// What an instance runs is not evicted under it.
    _code: Arc<Loaded>,
}

/// What a guest sees of its surroundings, but for HTTP.
struct Wasi {
    ctx: WasiCtx,
    logs: Sink,
    /// None where its service allows itself no connections.
    sockets: Option<Sockets>,
}

/// A store for one instance, with every limit set.
pub(super) fn store(code: &Arc<Loaded>, runner: &Inner, meter: Arc<Meter>, lease: Lease) -> Store<State> {
    let options = &runner.terms.options;
    let mut table = ResourceTable::new();
    table.set_max_capacity(limits::HOST_OBJECTS_MAX);
    let mut http = WasiHttpCtx::new();
    http.set_field_size_limit(limits::FIELDS_BYTES_MAX);
    let state = State {
        table,
        wasi: None,
        http,
        hooks: Hooks { meter: meter.clone(), chain: Chain::default() },
        memory: Memory::new(options.template.instance.memory.0, lease),
        meter,
        objects: None,
        alone: None,
        _code: code.clone(),
    };
    let mut store = Store::new(code.linked.engine(), state);
    store.limiter(|state| &mut state.memory);
    store.set_hostcall_fuel(limits::HOST_CALL_BYTES_MAX);
    store.set_max_component_handles(limits::COMPONENT_HANDLES_MAX);
    store.set_epoch_deadline(TICKS_TO_DEADLINE);
    store.epoch_deadline_callback(|store| store.data().interrupted());
    store
}

/// No files, and of the network what its service allows itself: environment, arguments, clocks, randomness and logs, and the
/// end of a worker's standard input.
fn wasi(options: &RunnerOptions, logs: &Sink, alone: Option<&Alone>) -> (WasiCtx, Option<Sockets>) {
    let mut wasi = WasiCtx::builder();
    let Template { image, args, .. } = &*options.template;
    if alone.is_some() || !args.is_empty() {
        wasi.arg(image.repository().rsplit('/').next().unwrap_or_default()).args(args);
    }
    let (mut tail, mut console) = (None, None);
    if let Some(alone) = alone {
        wasi.stdin(alone.input.clone());
        (tail, console) = (Some(alone.tail.clone()), alone.input.console().cloned());
    }
    for (name, value) in &options.template.env {
        wasi.env(name, value);
    }
    for (name, value) in options.settings.load().variables() {
        wasi.env(name, value);
    }
    wasi.stdout(LogStream::new(logs.clone(), Stream::Stdout, tail.clone(), console.clone()))
        .stderr(LogStream::new(logs.clone(), Stream::Stderr, tail, console))
        .max_random_size(limits::RANDOM_BYTES_MAX)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false);
    let may_connect = !options.template.allow.tcp.is_empty();
    let sockets = may_connect.then(|| Sockets::open(&mut wasi, options.outbound.clone()));
    (wasi.build(), sockets)
}

impl State {
    /// The guest met a new epoch: it goes on, gives way to its neighbours, or has had its share.
    fn interrupted(&self) -> wasmtime::Result<UpdateDeadline> {
        let terms = self.meter.terms();
        match self.meter.caught(terms.options.cpu) {
            Verdict::GoOn => Ok(UpdateDeadline::Continue(TICKS_TO_DEADLINE)),
            Verdict::GiveWay => {
                terms.ticker.caught();
                Ok(UpdateDeadline::Yield(TICKS_TO_DEADLINE))
            }
            Verdict::Exhausted => Err(CpuExhausted.into()),
            Verdict::Stop => Err(Stopped.into()),
        }
    }

    /// The instance is to serve another request.
    pub(super) fn begin(&mut self, meter: Arc<Meter>) {
        self.hooks.meter = meter.clone();
        self.meter = meter;
    }

    /// The instance runs on its own.
    pub(super) fn run_alone(&mut self, alone: Alone) {
        self.alone = Some(alone);
    }

    /// What its service is told now.
    pub(super) fn settings(&self) -> Guard<Arc<Settings>> {
        self.meter.terms().options.settings.load()
    }

    /// The buckets of its service.
    pub(super) fn buckets(&self) -> &Buckets {
        &self.meter.terms().options.buckets
    }

    /// What its service reaches.
    pub(super) fn outbound(&self) -> &Outbound {
        &self.meter.terms().options.outbound
    }

    /// Its sockets, if it may have any.
    pub(super) fn sockets_of(&mut self) -> Option<&mut Sockets> {
        self.ctx();
        self.wasi.as_mut()?.sockets.as_mut()
    }

    /// Its host objects.
    pub(super) fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    /// A request has ended as it should. Returns whether the instance is as good as before.
    pub(super) fn end(&mut self) -> bool {
        if let Some(wasi) = &self.wasi {
            wasi.logs.end_lines();
        }
        let objects = self.table.iter_mut().count();
        let first = *self.objects.get_or_insert(objects);
        self.memory.refused().is_none() && objects <= first + OBJECTS_KEPT_MAX
    }

    /// Whether wiping it may take long.
    pub(super) fn has_computed(&self) -> bool {
        self.meter.was_caught()
    }

    /// The request that comes next has these callers.
    pub(super) fn called_by(&mut self, chain: Chain) {
        self.hooks.chain = chain;
    }

    pub(super) fn blame(&self, options: &RunnerOptions) -> Blame {
        Blame {
            instance_memory_max: options.template.instance.memory,
            replica_memory_max: options.template.limits.memory_or_default(&options.template.instance),
            memory_refused: self.memory.refused(),
            cpu_max: options.cpu,
        }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let (meter, alone) = (&self.meter, self.alone.as_ref());
        let wasi = self.wasi.get_or_insert_with(|| {
            let options = &meter.terms().options;
            let logs = options.logs.for_request();
            let (ctx, sockets) = wasi(options, &logs, alone);
            Box::new(Wasi { ctx, logs, sockets })
        });
        WasiCtxView { ctx: &mut wasi.ctx, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

struct Hooks {
    /// That of the request which is served, with all that its replica's guests share.
    meter: Arc<Meter>,
    /// The callers of the request that is being answered.
    chain: Chain,
}

/// Made once: the default makes one for each collection of headers.
static FORBIDDEN: LazyLock<ForbiddenHeaderFilter> = LazyLock::new(|| Arc::new(is_forbidden));

fn is_forbidden(name: &HeaderName) -> bool {
    DEFAULT_FORBIDDEN_HEADERS.contains(name)
}

impl WasiHttpHooks for Hooks {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        is_forbidden(name)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        FORBIDDEN.clone()
    }

    /// Where it goes, and whether, is decided elsewhere.
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _sent: Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ) -> Sending {
        self.meter.terms().options.outbound.send(&self.chain, request, options)
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        limits::BODY_CHUNK_BYTES
    }
}
