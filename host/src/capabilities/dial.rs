//! What a container asks for that a component does not: whether it may know a name, and connections that carry what is
//! between it and a server. They go past the same checks as requests ([`super::connect`]).

use std::net::IpAddr;
use std::time::Duration;

use skiff_api::grant::{Host, Origin, Scheme, service_at};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::Outbound;
use super::connect::{ConnectError, Held};
use super::outbound::{Caller, Named, named};
use super::services;
use crate::metrics::{Refused, To};

/// As for a request that says nothing.
const CONNECT: Duration = Duration::from_secs(10);

/// A connection to a server. Its place among those of the replica and of the node is free once it is dropped.
pub(crate) struct Dialled {
    pub(crate) stream: Either<TcpStream, TlsStream<TcpStream>>,
    _line: OwnedSemaphorePermit,
    _held: Held,
}

impl Outbound {
    /// Whether a name leads somewhere. One that does not is told of as a request there would be.
    pub(crate) fn knows(&self, name: &str) -> bool {
        let Some(caller) = &self.0 else { return false };
        let Some((host @ Host::Name(_), None)) = Host::with_port(name) else { return false };
        let allow = &caller.template.allow;
        let (why, hint) = match named(&host.to_string()) {
            Named::Service(service)
                if allow.service(&caller.service.namespace, &service) || allow.server_of(&service) =>
            {
                return true;
            }
            Named::Service(service) => (Refused::Service, services::grant(caller, &service)),
            Named::Nobody => (Refused::Malformed, "services are at NAME.NAMESPACE.internal".to_owned()),
            Named::Outside if allow.names(&host) => return true,
            Named::Outside => (Refused::Server, format!("allow: {{http: [\"https://{host}\"]}}, or tcp")),
        };
        caller.deny(why, &format!("looks up {host}, which it does not allow itself"), &hint);
        false
    }

    /// Whether what listens at a port speaks something else than HTTP.
    pub(crate) fn has_server_at(&self, port: u16) -> bool {
        self.0.as_ref().is_some_and(|caller| caller.template.allow.server_at(port).is_some())
    }

    /// Connects to the server that is granted at this port.
    pub(crate) async fn dial_port(&self, port: u16) -> Option<Dialled> {
        let caller = self.0.as_deref()?;
        let allow = &caller.template.allow;
        let host = allow.server_at(port)?;
        let service = if let Host::Name(name) = host { service_at(name) } else { None };
        if let Some(service) = service {
            let ip = caller.natives(&service, |at| at == port).into_iter().next()?;
            return dial(caller, (&Host::Ip(ip), port), &format!("{host}:{port}"), |_| true).await;
        }
        dial(caller, (host, port), &format!("{host}:{port}"), |ip| allow.address_of(host, ip)).await
    }

    /// Connects to the server that is called so in a TLS handshake.
    pub(crate) async fn dial_tls(&self, name: &str, port: u16) -> Option<Dialled> {
        let caller = self.0.as_deref()?;
        let (host, None) = Host::with_port(name)? else { return None };
        let origin = Origin { scheme: Scheme::Https, host, port };
        let allow = &caller.template.allow;
        if matches!(&origin.host, Host::Name(name) if !matches!(named(name), Named::Outside)) {
            let hint = "services are at http://NAME.NAMESPACE.internal, without a port";
            caller.deny(Refused::Malformed, &origin.to_string(), hint);
            return None;
        }
        if !allow.origin(&origin) {
            let what = format!("connects to {origin}, which it does not allow itself");
            caller.deny(Refused::Server, &what, &format!("allow: {{http: [\"{origin}\"]}}"));
            return None;
        }
        dial(caller, (&origin.host, port), &origin.to_string(), |ip| allow.address(&origin, ip)).await
    }

    /// Tells that a container has as many connections as it may.
    pub(crate) fn is_full(&self) {
        if let Some(caller) = &self.0 {
            caller.tell("OutboundLimit", "too many connections at once (hint: does it close them?)".to_owned());
        }
    }
}

async fn dial(
    caller: &Caller,
    (host, port): (&Host, u16),
    to: &str,
    is_granted: impl Fn(IpAddr) -> bool,
) -> Option<Dialled> {
    let Ok(line) = caller.lines.clone().try_acquire_owned() else {
        caller.tell("OutboundLimit", format!("too many connections at once, so none to {to}"));
        return None;
    };
    let figures = &caller.reach.figures;
    figures.sent(To::Server);
    // Nothing is said on it here, so it is plain to us.
    let plain = Origin { scheme: Scheme::Http, host: host.clone(), port };
    match caller.reach.connector.connect(&plain, is_granted, CONNECT).await {
        Ok(opened) => Some(Dialled { stream: opened.stream, _line: line, _held: opened.held }),
        Err(ConnectError::Prohibited(ip)) => {
            let what = format!("connects to {to}, which is at {ip}: that is no public address");
            caller.deny(Refused::Address, &what, &format!("allow: {{private: [\"{ip}\"]}}"));
            None
        }
        Err(ConnectError::Failed(error)) => {
            figures.failed();
            caller.tell("OutboundFailed", format!("no connection to {to}: {error}"));
            None
        }
        Err(ConnectError::Tls(failure)) => {
            figures.failed();
            caller.tell("OutboundFailed", format!("no connection to {to}: {}", failure.why));
            None
        }
    }
}
