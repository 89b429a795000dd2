//! The control plane's own certificate: of a key that lives as long as the process, and issued again in time.
//!
//! Whether it is time is asked when somebody connects: no timer wakes an idle server.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use skiff_link::authority::SERVER_VALIDITY;
use skiff_link::{Authority, Clock, Key, tls};

/// Issues and keeps the control plane's certificate.
pub(super) struct Certificate {
    authority: Arc<Authority>,
    clock: Arc<Clock>,
    key: Key,
    hosts: Vec<String>,
    current: Mutex<(Arc<CertifiedKey>, Timestamp)>,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

impl Certificate {
    /// `hosts` are the names and addresses that the control plane is reached by.
    pub(super) fn new(
        authority: Arc<Authority>,
        clock: Arc<Clock>,
        hosts: Vec<String>,
    ) -> Result<Self, skiff_link::Error> {
        let key = Key::generate()?;
        let current = Mutex::new(issue(&authority, &key, &hosts, clock.now())?);
        Ok(Self { authority, clock, key, hosts, current })
    }

    fn current(&self) -> Arc<CertifiedKey> {
        let now = self.clock.now();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let left = current.1.duration_since(now);
        if left < SERVER_VALIDITY / 3 {
            match issue(&self.authority, &self.key, &self.hosts, now) {
                Ok(next) => *current = next,
                // The one that is there is good for a while.
                Err(error) => tracing::error!(%error, "failed to renew the control plane's certificate"),
            }
        }
        Arc::clone(&current.0)
    }
}

fn issue(
    authority: &Authority,
    key: &Key,
    hosts: &[String],
    now: Timestamp,
) -> Result<(Arc<CertifiedKey>, Timestamp), skiff_link::Error> {
    let identity = authority.issue_server(key, hosts, now)?;
    Ok((Arc::new(tls::certified(&identity)?), identity.not_after()))
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_issued_again_before_it_ends() {
        let clock = Clock::new(Timestamp::UNIX_EPOCH);
        let authority = Arc::new(Authority::generate(clock.now()).unwrap());
        let certificate = Certificate::new(authority, Arc::clone(&clock), vec!["localhost".to_owned()]).unwrap();
        let first = certificate.current();
        assert!(Arc::ptr_eq(&first, &certificate.current()));
        clock.raise(clock.now() + SERVER_VALIDITY / 2);
        assert!(Arc::ptr_eq(&first, &certificate.current()));
        clock.raise(clock.now() + SERVER_VALIDITY / 4);
        let second = certificate.current();
        assert!(!Arc::ptr_eq(&first, &second) && Arc::ptr_eq(&second, &certificate.current()));
    }
}
