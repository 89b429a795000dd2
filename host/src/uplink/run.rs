//! The loops that keep a node in touch.
//!
//! ```text
//! Uplink::run ─┬─ control: dial ── Hello … ── end ── pause ──┐ until the cluster removes the node
//!              │    '─ bulk: dial ── lines … ── end ── pause │ while control is up
//!              └─ upkeep: every few hours: the time, and the certificate if it is due
//! ```
//! Neither loop ends because of what the network or a control plane does. A link that is ended as soon as it is made was
//! refused: the node then asks why, since only the answer to a question can say so, and dials more slowly.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use rustls::ClientConfig;
use skiff_api::client;
use skiff_api::wire::{FromNode, ToNode};
use skiff_link::pump::{self, End};
use skiff_link::tls;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use tokio_rustls::client::TlsStream;

use super::credentials::Credentials;
use super::dial::dial;
use super::member::{Member, Membership};
use super::pause::{Pause, STEADY, chance};
use super::renew::{RenewError, renew};
use crate::node::NodeHandle;
use crate::reconcile::chain;
use crate::state::StateError;

/// How often the time is stored, and the certificate looked at: of its hundred days a third is left when it is due.
const UPKEEP: Duration = Duration::from_secs(6 * 60 * 60);
/// A renewal that failed is tried again so often, for the weeks that are left.
const RENEW_AGAIN: Duration = Duration::from_secs(10 * 60);
/// Whoever is refused asks why at most so often.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// So many sudden ends in a row are a refusal. Fewer are not: a node that was killed and is back may meet its own old link,
/// which the control plane misses within a second.
const REFUSED_AFTER: u32 = 2;
/// Log messages on their way to the connection that carries them.
const LINES_MAX: usize = 4;

/// The cluster has removed this node. It must not serve any more, and has noted so on its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the cluster has removed this node")]
pub struct Removed;

#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    #[error("failed to use the node's certificate")]
    Identity(#[from] skiff_link::Error),
}

/// A node's way to its control plane.
#[derive(Debug)]
pub struct Uplink {
    member: Member,
    membership: Membership,
    credentials: Credentials,
    control: Arc<ClientConfig>,
    bulk: Arc<ClientConfig>,
    /// A link is up: the control plane's certificate agrees with this machine's clock.
    is_linked: AtomicBool,
    linked: Notify,
}

/// What came of asking for a certificate.
enum Renewal {
    Done,
    /// There would be one, and the present one is good for long.
    NotDue,
}

/// When to dial again.
enum Next {
    Again,
    Slow,
}

impl Uplink {
    /// `credentials` are the member's.
    pub fn new(member: Member, membership: Membership, credentials: Credentials) -> Result<Self, UplinkError> {
        let control = Arc::new(credentials.client(&[tls::ALPN_CONTROL])?);
        let bulk = Arc::new(credentials.client(&[tls::ALPN_BULK])?);
        let (is_linked, linked) = (AtomicBool::new(false), Notify::new());
        Ok(Self { member, membership, credentials, control, bulk, is_linked, linked })
    }

    /// Keeps the node in touch for as long as it is polled.
    pub async fn run(self, node: Arc<NodeHandle>) -> Removed {
        tokio::select! {
            removed = self.control(&node) => removed,
            removed = self.upkeep() => removed,
        }
    }

    async fn control(&self, node: &NodeHandle) -> Removed {
        let (mut pause, mut said) = (Pause::new(), String::new());
        let (mut asked, mut sudden) = (None, 0);
        loop {
            match dial(&self.member.server, &self.control).await {
                Ok(stream) => {
                    let began = Instant::now();
                    let end = self.linked(node, stream).await;
                    let lived = began.elapsed();
                    if lived >= STEADY {
                        said.clear();
                        pause.reset();
                    }
                    let is_sudden = lived < STEADY && matches!(end, End::PeerClosed | End::Broken(_));
                    sudden = if is_sudden { sudden + 1 } else { 0 };
                    report(&mut said, format!("the link to the control plane ended: {end}"));
                }
                Err(error) => {
                    sudden = 0;
                    report(&mut said, error.to_string());
                }
            }
            // An expired certificate ends no handshake that could say so.
            let is_expired = self.credentials.clock().now() >= self.credentials.identity().not_after();
            if sudden >= REFUSED_AFTER || is_expired {
                match self.ask_why(&mut asked).await {
                    Err(removed) => return removed,
                    Ok(Next::Slow) => pause.slow(),
                    Ok(Next::Again) => pause.reset(),
                }
            }
            sleep(pause.take(chance())).await;
        }
    }

    /// One link, from the node's hello to its end.
    async fn linked(&self, node: &NodeHandle, stream: TlsStream<TcpStream>) -> End {
        let from = stream.get_ref().0.local_addr().ok().map(|addr| addr.ip());
        let peer = node.link_from(from);
        tracing::info!(server = %self.member.server, "linked to the control plane");
        self.is_linked.store(true, Ordering::Relaxed);
        self.linked.notify_one();
        let end = tokio::select! {
            end = pump::run(stream, peer.from_node, peer.to_node, pump::Options::of_node()) => end,
            never = self.bulk(peer.bulk) => match never {},
        };
        self.is_linked.store(false, Ordering::Relaxed);
        end
    }

    /// Carries log lines for as long as control is up. Lines that were on their way when a connection broke are lost, and
    /// with them the answers that they belonged to: the control plane ends those.
    async fn bulk(&self, mut lines: mpsc::Receiver<FromNode>) -> Infallible {
        let (mut pause, mut said) = (Pause::new(), String::new());
        loop {
            match dial(&self.member.server, &self.bulk).await {
                Ok(stream) => {
                    said.clear();
                    let began = Instant::now();
                    let (to_pump, outbox) = mpsc::channel(LINES_MAX);
                    let (inbox, mut from_pump) = mpsc::channel::<ToNode>(1);
                    let end = tokio::select! {
                        end = pump::run(stream, outbox, inbox, pump::Options::of_node()) => end.to_string(),
                        never = feed(&mut lines, &to_pump) => match never {},
                        Some(_) = from_pump.recv() => "the control plane spoke where it only listens".to_owned(),
                    };
                    if began.elapsed() >= STEADY {
                        pause.reset();
                    }
                    tracing::debug!(end, "the connection for logs ended; dialling again");
                }
                Err(error) => report(&mut said, format!("logs cannot be read from here: {error}")),
            }
            sleep(pause.take(chance())).await;
        }
    }

    async fn upkeep(&self) -> Removed {
        let mut stored = Timestamp::UNIX_EPOCH;
        loop {
            let now = self.credentials.clock().now();
            // Only a time that a control plane agrees with: a clock that runs ahead for a moment must not be kept.
            if self.is_linked.load(Ordering::Relaxed) && now.duration_since(stored).unsigned_abs() >= UPKEEP {
                stored = now;
                let membership = self.membership.clone();
                keep("the time", move || membership.write_time(now)).await;
            }
            let wait = match now >= self.credentials.identity().renew_at() {
                false => UPKEEP,
                true => match self.renew().await {
                    Ok(_) => UPKEEP,
                    Err(RenewError::Removed) => return self.removed().await,
                    Err(error) => {
                        tracing::warn!(error = chain(&error), "the node's certificate is not renewed yet");
                        RENEW_AGAIN
                    }
                },
            };
            tokio::select! {
                () = sleep(wait) => {}
                () = self.linked.notified() => {}
            }
        }
    }

    /// Asks the control plane what it has against this node, now and then.
    async fn ask_why(&self, asked: &mut Option<Instant>) -> Result<Next, Removed> {
        if asked.is_some_and(|asked| asked.elapsed() < ASK_AGAIN) {
            return Ok(Next::Slow);
        }
        *asked = Some(Instant::now());
        match self.renew().await {
            Ok(Renewal::Done) => return Ok(Next::Again),
            Ok(Renewal::NotDue) => tracing::warn!(
                "the control plane knows this node, but ends its link (hint: does another machine run on a copy of this data folder? the control plane's log says)"
            ),
            Err(RenewError::Removed) => return Err(self.removed().await),
            Err(RenewError::Call(client::Error::Problem(problem))) => {
                tracing::warn!(%problem, "the control plane refuses this node");
            }
            // It is away, and was asked nothing.
            Err(_) => *asked = None,
        }
        Ok(Next::Slow)
    }

    /// Fetches the next certificate, and takes it into use if it is time. It is on the disk first.
    async fn renew(&self) -> Result<Renewal, RenewError> {
        let identity = renew(&self.member.server, &self.credentials).await?;
        if self.credentials.clock().now() < self.credentials.identity().renew_at() {
            return Ok(Renewal::NotDue);
        }
        let until = identity.not_after();
        let (membership, member) =
            (self.membership.clone(), Member { identity: identity.clone(), ..self.member.clone() });
        keep("the certificate", move || membership.write(&member)).await;
        self.credentials.replace(identity)?;
        tracing::info!(%until, "the node's certificate is renewed");
        Ok(Renewal::Done)
    }

    /// Notes that the node has no place in the cluster any more.
    async fn removed(&self) -> Removed {
        let (membership, member) = (self.membership.clone(), Member { removed: true, ..self.member.clone() });
        keep("the node's removal", move || membership.write(&member)).await;
        Removed
    }
}

/// Passes lines on until the connection ends.
async fn feed(lines: &mut mpsc::Receiver<FromNode>, to_pump: &mpsc::Sender<FromNode>) -> Infallible {
    while let Some(message) = lines.recv().await {
        if to_pump.send(message).await.is_err() {
            break;
        }
    }
    // The pump ends next, or the link does.
    std::future::pending().await
}

/// Writes something that the node can go on without.
async fn keep(what: &'static str, write: impl FnOnce() -> Result<(), StateError> + Send + 'static) {
    match spawn_blocking(write).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(error = chain(&error), what, "failed to keep it"),
        Err(error) => tracing::error!(%error, what, "failed to keep it"),
    }
}

/// Says what keeps the node from its control plane, once: it may be away for days.
fn report(said: &mut String, text: String) {
    if *said == text {
        return;
    }
    tracing::warn!("{text}; the node goes on with what it has, and dials again");
    *said = text;
}
