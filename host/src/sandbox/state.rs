//! What the host holds for one instance: its view of WASI, its limits, and the hooks of wasi:http.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::{HeaderName, Request, Response};
use skiff_api::wire::Stream;
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error as HttpError, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpCtx,
    WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use crate::logs::Sink;
use crate::sandbox::failure::{Blame, CpuExhausted};
use crate::sandbox::limits::{self, Memory};
use crate::sandbox::meter::Meter;
use crate::sandbox::runner::RunnerOptions;
use crate::sandbox::stdio::LogStream;

/// Ticks until a computing guest is interrupted: the next one.
const TICKS_TO_DEADLINE: u64 = 1;

/// The data of an instance's store.
pub(super) struct State {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: Hooks,
    memory: Memory,
}

/// A store for one instance, with every limit set.
pub(super) fn store(engine: &Engine, options: &RunnerOptions, logs: &Sink, meter: Arc<Meter>) -> Store<State> {
    let mut table = ResourceTable::new();
    table.set_max_capacity(limits::HOST_OBJECTS_MAX);
    let mut http = WasiHttpCtx::new();
    http.set_field_size_limit(limits::FIELDS_BYTES_MAX);
    let state = State {
        table,
        wasi: wasi(options, logs),
        http,
        hooks: Hooks,
        memory: Memory::new(options.template.instance.memory.0),
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.memory);
    store.set_hostcall_fuel(limits::HOST_CALL_BYTES_MAX);
    store.set_max_component_handles(limits::COMPONENT_HANDLES_MAX);
    store.set_epoch_deadline(TICKS_TO_DEADLINE);
    let cpu_max = options.cpu;
    store.epoch_deadline_callback(move |_| interrupted(&meter, cpu_max));
    store
}

/// The guest met a new epoch: it gives way to its neighbours, or has had its share.
fn interrupted(meter: &Meter, cpu_max: Duration) -> wasmtime::Result<UpdateDeadline> {
    if meter.caught() > cpu_max {
        return Err(CpuExhausted.into());
    }
    Ok(UpdateDeadline::Yield(TICKS_TO_DEADLINE))
}

/// No files, no arguments, no standard input, no network: environment, clocks, randomness and logs.
fn wasi(options: &RunnerOptions, logs: &Sink) -> WasiCtx {
    let mut wasi = WasiCtx::builder();
    for (name, value) in &options.template.env {
        wasi.env(name, value);
    }
    wasi.stdout(LogStream::new(logs.clone(), Stream::Stdout))
        .stderr(LogStream::new(logs.clone(), Stream::Stderr))
        .max_random_size(limits::RANDOM_BYTES_MAX)
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false);
    wasi.build()
}

impl State {
    pub(super) fn blame(&self, options: &RunnerOptions) -> Blame {
        Blame {
            memory_max: options.template.instance.memory,
            memory_refused: self.memory.refused(),
            cpu_max: options.cpu,
        }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

struct Hooks;

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

    /// Nothing is granted, so nothing is reachable: the guest sees wasi:http's `HTTP-request-denied`.
    fn send_request(
        &mut self,
        _request: Request<WasiBody>,
        _options: Option<RequestOptions>,
        _sent: Box<dyn Future<Output = Result<(), HttpError>> + Send>,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Sent), HttpError>> + Send> {
        Box::new(std::future::ready(Err(HttpError::HttpRequestDenied)))
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        limits::BODY_CHUNK_BYTES
    }
}

type Sent = Box<dyn Future<Output = Result<(), HttpError>> + Send>;
