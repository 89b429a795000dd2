//! Handshakes, with the certificates that are on disk now.

use std::error::Error as _;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::chooser::Chooser;
use super::pair::{PairFiles, Stamp};

/// Handshakes at once. Each may cost a millisecond of processor time and some 50 KiB; more clients wait in the kernel's
/// queue, so that whoever stalls cannot take the connections of those who are through.
pub(in super::super) const HANDSHAKES_MAX: usize = 512;
/// A handshake is two round trips: this allows for the slowest link, and for lost packets.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How soon a renewed certificate is seen, and how often at most the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Sets up TLS for accepted connections.
pub(in super::super) struct Tls {
    acceptor: TlsAcceptor,
    resolver: Arc<Resolver>,
    provider: Arc<CryptoProvider>,
    first: PairFiles,
    others: Vec<PairFiles>,
    /// What was read last, whether it was good or not: a fault is logged once.
    seen: Mutex<Vec<Stamp>>,
    born: Instant,
    /// When the files were looked at, in milliseconds since `born`.
    looked_ms: AtomicU64,
}

/// How a handshake ended without a connection.
#[derive(Debug)]
pub(in super::super) enum NoHandshake {
    Failed(io::Error),
    TooSlow,
}

#[derive(Debug)]
struct Resolver(ArcSwap<Chooser>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load().choose(hello.server_name()))
    }
}

impl Tls {
    /// Reads the pairs, the first of which is for clients that name no host. Blocks.
    pub(in super::super) fn new(first: PairFiles, others: Vec<PairFiles>) -> Result<Self, super::super::Error> {
        use super::super::Error;
        let provider = Arc::new(ring::default_provider());
        // Before they are read: what changes meanwhile is read again.
        let seen = stamps(&first, &others);
        let chooser = Chooser::read(&first, &others, &provider).map_err(Error::Certificate)?;
        let resolver = Arc::new(Resolver(ArcSwap::from_pointee(chooser)));
        let mut config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(Error::Tls)?
            .with_no_client_auth()
            .with_cert_resolver(resolver.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // A client that comes back saves a round trip and a signature, and costs no memory here meanwhile.
        config.ticketer = ring::Ticketer::new().map_err(Error::Tls)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (seen, looked_ms) = (Mutex::new(seen), AtomicU64::new(0));
        Ok(Self { acceptor, resolver, provider, first, others, seen, born: Instant::now(), looked_ms })
    }

    /// A handshake, with the certificates that are on disk now.
    pub(in super::super) async fn accept<S>(self: &Arc<Self>, stream: S) -> Result<TlsStream<S>, NoHandshake>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let accepted = tokio::time::timeout(HANDSHAKE_MAX, async {
            self.refresh().await;
            self.acceptor.accept(stream).await
        });
        accepted.await.map_err(|_| NoHandshake::TooSlow)?.map_err(NoHandshake::Failed)
    }

    /// Reads what changed, if nobody has looked for a while.
    async fn refresh(self: &Arc<Self>) {
        let now_ms = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        let looked_ms = self.looked_ms.load(Ordering::Relaxed);
        let is_due = now_ms.saturating_sub(looked_ms) >= LOOK_EVERY.as_millis() as u64;
        let claim = || self.looked_ms.compare_exchange(looked_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed);
        if is_due && claim().is_ok() {
            let tls = self.clone();
            // Fails when the node stops.
            drop(tokio::task::spawn_blocking(move || tls.look()).await);
        }
    }

    fn look(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = stamps(&self.first, &self.others);
        if *seen == stamps {
            return;
        }
        *seen = stamps;
        match Chooser::read(&self.first, &self.others, &self.provider) {
            Ok(chooser) => {
                self.resolver.0.store(Arc::new(chooser));
                tracing::info!("new certificates are served");
            }
            Err(error) => {
                let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
                tracing::error!("certificates changed on disk, the earlier ones are still served: {error}{cause}");
            }
        }
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("first", &self.first).field("others", &self.others).finish_non_exhaustive()
    }
}

fn stamps(first: &PairFiles, others: &[PairFiles]) -> Vec<Stamp> {
    std::iter::once(first).chain(others).map(PairFiles::stamp).collect()
}
