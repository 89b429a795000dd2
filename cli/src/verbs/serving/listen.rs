//! Sockets that listen.

use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::exit::{Exit, Failure};

/// Listens on an address that the operator gave with `flag`.
pub(in crate::verbs) fn listen(what: &str, flag: &str, addr: SocketAddr) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(addr).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            let text = format!(
                "failed to listen on {addr} for {what}: the address is in use (hint: stop what uses it, or choose another with {flag} HOST:PORT; port 0 takes a free one)"
            );
            Failure::message(Exit::InUse, text)
        }
        _ => Failure::message(Exit::Invalid, format!("failed to listen on {addr} for {what}: {error} (hint: choose another address with {flag})")),
    })?;
    listener.set_nonblocking(true).map_err(|error| Failure::new(Exit::Internal, error))?;
    Ok(listener)
}

pub(in crate::verbs) fn local_addr(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(|error| Failure::new(Exit::Internal, error))
}
