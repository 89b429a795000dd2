//! Whom a connection is from, and what its requests share.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderValue;
use http::uri::Scheme;

use super::leash::Leash;
use super::serve::Shared;

/// Made once for each connection, so that its requests need not: nothing of it is shared with other threads.
pub(super) struct Client {
    pub(super) shared: Arc<Shared>,
    pub(super) addr: IpAddr,
    /// The address as `x-forwarded-for` has it.
    pub(super) forwarded_for: HeaderValue,
    pub(super) scheme: Scheme,
    /// Of the connection's one answer, if it speaks HTTP/1.1.
    pub(super) leash: Arc<Leash>,
}

impl Client {
    pub(super) fn new(shared: Arc<Shared>, addr: IpAddr, scheme: Scheme) -> Self {
        let addr = addr.to_canonical();
        // An address is made of digits, letters, colons and dots.
        let forwarded_for =
            HeaderValue::from_str(&addr.to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        shared.metrics.connections(1);
        Self { shared, addr, forwarded_for, scheme, leash: Arc::default() }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.metrics.connections(-1);
    }
}
