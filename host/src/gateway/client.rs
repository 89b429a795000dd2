//! Whom a connection is from, and what its requests share.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use http::HeaderValue;
use http::uri::Scheme;
use skiff_api::id::Uid;

use super::leash::Leash;
use super::listen::Door;
use super::serve::Shared;
use super::upgrade::Upgraded;

/// Made once for each connection, so that its requests need not: nothing of it is shared with other threads.
pub(super) struct Client {
    pub(super) shared: Arc<Shared>,
    pub(super) addr: IpAddr,
    /// The address as `x-forwarded-for` has it.
    pub(super) forwarded_for: HeaderValue,
    pub(super) scheme: Scheme,
    /// Where clients of plain HTTP are sent, if anywhere: the port of TLS.
    pub(super) redirect_port: Option<u16>,
    /// Another node of the cluster, which passes requests on.
    pub(super) node: Option<Uid>,
    /// Of the connection's one answer, if it speaks HTTP/1.1.
    pub(super) leash: Arc<Leash>,
    /// What the connection goes on with in another protocol.
    pub(super) upgraded: Upgraded,
    /// Requests whose answer has not gone.
    requests: AtomicUsize,
    /// Requests so far.
    begun: AtomicU64,
}

impl Client {
    pub(super) fn new(shared: Arc<Shared>, addr: IpAddr, door: &Door) -> Self {
        let addr = addr.to_canonical();
        // An address is made of digits, letters, colons and dots.
        let forwarded_for =
            HeaderValue::from_str(&addr.to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        shared.metrics.connections(1);
        let (scheme, redirect_port) = match door {
            Door::Plain { redirect_port } => (Scheme::HTTP, *redirect_port),
            Door::Tls(_) | Door::Peer(_) => (Scheme::HTTPS, None),
        };
        Self {
            shared,
            addr,
            forwarded_for,
            scheme,
            redirect_port,
            node: None,
            leash: Arc::default(),
            upgraded: Upgraded::default(),
            requests: AtomicUsize::new(0),
            begun: AtomicU64::new(0),
        }
    }

    pub(super) fn request_begins(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn request_ended(&self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether it waits for an answer, or gets one.
    pub(super) fn is_served(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0
    }

    /// How many requests it has sent.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.metrics.connections(-1);
    }
}
