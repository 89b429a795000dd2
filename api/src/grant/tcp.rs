//! Patterns of servers that speak something else than HTTP: `cache.example.com:6379`, or a container of this cluster,
//! `db.shop.internal:5432`.

use std::fmt;
use std::str::FromStr;

use super::http::{HostPattern, IS_INTERNAL, PortPattern, port_number, split_port};
use super::{Host, as_text, service_at, shortened};
use crate::id::ServiceKey;

/// Some servers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TcpPattern {
    host: HostPattern,
    port: PortPattern,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a server: {why} (hint: write HOST:PORT, such as cache.example.com:6379, *.example.com:* or 10.0.0.5:6379)"
)]
pub struct InvalidTcpPattern {
    text: String,
    why: &'static str,
}

impl TcpPattern {
    /// Just that server.
    pub fn of(host: &Host, port: u16) -> Self {
        Self { host: HostPattern::Exactly(host.clone()), port: PortPattern::Exactly(port) }
    }

    /// Whether it names a host, on whatever port.
    pub fn names(&self, host: &Host) -> bool {
        self.host.matches(host)
    }

    pub fn matches(&self, host: &Host, port: u16) -> bool {
        self.host.matches(host) && self.port.matches(port)
    }

    /// Whether everything that `other` matches is matched by this one.
    pub fn covers(&self, other: &Self) -> bool {
        self.host.covers(&other.host) && self.port.covers(other.port)
    }

    /// The service of this cluster that it names, if it names one.
    pub fn service(&self) -> Option<ServiceKey> {
        match &self.host {
            HostPattern::Exactly(Host::Name(name)) => service_at(name),
            _ => None,
        }
    }

    /// The one server that it names, if it is one.
    pub fn server(&self) -> Option<(&Host, u16)> {
        match (&self.host, self.port) {
            (HostPattern::Exactly(host), PortPattern::Exactly(port)) => Some((host, port)),
            _ => None,
        }
    }

    /// The address that it names, if it names one.
    pub fn ip(&self) -> Option<std::net::IpAddr> {
        match &self.host {
            HostPattern::Exactly(Host::Ip(ip)) => Some(*ip),
            _ => None,
        }
    }
}

impl FromStr for TcpPattern {
    type Err = InvalidTcpPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |why| InvalidTcpPattern { text: shortened(text), why };
        let (host, port) = split_port(text).ok_or_else(|| fail("it has no host"))?;
        let port = match port {
            None => return Err(fail("it has no port")),
            Some("*") => PortPattern::Any,
            Some(port) => PortPattern::Exactly(
                port_number(port).ok_or_else(|| fail("its port is neither * nor a number from 1 to 65535"))?,
            ),
        };
        if host.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(fail("it has capitals"));
        }
        let host = match HostPattern::parse(host) {
            Err(IS_INTERNAL) if service_at(host).is_some() => HostPattern::Exactly(Host::Name(host.to_owned())),
            parsed => parsed.map_err(fail)?,
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for TcpPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            PortPattern::Any => write!(f, "{}:*", self.host),
            PortPattern::Exactly(port) => write!(f, "{}:{port}", self.host),
        }
    }
}

as_text!(TcpPattern);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_read_back_and_match() {
        for text in ["cache.example.com:6379", "*.example.com:*", "*:*", "10.0.0.5:6379", "[fd00::1]:6380"] {
            assert_eq!(text.parse::<TcpPattern>().unwrap().to_string(), text);
        }
        let matches = |pattern: &str, host: &str, port| {
            pattern.parse::<TcpPattern>().unwrap().matches(&Host::parse(host).unwrap(), port)
        };
        assert!(matches("*.example.com:*", "cache.example.com", 1));
        assert!(!matches("*.example.com:*", "example.com", 1));
        let covers =
            |one: &str, other: &str| one.parse::<TcpPattern>().unwrap().covers(&other.parse::<TcpPattern>().unwrap());
        assert!(covers("*:*", "*.a.example:1") && covers("*.example:1", "*.a.example:1"));
        assert!(!covers("*.example:1", "*.example:*") && !covers("a.example:1", "*:1"));
        assert!(matches("10.0.0.5:6379", "10.0.0.5", 6379) && !matches("10.0.0.5:6379", "10.0.0.5", 6380));
        let service = |pattern: &str| pattern.parse::<TcpPattern>().unwrap().service().map(|key| key.to_string());
        assert_eq!(service("db.shop.internal:5432").as_deref(), Some("shop/db"));
        assert_eq!(service("*:*"), None);
        for bad in ["a.b.c.internal:1", "*.internal:1", "*.shop.internal:1"] {
            assert!(bad.parse::<TcpPattern>().is_err(), "{bad}");
        }
        for bad in ["", "*", "cache", "cache:", "cache:0", "redis://cache:6379", "a*b:1", "Cache:1", "x.internal:1"] {
            assert!(bad.parse::<TcpPattern>().is_err(), "{bad}");
        }
    }
}
