//! From names to addresses.

use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Look-ups at once. The system's resolver blocks a thread for each, for up to half a minute where a name server is
/// silent.
const LOOKUPS_MAX: usize = 64;

/// Finds the addresses of a host. Whatever it finds is checked before anything connects there.
#[async_trait]
pub trait Resolve: Debug + Send + Sync {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's resolver: name servers, and the file of hosts.
#[derive(Debug, Clone)]
pub struct SystemNames {
    lookups: Arc<Semaphore>,
}

impl Default for SystemNames {
    fn default() -> Self {
        Self { lookups: Arc::new(Semaphore::new(LOOKUPS_MAX)) }
    }
}

#[async_trait]
impl Resolve for SystemNames {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        // Nobody closes the semaphore.
        let permit = self.lookups.clone().acquire_owned().await.map_err(io::Error::other)?;
        let host = host.to_owned();
        let found = spawn_blocking(move || {
            // The thread is busy for as long as the look-up takes, also when nobody waits any more.
            let _permit = permit;
            (host.as_str(), 0).to_socket_addrs().map(|found| found.map(|addr| addr.ip()).collect())
        });
        found.await.map_err(io::Error::other)?
    }
}
