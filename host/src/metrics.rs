//! The node's metrics, in Prometheus' text format.
//!
//! | name | labels | unit |
//! |---|---|---|
//! | `skiff_gateway_responses_total` | `class` | responses |
//! | `skiff_gateway_response_seconds` | `le` | seconds until the head of the response |
//! | `skiff_gateway_errors_total` | `code` | responses that are the gateway's own |
//! | `skiff_gateway_bodies_cut_off_total` | | response bodies that broke off |
//! | `skiff_gateway_requests_in_flight`, `_queued` | | requests |
//! | `skiff_gateway_connections` | | open client connections |
//! | `skiff_gateway_handshakes_total` | `outcome` | TLS handshakes |
//! | `skiff_gateway_access_lines_dropped_total` | | lines of the access log that its disk was too slow for |
//! | `skiff_peer_requests_total` | `outcome` | requests put to other nodes; one that is put to several counts for each |
//! | `skiff_peer_retries_total` | `why` | requests put to another node after the first |
//! | `skiff_peer_ejections_total` | | times that another node was left alone because it failed |
//! | `skiff_peer_connections` | | open connections to other nodes |
//! | `skiff_peer_served_total` | | requests of other nodes; they count as responses of the gateway, too |
//! | `skiff_peer_strangers_total` | | connections to the port for nodes that were no node's of the cluster |
//! | `skiff_outbound_requests_total` | `to` | requests of guests to services and servers |
//! | `skiff_outbound_refused_total` | `why` | requests of guests that were not let out |
//! | `skiff_outbound_failed_total` | | requests to servers that got no answer |
//! | `skiff_outbound_requests_in_flight` | | requests of guests that wait for an answer, or read it |
//! | `skiff_outbound_connections` | | open connections to servers |
//! | `skiff_replica_responses_total` | `class` and the replica's | as above, of one replica |
//! | `skiff_replica_response_seconds` | `le` and the replica's | |
//! | `skiff_replica_errors_total` | `code` and the replica's | |
//! | `skiff_replica_bodies_cut_off_total` | the replica's | |
//! | `skiff_replica_requests_in_flight`, `_queued` | the replica's | |
//! | `skiff_replica_traps_total` | `kind` and the replica's | guests that trapped |
//! | `skiff_replica_cold_requests_total` | the replica's | requests that had to wait until code was loaded |
//! | `skiff_code_loads_total`, `_evictions_total` | | components whose code was loaded, or had to go for others |
//! | `skiff_code_loaded`, `_loaded_bytes` | | components whose code is loaded, and an estimate of what it takes |
//!
//! **Labels are bounded.** A replica's are `namespace`, `service` and `replica`: as many as are placed here, and its
//! figures go when it does; nothing comes from a client. A replica is listed from its first request on, a code or kind
//! from its first time, so that ten thousand idle services cost a reader nothing.
//!
//! **Counting costs a request some nanoseconds.** A replica's figures are made with it, so that no request looks anything
//! up, and each thread counts in a shard of its own, so that no cache line is fought over; reading adds the shards up.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use http::StatusCode;
use skiff_api::id::{ReplicaKey, ServiceKey};

use crate::sandbox::{CodeFigures, Usage};

/// Every code of an answer that is the gateway's own, sorted; see the gateway's refusals and [`crate::sandbox::Failure`].
const CODES: [&str; 30] = [
    "bad-hop",
    "bad-host",
    "bad-path",
    "bad-request",
    "bad-target",
    "call-depth",
    "code-unavailable",
    "container-unreachable",
    "first-byte-timeout",
    "guest-cpu-limit",
    "guest-error",
    "guest-incomplete-body",
    "guest-invalid-response",
    "guest-memory-limit",
    "guest-no-response",
    "guest-trap",
    "instances-exhausted",
    "method-not-allowed",
    "no-replica",
    "no-route",
    "node-memory",
    "node-removed",
    "not-a-caller",
    "peer-lost",
    "queue-full",
    "queue-timeout",
    "replica-stopped",
    "sandbox-failure",
    "too-many-headers",
    "total-timeout",
];

/// Every kind of a trap, sorted; see [`crate::sandbox::Failure::Trap`].
const TRAPS: [&str; 13] = [
    "bad-conversion",
    "bad-signature",
    "cannot-enter",
    "division-by-zero",
    "exit",
    "host-call",
    "indirect-call-to-null",
    "integer-overflow",
    "memory-out-of-bounds",
    "other",
    "stack-overflow",
    "table-out-of-bounds",
    "unreachable",
];

/// Upper ends of the histogram's buckets in microseconds: 0.5 ms, which is a warm request, to 10 s, beyond the default
/// time limit.
const BUCKETS_US: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];

/// Shards of a figure at most: beyond some cores, sharing a line between two threads costs less than the memory.
const SHARDS_MAX: usize = 16;

/// One thread's part of some figures. Aligned to two cache lines, which processors fetch together.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    by_class: [AtomicU64; 5],
    by_latency: [AtomicU64; BUCKETS_US.len() + 1],
    latency_us: AtomicU64,
    in_flight: AtomicI64,
    queued: AtomicI64,
    cut_off: AtomicU64,
}

/// What happens seldom.
#[derive(Debug, Default)]
struct Faults {
    by_code: [AtomicU64; CODES.len()],
    by_trap: [AtomicU64; TRAPS.len()],
}

/// The figures of the gateway, or of one replica.
#[derive(Debug)]
pub(crate) struct Figures {
    /// `namespace="…",service="…",replica="…"`; empty for the gateway's own.
    labels: String,
    /// Made by the first request on a thread.
    shards: Box<[OnceLock<Box<Shard>>]>,
    faults: OnceLock<Box<Faults>>,
    /// Of a replica, once it is prepared.
    usage: OnceLock<Arc<Usage>>,
}

/// What is counted while it lasts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Gauge {
    InFlight,
    Queued,
}

impl Default for Figures {
    fn default() -> Self {
        Self::new(String::new())
    }
}

impl Figures {
    fn new(labels: String) -> Self {
        let shards = (0..shard_count()).map(|_| OnceLock::new()).collect();
        Self { labels, shards, faults: OnceLock::new(), usage: OnceLock::new() }
    }

    /// The sandbox counts there what the replica's guests use.
    pub(crate) fn attach(&self, usage: Arc<Usage>) {
        // A replica is prepared once.
        let _ = self.usage.set(usage);
    }

    /// The head of a response is there. `took` since the request's.
    pub(crate) fn answered(&self, status: StatusCode, took: Duration) {
        let shard = self.shard();
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        shard.by_class[class].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_US.iter().position(|end| micros <= *end).unwrap_or(BUCKETS_US.len());
        shard.by_latency[bucket].fetch_add(1, Ordering::Relaxed);
        shard.latency_us.fetch_add(micros, Ordering::Relaxed);
    }

    /// A response that is the gateway's own.
    pub(crate) fn refused(&self, code: &str) {
        if let Ok(at) = CODES.binary_search(&code) {
            self.faults().by_code[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A guest trapped, whether anybody still waited for it or not.
    pub(crate) fn trapped(&self, kind: &str) {
        if let Ok(at) = TRAPS.binary_search(&kind) {
            self.faults().by_trap[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A response body broke off: the status was sent by then.
    pub(crate) fn cut_off(&self) {
        self.shard().cut_off.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, gauge: Gauge, change: i64) {
        let shard = self.shard();
        let gauge = match gauge {
            Gauge::InFlight => &shard.in_flight,
            Gauge::Queued => &shard.queued,
        };
        gauge.fetch_add(change, Ordering::Relaxed);
    }

    fn shard(&self) -> &Shard {
        self.shards[thread_number() % self.shards.len()].get_or_init(Box::default)
    }

    fn faults(&self) -> &Faults {
        self.faults.get_or_init(Box::default)
    }

    fn sum(&self) -> Sum {
        let mut sum = Sum::default();
        for shard in self.shards.iter().filter_map(OnceLock::get) {
            let add = |to: &mut u64, from: &AtomicU64| *to += from.load(Ordering::Relaxed);
            sum.by_class.iter_mut().zip(&shard.by_class).for_each(|(to, from)| add(to, from));
            sum.by_latency.iter_mut().zip(&shard.by_latency).for_each(|(to, from)| add(to, from));
            add(&mut sum.latency_us, &shard.latency_us);
            add(&mut sum.cut_off, &shard.cut_off);
            sum.in_flight += shard.in_flight.load(Ordering::Relaxed);
            sum.queued += shard.queued.load(Ordering::Relaxed);
        }
        sum
    }
}

/// The shards of some figures, added up.
#[derive(Debug, Default)]
struct Sum {
    by_class: [u64; 5],
    by_latency: [u64; BUCKETS_US.len() + 1],
    latency_us: u64,
    in_flight: i64,
    queued: i64,
    cut_off: u64,
}

/// How a TLS handshake ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Handshake {
    Done,
    Failed,
    TooSlow,
}

/// The names of [`Handshake`]'s variants, in their order.
const OUTCOMES: [&str; 3] = ["done", "failed", "too-slow"];

/// Where a node counts.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Of all requests, whether a replica is found for them or not; they outlive replicas.
    pub(crate) gateway: Figures,
    connections: AtomicI64,
    handshakes: [AtomicU64; OUTCOMES.len()],
    access_lines_dropped: AtomicU64,
    pub(crate) outgoing: Arc<Outgoing>,
    pub(crate) peers: Peers,
    replicas: Mutex<Replicas>,
}

#[derive(Debug, Default)]
struct Replicas {
    by_key: BTreeMap<ReplicaKey, Weak<Figures>>,
    /// Entries of removed replicas are dropped when there are so many.
    sweep_at: usize,
}

/// Fewer entries are not worth a sweep.
const SWEEP_MIN: usize = 64;

impl Metrics {
    /// The figures of a replica. They are printed as long as they live.
    pub(crate) fn replica(&self, replica: &ReplicaKey, service: &ServiceKey) -> Arc<Figures> {
        // Names are made of letters, digits and hyphens: nothing in them needs an escape.
        let ReplicaKey { namespace, name } = replica;
        let labels = format!("namespace=\"{namespace}\",service=\"{}\",replica=\"{name}\"", service.name);
        let figures = Arc::new(Figures::new(labels));
        let mut replicas = self.replicas.lock().unwrap_or_else(PoisonError::into_inner);
        if replicas.by_key.len() >= replicas.sweep_at {
            replicas.by_key.retain(|_, figures| figures.strong_count() > 0);
            replicas.sweep_at = SWEEP_MIN.max(2 * replicas.by_key.len());
        }
        replicas.by_key.insert(replica.clone(), Arc::downgrade(&figures));
        figures
    }

    /// A client has connected, or has left.
    pub(crate) fn connections(&self, change: i64) {
        self.connections.fetch_add(change, Ordering::Relaxed);
    }

    /// A TLS handshake has ended.
    pub(crate) fn handshake(&self, outcome: Handshake) {
        self.handshakes[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Lines of the access log that will not be written.
    pub(crate) fn access_lines_dropped(&self, lines: u64) {
        self.access_lines_dropped.fetch_add(lines, Ordering::Relaxed);
    }

    /// Everything, in Prometheus' text format.
    pub(crate) fn print(&self) -> String {
        let mut text = Text::default();
        self.print_gateway(&mut text);
        self.peers.print(&mut text);
        self.outgoing.print(&mut text);
        let replicas: Vec<Arc<Figures>> = {
            let replicas = self.replicas.lock().unwrap_or_else(PoisonError::into_inner);
            replicas.by_key.values().filter_map(Weak::upgrade).collect()
        };
        print_replicas(&mut text, &replicas);
        text.0
    }

    fn print_gateway(&self, text: &mut Text) {
        let sum = self.gateway.sum();
        text.head("skiff_gateway_responses_total", "counter", "Responses by class of their status.");
        classes(text, "skiff_gateway_responses_total", "", &sum);
        text.head("skiff_gateway_response_seconds", "histogram", "Time from a request's head to its response's.");
        histogram(text, "skiff_gateway_response_seconds", "", &sum);
        text.head("skiff_gateway_errors_total", "counter", "Responses that are the gateway's own, by code.");
        let faults = self.gateway.faults();
        for (code, count) in CODES.iter().zip(&faults.by_code) {
            let count = count.load(Ordering::Relaxed);
            text.line("skiff_gateway_errors_total", format_args!("code=\"{code}\""), count);
        }
        text.single("skiff_gateway_bodies_cut_off_total", "counter", "Response bodies that broke off.", sum.cut_off);
        text.single("skiff_gateway_requests_in_flight", "gauge", "Requests at work or waiting.", sum.in_flight);
        text.single("skiff_gateway_requests_queued", "gauge", "Requests waiting for a replica.", sum.queued);
        let connections = self.connections.load(Ordering::Relaxed);
        text.single("skiff_gateway_connections", "gauge", "Open client connections.", connections);
        text.head("skiff_gateway_handshakes_total", "counter", "TLS handshakes by how they ended.");
        for (outcome, count) in OUTCOMES.iter().zip(&self.handshakes) {
            let count = count.load(Ordering::Relaxed);
            text.line("skiff_gateway_handshakes_total", format_args!("outcome=\"{outcome}\""), count);
        }
        let dropped = self.access_lines_dropped.load(Ordering::Relaxed);
        let name = "skiff_gateway_access_lines_dropped_total";
        text.single(name, "counter", "Lines of the access log that were not written.", dropped);
    }
}

/// Requests from node to node.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    sent: [AtomicU64; ToPeer::NAMES.len()],
    retried: [AtomicU64; Retry::NAMES.len()],
    ejected: AtomicU64,
    connections: AtomicI64,
    served: AtomicU64,
    strangers: AtomicU64,
}

/// What came of a request that was put to another node.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ToPeer {
    Answered,
    /// The node has no replica, or no room.
    Refused,
    /// There was no connection.
    Unreachable,
    /// There was none any more.
    Lost,
}

impl ToPeer {
    const NAMES: [&str; 4] = ["answered", "refused", "unreachable", "lost"];
}

/// Why a request is put to another node after the first.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Retry {
    Elsewhere,
    Unsent,
    Again,
}

impl Retry {
    const NAMES: [&str; 3] = ["refused", "unreachable", "lost"];
}

impl Peers {
    pub(crate) fn sent(&self, to: ToPeer) {
        self.sent[to as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn retried(&self, why: Retry) {
        self.retried[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn ejected(&self) {
        self.ejected.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn peer_connections(&self, change: i64) {
        self.connections.fetch_add(change, Ordering::Relaxed);
    }

    pub(crate) fn served(&self) {
        self.served.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn stranger(&self) {
        self.strangers.fetch_add(1, Ordering::Relaxed);
    }

    fn print(&self, text: &mut Text) {
        text.head("skiff_peer_requests_total", "counter", "Requests put to other nodes.");
        for (outcome, count) in ToPeer::NAMES.iter().zip(&self.sent) {
            let count = count.load(Ordering::Relaxed);
            text.line("skiff_peer_requests_total", format_args!("outcome=\"{outcome}\""), count);
        }
        text.head("skiff_peer_retries_total", "counter", "Requests put to another node after the first.");
        for (why, count) in Retry::NAMES.iter().zip(&self.retried) {
            text.line("skiff_peer_retries_total", format_args!("why=\"{why}\""), count.load(Ordering::Relaxed));
        }
        let ejected = self.ejected.load(Ordering::Relaxed);
        text.single("skiff_peer_ejections_total", "counter", "Times that a node was left alone.", ejected);
        let connections = self.connections.load(Ordering::Relaxed);
        text.single("skiff_peer_connections", "gauge", "Open connections to other nodes.", connections);
        let served = self.served.load(Ordering::Relaxed);
        text.single("skiff_peer_served_total", "counter", "Requests of other nodes.", served);
        let strangers = self.strangers.load(Ordering::Relaxed);
        text.single("skiff_peer_strangers_total", "counter", "Connections that were no node's.", strangers);
    }
}

/// What guests ask of others.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    sent: [AtomicU64; To::NAMES.len()],
    refused: [AtomicU64; Refused::NAMES.len()],
    failed: AtomicU64,
    in_flight: AtomicI64,
    connections: AtomicI64,
}

/// Where a request of a guest goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum To {
    Service,
    Server,
}

impl To {
    const NAMES: [&str; 2] = ["service", "server"];
}

/// Why a request of a guest is not let out.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Refused {
    /// `allow.services` does not name it.
    Service,
    /// The service's `http.callers` does not name the caller.
    Caller,
    /// `allow.http` does not name it.
    Server,
    /// It is at an address that is not granted.
    Address,
    /// It ends in `.internal` and is no service's name.
    Malformed,
    /// The chain of calls is too long.
    Depth,
}

impl Refused {
    const NAMES: [&str; 6] = ["service", "caller", "server", "address", "malformed", "depth"];
}

impl Outgoing {
    pub(crate) fn sent(&self, to: To) {
        self.sent[to as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self, why: Refused) {
        self.refused[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn in_flight(&self, change: i64) {
        self.in_flight.fetch_add(change, Ordering::Relaxed);
    }

    pub(crate) fn connections(&self, change: i64) {
        self.connections.fetch_add(change, Ordering::Relaxed);
    }

    fn print(&self, text: &mut Text) {
        text.head("skiff_outbound_requests_total", "counter", "Requests of guests to services and servers.");
        for (to, count) in To::NAMES.iter().zip(&self.sent) {
            text.line("skiff_outbound_requests_total", format_args!("to=\"{to}\""), count.load(Ordering::Relaxed));
        }
        text.head("skiff_outbound_refused_total", "counter", "Requests of guests that were not let out, by reason.");
        for (why, count) in Refused::NAMES.iter().zip(&self.refused) {
            text.line("skiff_outbound_refused_total", format_args!("why=\"{why}\""), count.load(Ordering::Relaxed));
        }
        let failed = self.failed.load(Ordering::Relaxed);
        text.single("skiff_outbound_failed_total", "counter", "Requests to servers that got no answer.", failed);
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        text.single("skiff_outbound_requests_in_flight", "gauge", "Requests of guests under way.", in_flight);
        let connections = self.connections.load(Ordering::Relaxed);
        text.single("skiff_outbound_connections", "gauge", "Open connections to servers.", connections);
    }
}

/// What is loaded, as it is printed after all else.
pub(crate) fn print_code(code: CodeFigures) -> String {
    let mut text = Text::default();
    text.single("skiff_code_loads_total", "counter", "Components whose code was loaded.", code.loads);
    text.single("skiff_code_evictions_total", "counter", "Components whose code had to go.", code.evictions);
    text.single("skiff_code_loaded", "gauge", "Components whose code is loaded.", code.components);
    text.single("skiff_code_loaded_bytes", "gauge", "What loaded code takes, about.", code.bytes);
    text.0
}

fn print_replicas(text: &mut Text, replicas: &[Arc<Figures>]) {
    let busy = replicas.iter().filter(|replica| replica.shards.iter().any(|shard| shard.get().is_some()));
    let sums: Vec<(&str, Sum)> = busy.map(|replica| (replica.labels.as_str(), replica.sum())).collect();
    text.head("skiff_replica_responses_total", "counter", "A replica's responses by class of their status.");
    for (labels, sum) in &sums {
        classes(text, "skiff_replica_responses_total", labels, sum);
    }
    text.head("skiff_replica_response_seconds", "histogram", "Time from a request's head to its response's.");
    for (labels, sum) in &sums {
        histogram(text, "skiff_replica_response_seconds", labels, sum);
    }
    text.head("skiff_replica_bodies_cut_off_total", "counter", "A replica's response bodies that broke off.");
    for (labels, sum) in &sums {
        text.line("skiff_replica_bodies_cut_off_total", labels, sum.cut_off);
    }
    text.head("skiff_replica_requests_in_flight", "gauge", "Requests at work in a replica.");
    for (labels, sum) in &sums {
        text.line("skiff_replica_requests_in_flight", labels, sum.in_flight);
    }
    text.head("skiff_replica_requests_queued", "gauge", "Requests waiting for a place in a replica.");
    for (labels, sum) in &sums {
        text.line("skiff_replica_requests_queued", labels, sum.queued);
    }
    let used = || replicas.iter().filter_map(|replica| Some((replica.labels.as_str(), replica.usage.get()?)));
    let used = || used().filter(|(_, usage)| usage.started() + usage.reused() > 1);
    text.head("skiff_replica_instances_started_total", "counter", "Instances that a replica started.");
    for (labels, usage) in used() {
        text.line("skiff_replica_instances_started_total", labels, usage.started());
    }
    text.head("skiff_replica_instances_reused_total", "counter", "Requests served by an instance that was kept.");
    for (labels, usage) in used() {
        text.line("skiff_replica_instances_reused_total", labels, usage.reused());
    }
    text.head("skiff_replica_cold_requests_total", "counter", "Requests that waited until code was loaded.");
    for (labels, usage) in used() {
        text.line("skiff_replica_cold_requests_total", labels, usage.cold());
    }
    text.head("skiff_replica_cpu_seconds_total", "counter", "Processor time of a replica's guests.");
    for (labels, usage) in used() {
        let us = u64::try_from(usage.cpu().as_micros()).unwrap_or(u64::MAX);
        text.line("skiff_replica_cpu_seconds_total", labels, Seconds(us));
    }
    text.head("skiff_replica_memory_max_bytes", "gauge", "The most memory that a replica's guests had at once.");
    for (labels, usage) in used() {
        text.line("skiff_replica_memory_max_bytes", labels, usage.memory_bytes_max());
    }
    let faulty = || replicas.iter().filter_map(|replica| Some((replica.labels.as_str(), replica.faults.get()?)));
    text.head("skiff_replica_errors_total", "counter", "Requests that a replica did not answer, by code.");
    for (labels, faults) in faulty() {
        seen(text, "skiff_replica_errors_total", labels, ("code", &CODES, &faults.by_code));
    }
    text.head("skiff_replica_traps_total", "counter", "Guests that trapped, by kind.");
    for (labels, faults) in faulty() {
        seen(text, "skiff_replica_traps_total", labels, ("kind", &TRAPS, &faults.by_trap));
    }
}

fn classes(text: &mut Text, name: &str, labels: &str, sum: &Sum) {
    for (class, count) in (1..).zip(sum.by_class) {
        text.line(name, format_args!("class=\"{class}xx\"{}{labels}", comma(labels)), count);
    }
}

fn histogram(text: &mut Text, name: &str, labels: &str, sum: &Sum) {
    let comma = comma(labels);
    let mut count = 0;
    for (bucket, end) in sum.by_latency.iter().zip(&BUCKETS_US) {
        count += bucket;
        text.part(name, "_bucket", format_args!("le=\"{}\"{comma}{labels}", Seconds(*end)), count);
    }
    count += sum.by_latency[BUCKETS_US.len()];
    text.part(name, "_bucket", format_args!("le=\"+Inf\"{comma}{labels}"), count);
    text.part(name, "_sum", labels, Seconds(sum.latency_us));
    text.part(name, "_count", labels, count);
}

/// Of some labels' values, those that were counted at all.
fn seen(text: &mut Text, name: &str, labels: &str, (label, values, counts): (&str, &[&str], &[AtomicU64])) {
    for (value, count) in values.iter().zip(counts) {
        let count = count.load(Ordering::Relaxed);
        if count > 0 {
            text.line(name, format_args!("{label}=\"{value}\",{labels}"), count);
        }
    }
}

fn comma(labels: &str) -> &'static str {
    if labels.is_empty() { "" } else { "," }
}

/// Microseconds, printed as seconds without needless zeros.
struct Seconds(u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, rest) = (self.0 / 1_000_000, format!("{:06}", self.0 % 1_000_000));
        match rest.trim_end_matches('0') {
            "" => write!(f, "{whole}"),
            rest => write!(f, "{whole}.{rest}"),
        }
    }
}

/// The text so far. Writing to a string cannot fail.
#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: impl Display, value: impl Display) {
        self.part(name, "", labels, value);
    }

    fn part(&mut self, name: &str, part: &str, labels: impl Display, value: impl Display) {
        let _ = write!(self.0, "{name}{part}{{{labels}}}");
        if self.0.ends_with("{}") {
            self.0.truncate(self.0.len() - "{}".len());
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        self.line(name, "", value);
    }
}

fn shard_count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from).min(SHARDS_MAX))
}

/// Threads are numbered as they come to count: neighbours get different shards.
fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

#[cfg(test)]
mod tests;
