//! Putting a request to another node, and to the next one where that is safe.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{EXPECT, HOST};
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{Extensions, HeaderValue, Request, Uri, Version, response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use skiff_api::id::ServiceKey;
use tokio::time::{Instant, timeout};

use super::super::answer::{ERROR_HEADER, Refusal};
use super::super::serve::Shared;
use super::super::upgrade::{UPGRADE_HEADER, Upgrade, from_node};
use super::hop::{HOP_HEADER, Hop, Verdict};
use super::pool::{Peer, Stream, now_ms};
use super::remote::{Choice, Going, Remote, choose};
use super::tape::{PeerBody, Tape};
use crate::capabilities::Chain;
use crate::metrics::{Retry, ToPeer};
use crate::sandbox::Failure;

/// Nodes that a request is put to. More would mean that nobody knows where the service is.
const TRIES_MAX: usize = 8;
/// Kept connections that turn out to have ended; then a node counts as one that cannot be reached.
const STALE_MAX: usize = 2;
/// How long a request waits to hear where its service has gone: the control plane tells within milliseconds.
const ROUTES_WAIT_MAX: Duration = Duration::from_secs(1);

/// Codes of answers that say something about a node, and not about the request.
const FAULTS: [&str; 4] = ["code-unavailable", "instances-exhausted", "node-memory", "sandbox-failure"];

/// What is asked for.
#[derive(Clone, Copy)]
pub(in super::super) struct Order<'o> {
    pub(in super::super) service: &'o ServiceKey,
    /// Who calls; nobody where a client outside asks.
    pub(in super::super) chain: &'o Chain,
    pub(in super::super) started: Instant,
    /// There are replicas here, and they are full.
    pub(in super::super) is_full_here: bool,
}

/// The answer of another node, whose body is yet to come.
pub(in super::super) struct Passed {
    pub(in super::super) head: response::Parts,
    pub(in super::super) body: Arrives,
    pub(in super::super) remote: Arc<Remote>,
}

/// The body of another node's answer. The request counts as under way there until it is dropped.
pub(in super::super) struct Arrives {
    pub(in super::super) incoming: Incoming,
    _stream: Stream,
    _going: Going,
}

/// Why there is no answer.
pub(in super::super) enum NotSent {
    /// There is a replica on this node by now.
    Here,
    Refused(Refusal),
    NotACaller,
}

/// What came of one try.
enum Tried {
    Answered(Passed),
    /// Nothing of it was begun there.
    Elsewhere(Verdict),
    /// It was not sent: its connection had ended.
    Stale,
    /// It was not sent.
    Unsent,
    /// It was sent, and nothing came back.
    Lost,
}

/// Puts a request, whose head is as a guest may see it, to nodes that have the service.
pub(in super::super) async fn send(
    shared: &Shared,
    order: Order<'_>,
    head: &Parts,
    tape: &Tape,
) -> Result<Passed, NotSent> {
    let Some(peers) = &shared.peers else { return Err(NotSent::Refused(Refusal::NoReplica(order.service.clone()))) };
    let metrics = &shared.metrics.peers;
    peers.budget.add();
    let (mut tried, mut verdict, mut has_waited): (Vec<Arc<Peer>>, _, _) = (Vec::new(), None, false);
    let mut stale = 0;
    for number in 0..TRIES_MAX {
        let changed = shared.rerouted.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let choice = {
            let services = shared.services.load();
            let backend = services.get(order.service).map(|callee| &callee.backend);
            if number > 0 && !order.is_full_here && backend.is_some_and(|backend| backend.is_here()) {
                return Err(NotSent::Here);
            }
            backend.and_then(|backend| choose(backend.remotes(), &tried))
        };
        let Some(choice) = choice else {
            // Its last replica stopped a moment ago: where the next one is will be told.
            if verdict == Some(Verdict::Gone) && !std::mem::replace(&mut has_waited, true) {
                let _ = timeout(ROUTES_WAIT_MAX, changed).await;
                tried.clear();
                continue;
            }
            break;
        };
        // A client whose body broke off, or a body that is too long to be sent again.
        let Some(body) = tape.copy() else { break };
        match attempt(order, head, body, &choice).await? {
            Tried::Answered(passed) => {
                metrics.sent(ToPeer::Answered);
                return Ok(passed);
            }
            Tried::Elsewhere(Verdict::NotACaller) => {
                metrics.sent(ToPeer::Refused);
                return Err(NotSent::NotACaller);
            }
            Tried::Elsewhere(said) => {
                metrics.sent(ToPeer::Refused);
                verdict = Some(said);
                if said == Verdict::Full && !peers.budget.take(now_ms()) {
                    break;
                }
                metrics.retried(Retry::Elsewhere);
            }
            Tried::Stale if stale < STALE_MAX => {
                stale += 1;
                continue;
            }
            Tried::Stale | Tried::Unsent => {
                metrics.sent(ToPeer::Unreachable);
                metrics.retried(Retry::Unsent);
            }
            Tried::Lost if tape.is_broken() => {
                let why = "the request's body ended early".to_owned();
                return Err(NotSent::Refused(Refusal::Guest(Failure::BadRequest { why })));
            }
            Tried::Lost => {
                metrics.sent(ToPeer::Lost);
                if !head.method.is_idempotent() || !tape.can_restart() || !peers.budget.take(now_ms()) {
                    return Err(NotSent::Refused(Refusal::PeerLost(order.service.clone())));
                }
                metrics.retried(Retry::Again);
            }
        }
        tried.push(choice.remote.peer.clone());
    }
    let service = order.service.clone();
    Err(NotSent::Refused(match verdict {
        Some(Verdict::Full) => Refusal::QueueFull(service),
        _ if order.is_full_here => Refusal::QueueFull(service),
        _ => Refusal::NoReplica(service),
    }))
}

async fn attempt(order: Order<'_>, head: &Parts, body: PeerBody, choice: &Choice) -> Result<Tried, NotSent> {
    let Choice { remote, is_trial } = choice;
    let peer = &remote.peer;
    let mut lease = match peer.lease().await {
        Ok(lease) => lease,
        Err(error) => {
            peer.failed(&error, *is_trial);
            return Ok(Tried::Unsent);
        }
    };
    let going = remote.go();
    let request = request(order, head, body).map_err(NotSent::Refused)?;
    let (mut head, incoming) = match lease.sender.try_send_request(request).await {
        Ok(response) => response.into_parts(),
        Err(error) => return Ok(failed(peer, error, *is_trial)),
    };
    peer.health.succeeded();
    if let Some(verdict) = Verdict::take(&mut head.headers) {
        if verdict == Verdict::Gone {
            remote.load.health.avoid(now_ms());
        }
        return Ok(Tried::Elsewhere(verdict));
    }
    let is_fault = |code: &HeaderValue| FAULTS.iter().any(|fault| code.as_bytes() == fault.as_bytes());
    match head.headers.get(ERROR_HEADER).is_some_and(is_fault) {
        true => _ = remote.load.health.faulted(now_ms()),
        false => remote.load.health.succeeded(),
    }
    from_node(&mut head);
    let body = Arrives { incoming, _stream: lease.stream, _going: going };
    Ok(Tried::Answered(Passed { head, body, remote: remote.clone() }))
}

/// The connection did not bring an answer.
fn failed(peer: &Peer, mut error: TrySendError<Request<PeerBody>>, is_trial: bool) -> Tried {
    if error.take_message().is_some() {
        return Tried::Stale;
    }
    let error = error.error();
    match stream_error(error) {
        // Of this stream alone: the node cut it off, or its own body broke off.
        Some(h2) if h2.is_reset() && h2.reason() == Some(h2::Reason::REFUSED_STREAM) => Tried::Unsent,
        Some(h2) if h2.is_reset() => Tried::Lost,
        // What comes after the last one that the node has taken is not begun.
        Some(h2) if h2.is_go_away() && h2.is_remote() => Tried::Stale,
        _ => {
            peer.failed(error, is_trial);
            Tried::Lost
        }
    }
}

fn stream_error(error: &hyper::Error) -> Option<&h2::Error> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(h2) = error.downcast_ref::<h2::Error>() {
            return Some(h2);
        }
        cause = error.source();
    }
    None
}

/// The request as it is sent.
fn request(order: Order<'_>, head: &Parts, body: PeerBody) -> Result<Request<PeerBody>, Refusal> {
    let mut parts = head.clone();
    if let Some(Upgrade(protocol)) = head.extensions.get::<Upgrade>() {
        parts.headers.insert(UPGRADE_HEADER, protocol.clone());
    }
    parts.extensions = Extensions::new();
    parts.version = Version::HTTP_2;
    // The client is told to go on by this node, as soon as the other one reads.
    parts.headers.remove(EXPECT);
    let hop = Hop::new(order.service.clone(), order.started.elapsed(), order.chain);
    let hop = hop.value().ok_or(Refusal::BadHost("the service's name is none"))?;
    parts.headers.insert(HOP_HEADER, hop);
    parts.uri = absolute(parts.uri, parts.headers.get(HOST))?;
    Ok(Request::from_parts(parts, body))
}

/// HTTP/2 says all of it in one place.
fn absolute(uri: Uri, host: Option<&HeaderValue>) -> Result<Uri, Refusal> {
    let mut uri = uri.into_parts();
    if uri.authority.is_none() {
        let host = host.map_or(&b"localhost"[..], HeaderValue::as_bytes);
        let authority = Authority::try_from(host).map_err(|_| Refusal::BadHost("the Host header is not a host"))?;
        uri.authority = Some(authority);
    }
    uri.scheme = uri.scheme.or(Some(Scheme::HTTP));
    Uri::from_parts(uri).map_err(|_| Refusal::BadTarget)
}

/// The pieces of a body are passed on as they come.
impl Arrives {
    pub(in super::super) async fn next(&mut self) -> Option<Result<http_body::Frame<Bytes>, hyper::Error>> {
        http_body_util::BodyExt::frame(&mut self.incoming).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_says_what_it_is_for_in_one_place() {
        let seen = |uri: &str, host: Option<&str>| {
            let host = host.map(|host| HeaderValue::from_str(host).unwrap());
            absolute(uri.parse().unwrap(), host.as_ref()).map(|uri| uri.to_string()).ok()
        };
        assert_eq!(seen("/a?b", Some("shop.example:8080")).as_deref(), Some("http://shop.example:8080/a?b"));
        assert_eq!(seen("https://shop.example/a", Some("other")).as_deref(), Some("https://shop.example/a"));
        assert_eq!(seen("/a", None).as_deref(), Some("http://localhost/a"));
        assert_eq!(seen("/a", Some("a:b:c")), None);
        assert!(absolute(Uri::from_static("*"), None).is_ok_and(|uri| uri.path() == "*"));
    }
}
