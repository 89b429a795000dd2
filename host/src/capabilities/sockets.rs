//! What guests reach by `wasi:sockets`, and containers by a port: servers and containers that `allow.tcp` names.
//!
//! A name is resolved here, past the check of its addresses, and what was found is remembered with the instance: it may
//! connect to what it has found, at the ports that the name is granted with, or to an address that is granted itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use skiff_api::grant::{Host, TcpPattern, service_at};
use skiff_api::id::ServiceKey;
use tokio::sync::OwnedSemaphorePermit;

use super::Outbound;
use super::natives::Listed;
use super::outbound::{Caller, Named, named};
use super::services;
use crate::metrics::{Refused, To};

/// Addresses that an instance has found and remembers; then it forgets them all, and looks them up again.
const FOUND_MAX: usize = 256;

/// What an instance has found, by address.
#[derive(Debug, Default)]
pub(crate) struct Found(Mutex<BTreeMap<IpAddr, BTreeSet<Host>>>);

impl Found {
    fn keep(&self, host: &Host, addresses: &[IpAddr]) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() >= FOUND_MAX {
            found.clear();
        }
        for ip in addresses {
            found.entry(*ip).or_default().insert(host.clone());
        }
    }

    fn at(&self, ip: IpAddr) -> BTreeSet<Host> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&ip).cloned().unwrap_or_default()
    }
}

impl Outbound {
    /// A place for one more socket, unless the node's guests have as many as they may.
    pub(crate) fn socket(&self) -> Option<OwnedSemaphorePermit> {
        let caller = self.0.as_ref()?;
        let permit = caller.reach.sockets.clone().try_acquire_owned().ok();
        if permit.is_none() {
            caller.tell("OutboundLimit", "too many sockets at once on this node".to_owned());
        }
        permit
    }

    /// Makes it known that the replica's container listens there.
    pub(crate) fn listens_at(&self, ip: IpAddr) -> Option<Listed> {
        let caller = self.0.as_ref()?;
        let ports = caller.template.ports.iter().map(|port| port.port).collect();
        Some(caller.reach.natives.list(&caller.service, caller.replica(), ip, ports))
    }

    /// The addresses of a name that may be connected to on some port. None, where that is none.
    pub(crate) async fn find(&self, name: &str, found: &Found) -> Vec<IpAddr> {
        let Some(caller) = &self.0 else { return Vec::new() };
        let host = match Host::with_port(name) {
            Some((host, None)) => host,
            _ => return Vec::new(),
        };
        let addresses = match &host {
            Host::Ip(ip) => return vec![*ip],
            Host::Name(name) => caller.addresses(name, &host).await,
        };
        found.keep(&host, &addresses);
        addresses
    }

    /// Whether a guest may connect there. Telling of it if not.
    pub(crate) fn may_connect(&self, to: SocketAddr, found: &Found) -> bool {
        let Some(caller) = &self.0 else { return false };
        let (ip, port) = (to.ip().to_canonical(), to.port());
        let allow = &caller.template.allow;
        let itself = Host::Ip(ip);
        let by_address = allow.tcp.iter().any(|pattern| {
            let is_named = pattern.ip() == Some(ip);
            pattern.matches(&itself, port) && is_named && allow.address_of(&itself, ip)
        });
        let grants = |host: &Host| caller.grants(host, |pattern| pattern.matches(host, port));
        let is_granted = |host: &Host| match host {
            Host::Name(name) if service_at(name).is_some() => {
                let is_there = |service| caller.reach.natives.of(&service, |at| at == port).contains(&ip);
                grants(host) && service_at(name).is_some_and(is_there)
            }
            host => grants(host) && allow.address_of(host, ip),
        };
        if by_address || found.at(ip).iter().any(is_granted) {
            caller.reach.figures.sent(To::Server);
            return true;
        }
        let to = SocketAddr::new(ip, port);
        let what = format!("connects to {to}, which it does not allow itself");
        caller.deny(Refused::Server, &what, "allow: {tcp: [\"HOST:PORT\"]}");
        false
    }
}

/// Such names never leave the cluster, whether they are a service's or nobody's.
fn is_internal(name: &str) -> bool {
    !matches!(named(name), Named::Outside)
}

impl Caller {
    /// Whether it may connect to a server of that name. One of this cluster has to be named itself.
    fn grants(&self, host: &Host, is_port: impl Fn(&TcpPattern) -> bool) -> bool {
        let is_internal = matches!(host, Host::Name(name) if is_internal(name));
        let fits = |pattern: &TcpPattern| pattern.names(host) && (!is_internal || pattern.service().is_some());
        self.template.allow.tcp.iter().any(|pattern| fits(pattern) && is_port(pattern))
    }

    async fn addresses(&self, name: &str, host: &Host) -> Vec<IpAddr> {
        if !self.grants(host, |_| true) {
            let what = format!("looks up {name}, which it does not allow itself");
            self.deny(Refused::Server, &what, &format!("allow: {{tcp: [\"{name}:PORT\"]}}"));
            return Vec::new();
        }
        if let Some(service) = service_at(name) {
            // At which of its ports is decided when it connects.
            return self.natives(&service, |_| true);
        }
        let found = match self.reach.connector.resolve(name).await {
            Ok(found) => found,
            Err(error) => {
                self.tell("OutboundFailed", format!("{name} cannot be looked up: {error}"));
                return Vec::new();
            }
        };
        let allow = &self.template.allow;
        let (granted, other): (Vec<IpAddr>, Vec<IpAddr>) =
            found.into_iter().map(|ip| ip.to_canonical()).partition(|ip| allow.address_of(host, *ip));
        if let (true, Some(ip)) = (granted.is_empty(), other.first()) {
            let what = format!("looks up {name}, which is at {ip}: that is no public address");
            self.deny(Refused::Address, &what, &format!("allow: {{private: [\"{ip}\"]}}"));
        }
        granted
    }

    /// Where containers of a service listen on this node, if it lets this one come.
    pub(super) fn natives(&self, service: &ServiceKey, is_asked: impl Fn(u16) -> bool) -> Vec<IpAddr> {
        let Some(gateway) = self.reach.gateway() else { return Vec::new() };
        let services = gateway.services();
        let callee = services.get(service);
        if callee.is_some_and(|callee| !callee.callers.include(&service.namespace, &self.service)) {
            let what = format!("connects to {}.{}.internal, which does not let it", service.name, service.namespace);
            let own = services::as_caller(&self.service, service);
            self.deny(Refused::Caller, &what, &format!("add {own:?} to http.callers of service {service}"));
            return Vec::new();
        }
        // One that nobody knows is as one that is not there.
        let found = if callee.is_some() { self.reach.natives.of(service, is_asked) } else { Vec::new() };
        if found.is_empty() {
            let what = format!("no container of service {service} listens there on this node");
            self.tell("OutboundFailed", format!("{what} (hint: placement can bring them together)"));
        }
        found
    }
}
