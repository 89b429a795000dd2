//! What of a service's `allow` a container can use.
//!
//! A container finds everything that it may reach at one address, its node's: names lead there, and the port and what it
//! says (a request's host, a TLS handshake's name) tell what it is for. So a server has a name; and one that speaks
//! something else than HTTP is told by its port alone.

use std::collections::BTreeMap;

use super::{Allow, Host, HttpPattern, TcpPattern};
use crate::id::ServiceKey;

/// Ports that are taken: names, HTTP, HTTPS.
const TAKEN: [u16; 3] = [53, 80, 443];

/// Where a container finds what it may reach. Names are looked up at port 53 in any case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    Any,
    These(Vec<u16>),
}

/// Why a container cannot have what it is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    pub detail: String,
    pub hint: &'static str,
}

impl Allow {
    /// Where a container with this finds what it may reach.
    pub fn ports(&self) -> Ports {
        let http: Option<Vec<u16>> = self.http.iter().map(HttpPattern::port).collect();
        let Some(mut ports) = http else { return Ports::Any };
        ports.extend((!self.services.is_empty()).then_some(80));
        ports.extend(self.tcp.iter().filter_map(TcpPattern::server).map(|(_, port)| port));
        ports.sort_unstable();
        ports.dedup();
        Ports::These(ports)
    }

    /// The server that a container finds at a port, if it is one that speaks something else than HTTP.
    pub fn server_at(&self, port: u16) -> Option<&Host> {
        self.tcp.iter().filter_map(TcpPattern::server).find(|(_, at)| *at == port).map(|(host, _)| host)
    }

    /// Whether it may connect to containers of a service.
    pub fn server_of(&self, service: &ServiceKey) -> bool {
        self.tcp.iter().any(|pattern| pattern.service().as_ref() == Some(service))
    }

    /// Whether some server of that name may be reached.
    pub fn names(&self, host: &Host) -> bool {
        let by_tcp = || self.tcp.iter().filter_map(TcpPattern::server).any(|(named, _)| named == host);
        self.http.iter().any(|pattern| pattern.names(host)) || by_tcp()
    }

    /// Whether a container can use all of it.
    pub fn fits_containers(&self) -> Result<(), Unfit> {
        let unfit = |detail: String, hint| Err(Unfit { detail, hint });
        const BY_NAME: &str = "give the server a name that nodes can resolve, and grant its address in allow.private";
        if let Some(pattern) = self.http.iter().find(|pattern| pattern.ip().is_some()) {
            return unfit(format!("allow.http names the address {pattern}, and it reaches servers by name"), BY_NAME);
        }
        let mut servers: BTreeMap<u16, &Host> = BTreeMap::new();
        for pattern in &self.tcp {
            let (host, port) = match pattern.server() {
                Some((Host::Ip(_), _)) => {
                    let detail = format!("allow.tcp names the address {pattern}, and it reaches servers by name");
                    return unfit(detail, BY_NAME);
                }
                Some(server) => server,
                None => {
                    let detail = format!("allow.tcp: {pattern} is not one server with one port");
                    return unfit(detail, "write each as HOST:PORT, such as db.example.com:5432");
                }
            };
            if TAKEN.contains(&port) || self.http.iter().any(|pattern| pattern.port() == Some(port)) {
                let detail = format!("allow.tcp: {pattern} has a port at which it finds names or HTTP servers");
                return unfit(detail, "what speaks HTTP is granted by allow.http, others need a port of their own");
            }
            if let Some(other) = servers.insert(port, host).filter(|other| *other != host) {
                let detail = format!("allow.tcp: {host} and {other} have the same port {port}, by which it tells them");
                return unfit(detail, "let one of them listen on another port");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(services: &[&str], http: &[&str], tcp: &[&str]) -> Allow {
        Allow {
            services: services.iter().map(|text| text.parse().unwrap()).collect(),
            http: http.iter().map(|text| text.parse().unwrap()).collect(),
            tcp: tcp.iter().map(|text| text.parse().unwrap()).collect(),
            ..Allow::default()
        }
    }

    #[test]
    fn ports_are_those_of_what_is_granted() {
        assert_eq!(Allow::default().ports(), Ports::These(vec![]));
        let some = allow(&["cart"], &["https://a.example", "http://a.example:8080"], &["db.example:5432"]);
        assert_eq!(some.ports(), Ports::These(vec![80, 443, 5432, 8080]));
        assert_eq!(allow(&[], &["http://a.example", "*"], &[]).ports(), Ports::Any);
        assert_eq!(allow(&[], &["https://a.example:*"], &[]).ports(), Ports::Any);
        let host = Host::with_port("db.example").unwrap().0;
        assert_eq!((some.server_at(5432), some.server_at(443)), (Some(&host), None));
        assert!(some.names(&host) && !some.names(&Host::with_port("b.example").unwrap().0));
    }

    #[test]
    fn what_no_port_or_name_tells_is_refused() {
        for (http, tcp, expected) in [
            (&["http://10.0.0.5"][..], &[][..], "names the address http://10.0.0.5"),
            (&[], &["10.0.0.5:5432"], "names the address 10.0.0.5:5432"),
            (&[], &["*.example:5432"], "not one server"),
            (&[], &["db.example:*"], "not one server"),
            (&[], &["db.example:443"], "names or HTTP"),
            (&[], &["db.example:53"], "names or HTTP"),
            (&["http://a.example:8080"], &["db.example:8080"], "names or HTTP"),
            (&[], &["a.example:5432", "b.example:5432"], "same port 5432"),
        ] {
            let unfit = allow(&[], http, tcp).fits_containers().unwrap_err();
            assert!(unfit.detail.contains(expected), "{unfit:?}");
        }
        let fine = allow(&["*"], &["*"], &["a.example:5432", "a.example:5432", "b.example:5433"]);
        assert_eq!(fine.fits_containers(), Ok(()));
    }
}
