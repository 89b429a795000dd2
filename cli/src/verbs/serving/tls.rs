//! The server's port: one handshake, and then what the two agreed on.
//!
//! ```text
//!   TLS 1.3 ──┬── http/1.1, h2        API /v1, registry /v2, joining and renewing
//!             ├── skiff-control/1     a node's link: its certificate says which node it is
//!             └── skiff-bulk/1        what is large of the same node
//! ```
//! A node's certificate also pulls from the registry, whatever image: the control plane decides what it runs. It does
//! nothing else there, and nothing in the API.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper_util::server::graceful::Watcher;
use rustls::ServerConfig;
use skiff_api::Uid;
use skiff_link::{Authority, Clock, Peer, pump, tls};
use skiff_scheduler::ControlPlane;
use skiff_scheduler::fleet::Gate;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::api::{Http, Version};
use super::certificate::Certificate;
use crate::exit::{Exit, Failure};

/// How long a handshake may take. It is two round trips.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Links of one node at once: two, and those that were not missed yet.
const LINKS_OF_NODE_MAX: usize = 8;
/// Where the registry is.
const REGISTRY: &str = "/v2/";

/// Shakes hands with whoever connects.
pub(in crate::verbs) struct TlsDoor {
    acceptor: TlsAcceptor,
    /// Weak: a control plane stops when whoever started it lets go of it.
    plane: Weak<ControlPlane>,
    gate: Gate,
    clock: Arc<Clock>,
    /// What the registry knows a node by.
    pulls: HeaderValue,
    seats: Arc<Seats>,
}

/// What a door stands on.
pub(in crate::verbs) struct TlsDoorOptions {
    pub(in crate::verbs) authority: Arc<Authority>,
    pub(in crate::verbs) clock: Arc<Clock>,
    /// The names and addresses that the control plane is reached by.
    pub(in crate::verbs) hosts: Vec<String>,
    pub(in crate::verbs) plane: Weak<ControlPlane>,
    pub(in crate::verbs) gate: Gate,
    /// The registry's token for nodes.
    pub(in crate::verbs) pulls: String,
}

impl TlsDoor {
    pub(in crate::verbs) fn new(options: TlsDoorOptions) -> Result<Self, Failure> {
        let TlsDoorOptions { authority, clock, hosts, plane, gate, pulls } = options;
        let config = config(&authority, &clock, hosts);
        let config = config.map_err(|error| Failure::new(Exit::Invalid, error).during("failed to set up TLS"))?;
        let mut pulls =
            HeaderValue::try_from(format!("Bearer {pulls}")).map_err(|error| Failure::new(Exit::Internal, error))?;
        pulls.set_sensitive(true);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Self { acceptor, plane, gate, clock, pulls, seats: Arc::default() })
    }

    /// Serves one connection to its end.
    pub(super) async fn answer(
        self: Arc<Self>,
        stream: TcpStream,
        place: OwnedSemaphorePermit,
        http: Http,
        watcher: Watcher,
    ) {
        // Each part has a place of its own in memory, given back when it is over: a link lives for months, and there are
        // thousands.
        let shaken = Box::pin(tokio::time::timeout(HANDSHAKE_TIMEOUT, self.acceptor.accept(stream))).await;
        let Ok(Ok(stream)) = shaken else { return };
        let connection = stream.get_ref().1;
        let (peer, alpn) = (Peer::of(connection), connection.alpn_protocol().map(<[u8]>::to_vec));
        match alpn.as_deref() {
            Some(alpn @ (tls::ALPN_CONTROL | tls::ALPN_BULK)) => {
                let is_control = alpn == tls::ALPN_CONTROL;
                // It is a node's, which is bounded otherwise: whoever else connects has the place.
                if let Some((peer, _seat)) = self.seat(peer) {
                    drop((place, watcher));
                    Box::pin(self.link(stream, peer, is_control)).await;
                }
            }
            alpn => {
                let version = if alpn == Some(tls::ALPN_H2) { Version::Http2 } else { Version::Http1 };
                let guest = peer.map(|peer| Guest { peer, door: Arc::clone(&self) });
                Box::pin(http.serve(stream, version, guest, watcher)).await;
                drop(place);
            }
        }
    }

    /// A node that may link.
    fn seat(&self, peer: Option<Peer>) -> Option<(Peer, Seat)> {
        let peer = peer?;
        if let Err(why) = self.gate.admit(&peer, self.clock.now()) {
            tracing::warn!(uid = %peer.uid, %why, "refused a node's link");
            return None;
        }
        let seat = self.seats.take(&peer.uid);
        if seat.is_none() {
            tracing::warn!(uid = %peer.uid, "refused a node's link: it has too many");
        }
        Some((peer, seat?))
    }

    async fn link(&self, stream: TlsStream<TcpStream>, peer: Peer, is_control: bool) {
        let Some(plane) = self.plane.upgrade() else { return };
        let link = match is_control {
            true => plane.connect_certified(peer.uid.clone()),
            false => plane.connect_bulk(peer.uid.clone()),
        };
        drop(plane);
        let options = pump::Options::of_control_plane();
        tokio::select! {
            end = pump::run(stream, link.from_control, link.to_control, options) => {
                tracing::info!(uid = %peer.uid, is_control, why = %end, "a node's link ended");
            }
            () = self.gate.revoked(&peer.uid) => tracing::info!(uid = %peer.uid, "the node was removed: its link ends"),
        }
    }
}

fn config(
    authority: &Arc<Authority>,
    clock: &Arc<Clock>,
    hosts: Vec<String>,
) -> Result<ServerConfig, skiff_link::Error> {
    let certificate = Certificate::new(Arc::clone(authority), Arc::clone(clock), hosts)?;
    let alpn = [tls::ALPN_CONTROL, tls::ALPN_BULK, tls::ALPN_H2, tls::ALPN_H1];
    tls::server_with(Arc::new(certificate), &authority.ca_pem(), tls::Clients::Optional, &alpn, clock)
}

/// A node that speaks HTTP.
pub(super) struct Guest {
    peer: Peer,
    door: Arc<TlsDoor>,
}

impl Guest {
    /// Says in a request who sent it.
    pub(super) fn introduce(&self, request: &mut Request<Incoming>) {
        let is_pull = request.uri().path().starts_with(REGISTRY) && !request.headers().contains_key(AUTHORIZATION);
        // Asked for each request: a connection may be older than a removal.
        if is_pull && self.door.gate.admit(&self.peer, self.door.clock.now()).is_ok() {
            request.headers_mut().insert(AUTHORIZATION, self.door.pulls.clone());
        }
        request.extensions_mut().insert(self.peer.clone());
    }
}

/// How many links each node has.
#[derive(Debug, Default)]
struct Seats(Mutex<HashMap<Uid, usize>>);

impl Seats {
    fn take(self: &Arc<Self>, uid: &Uid) -> Option<Seat> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(uid.clone()).or_default();
        if *count >= LINKS_OF_NODE_MAX {
            return None;
        }
        *count += 1;
        Some(Seat { seats: Arc::clone(self), uid: uid.clone() })
    }
}

/// A link's place among those of its node, until it is dropped.
#[derive(Debug)]
struct Seat {
    seats: Arc<Seats>,
    uid: Uid,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.uid) {
            Some(count) if *count > 1 => *count -= 1,
            _ => _ = taken.remove(&self.uid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_has_only_so_many_links_and_others_have_theirs() {
        let seats = Arc::new(Seats::default());
        let (a, b) = (Uid::new("a"), Uid::new("b"));
        let mut taken: Vec<_> = (0..LINKS_OF_NODE_MAX).map(|_| seats.take(&a).unwrap()).collect();
        assert!(seats.take(&a).is_none());
        let other = seats.take(&b).unwrap();
        taken.pop();
        taken.push(seats.take(&a).unwrap());
        drop((taken, other));
        assert!(seats.0.lock().unwrap().is_empty());
    }
}
