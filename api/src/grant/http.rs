//! Which servers outside: in `allow.http`.
//!
//! ```text
//! https://api.stripe.com        that host, on the scheme's own port
//! https://*.example.com:8443    any host below it (not example.com itself), on that port
//! http://10.0.0.5  http://[::1]:8080    that address, also where it is not a public one
//! https://*                     any host, over https on its own port;  https://*:*  on any port
//! *                             anything
//! ```
//! A pattern by name says nothing of addresses: what a name resolves to is checked apart from it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use super::{as_text, shortened};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    pub fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// A host as a request names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// In lower case, without a dot at the end.
    Name(String),
    Ip(IpAddr),
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    pub scheme: Scheme,
    pub host: Host,
    pub port: u16,
}

/// Why an authority names no host and port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not HOST or HOST:PORT")]
pub struct InvalidOrigin {
    text: String,
}

impl Origin {
    /// Reads `HOST[:PORT]`.
    pub fn new(scheme: Scheme, authority: &str) -> Result<Self, InvalidOrigin> {
        let fail = || InvalidOrigin { text: shortened(authority) };
        let (host, port) = split_port(authority).ok_or_else(fail)?;
        let host = Host::parse(host).ok_or_else(fail)?;
        let port = port.map_or(Some(scheme.port()), port_number).ok_or_else(fail)?;
        Ok(Self { scheme, host, port })
    }
}

impl Host {
    /// Reads `HOST[:PORT]`.
    pub fn with_port(authority: &str) -> Option<(Self, Option<u16>)> {
        let (host, port) = split_port(authority)?;
        let port = port.map(port_number).map_or(Some(None), |port| port.map(Some))?;
        Some((Self::parse(host)?, port))
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(ip) = text.strip_prefix('[') {
            let ip: Ipv6Addr = ip.strip_suffix(']')?.parse().ok()?;
            return Some(Self::Ip(IpAddr::V6(ip).to_canonical()));
        }
        if let Ok(ip) = text.parse() {
            return Some(Self::Ip(IpAddr::V4(ip)));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        is_name(&name).then_some(Self::Name(name))
    }
}

/// Names with underscores exist in the wild. A name whose last label is a number is one that some resolvers read as an
/// IPv4 address in an old notation (`127.1`, `0x7f000001`): it is no name here.
fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    text.len() <= 253 && text.split('.').all(label) && !is_number
}

pub(super) fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    let after_ip = authority.find(']').map_or(0, |at| at + 1);
    match authority[after_ip..].split_once(':') {
        None => Some((authority, None)),
        Some((rest, port)) => Some((&authority[..after_ip + rest.len()], Some(port))),
    }
}

pub(super) fn port_number(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port: &u16| *port > 0 && text.bytes().all(|b| b.is_ascii_digit()))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.host)?;
        if self.port == self.scheme.port() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// Some servers outside.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HttpPattern {
    Anything,
    Origin { scheme: Scheme, host: HostPattern, port: PortPattern },
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    Any,
    /// Any name that ends with a dot and this one.
    Below(String),
    Exactly(Host),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortPattern {
    Any,
    Exactly(u16),
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a server: {why} (hint: {hint})")]
pub struct InvalidPattern {
    text: String,
    why: &'static str,
    hint: &'static str,
}

/// The end of the names that lead to services of this cluster.
const INTERNAL: &str = "internal";
pub(super) const IS_INTERNAL: &str = "names that end in .internal are this cluster's services";

const EXAMPLE: &str = "write SCHEME://HOST[:PORT], such as https://api.example.com or https://*.example.com:8443";

impl HttpPattern {
    pub fn matches(&self, origin: &Origin) -> bool {
        let Self::Origin { scheme, host, port } = self else { return true };
        *scheme == origin.scheme && host.matches(&origin.host) && port.matches(origin.port)
    }

    /// Whether everything that `other` matches is matched by this one.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Anything, _) => true,
            (Self::Origin { .. }, Self::Anything) => false,
            (Self::Origin { scheme, host, port }, Self::Origin { scheme: s, host: h, port: p }) => {
                scheme == s && port.covers(*p) && host.covers(h)
            }
        }
    }

    /// Whether it names a host, on whatever port.
    pub fn names(&self, host: &Host) -> bool {
        match self {
            Self::Anything => true,
            Self::Origin { host: pattern, .. } => pattern.matches(host),
        }
    }

    /// The port that it is for, unless it is for any.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Origin { port: PortPattern::Exactly(port), .. } => Some(*port),
            Self::Anything | Self::Origin { port: PortPattern::Any, .. } => None,
        }
    }

    /// The address that it names, if it names one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Origin { host: HostPattern::Exactly(Host::Ip(ip)), .. } => Some(*ip),
            _ => None,
        }
    }
}

impl HostPattern {
    pub(super) fn matches(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (Self::Exactly(wanted), host) => wanted == host,
            (Self::Below(parent), Host::Name(name)) => is_below(name, parent),
            (Self::Below(_), Host::Ip(_)) => false,
        }
    }

    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Any) => false,
            (_, Self::Exactly(host)) => self.matches(host),
            (Self::Below(parent), Self::Below(child)) => child == parent || is_below(child, parent),
            (Self::Exactly(_), Self::Below(_)) => false,
        }
    }
}

fn is_below(name: &str, parent: &str) -> bool {
    name.strip_suffix(parent).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

impl HostPattern {
    /// As it is written; names that end in `.internal` are this cluster's services and nobody outside. An error says why
    /// it is none.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let host = match (text, text.strip_prefix("*.")) {
            ("*", _) => return Ok(Self::Any),
            (_, Some(parent)) if is_name(parent) => Self::Below(parent.to_owned()),
            (_, Some(_)) => return Err("what follows `*.` is not a host name"),
            (host, None) if host.contains('*') => return Err("a `*` stands for whole labels in front"),
            (host, None) if host.ends_with('.') => return Err("its host ends with a dot"),
            (host, None) => Self::Exactly(Host::parse(host).ok_or("its host is no name and no address")?),
        };
        match &host {
            Self::Below(name) | Self::Exactly(Host::Name(name)) if name == INTERNAL || is_below(name, INTERNAL) => {
                Err(IS_INTERNAL)
            }
            _ => Ok(host),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Below(parent) => write!(f, "*.{parent}"),
            Self::Exactly(host) => write!(f, "{host}"),
        }
    }
}

impl PortPattern {
    pub(super) fn matches(self, port: u16) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(number) => number == port,
        }
    }

    pub(super) fn covers(self, other: Self) -> bool {
        match other {
            Self::Any => self == Self::Any,
            Self::Exactly(port) => self.matches(port),
        }
    }
}

impl FromStr for HttpPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |why, hint| InvalidPattern { text: shortened(text), why, hint };
        if text == "*" {
            return Ok(Self::Anything);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(fail("it does not start with http:// or https://", EXAMPLE));
        };
        let scheme = match scheme {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(fail("its scheme is neither http nor https", EXAMPLE)),
        };
        if rest.contains(['/', '?', '#']) {
            return Err(fail("it has a path", "a grant is for a whole server: leave out what follows host and port"));
        }
        if rest.contains('@') {
            return Err(fail("it has a user", "a guest sends its credentials itself: leave them out here"));
        }
        if rest.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(fail("it has capitals", "write the host in lower case"));
        }
        let (host, port) = split_port(rest).ok_or_else(|| fail("it has no host", EXAMPLE))?;
        let port = match port {
            None => PortPattern::Exactly(scheme.port()),
            Some("*") => PortPattern::Any,
            Some(port) => PortPattern::Exactly(
                port_number(port).ok_or_else(|| fail("its port is not a number from 1 to 65535", EXAMPLE))?,
            ),
        };
        let host = HostPattern::parse(host).map_err(|why| match why {
            IS_INTERNAL => fail(why, "services of this cluster are granted by name: allow.services: [NAME.NAMESPACE]"),
            _ => fail(why, EXAMPLE),
        })?;
        Ok(Self::Origin { scheme, host, port })
    }
}

impl fmt::Display for HttpPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Origin { scheme, host, port } = self else { return f.write_str("*") };
        write!(f, "{}://{host}", scheme.name())?;
        match port {
            PortPattern::Any => f.write_str(":*"),
            PortPattern::Exactly(port) if *port == scheme.port() => Ok(()),
            PortPattern::Exactly(port) => write!(f, ":{port}"),
        }
    }
}

as_text!(HttpPattern);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> HttpPattern {
        text.parse().unwrap()
    }

    fn origin(text: &str) -> Origin {
        let (scheme, authority) = text.split_once("://").unwrap();
        Origin::new(if scheme == "https" { Scheme::Https } else { Scheme::Http }, authority).unwrap()
    }

    #[test]
    fn patterns_are_read_back() {
        for text in [
            "*",
            "https://api.stripe.com",
            "https://*.example.com:8443",
            "http://10.0.0.5",
            "http://[::1]:8080",
            "https://*",
            "http://*:*",
            "http://db_1.lan:9000",
        ] {
            assert_eq!(pattern(text).to_string(), text);
        }
        assert_eq!(pattern("https://a.example:443").to_string(), "https://a.example");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("api.stripe.com", "does not start with"),
            ("ftp://a", "scheme"),
            ("https://a/b", "path"),
            ("https://a?b", "path"),
            ("https://u@a", "user"),
            ("https://A.example", "capitals"),
            ("https://", "no name"),
            ("https://a:0", "port"),
            ("https://a:99999", "port"),
            ("https://a:", "port"),
            ("https://a.*.example", "whole labels"),
            ("https://*a.example", "whole labels"),
            ("https://*.", "not a host name"),
            ("https://a.example.", "dot"),
            ("https://127.1", "no name"),
            ("https://0x7f000001", "no name"),
            ("https://[::1", "port"),
            ("http://cart.shop.internal", ".internal"),
            ("http://*.internal", ".internal"),
        ] {
            let error = text.parse::<HttpPattern>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn matching_is_by_scheme_host_and_port() {
        for (text, yes, no) in [
            ("https://a.example", "https://A.Example.", "http://a.example"),
            ("https://a.example", "https://a.example:443", "https://a.example:8443"),
            ("https://*.example", "https://x.y.example", "https://example"),
            ("https://*.example", "https://x.example", "https://xexample"),
            ("http://10.0.0.5", "http://[::ffff:10.0.0.5]", "http://10.0.0.6"),
            ("http://*:*", "http://10.0.0.5:81", "https://10.0.0.5:81"),
            ("https://*.example", "https://a.example", "https://1.2.3.4"),
        ] {
            assert!(pattern(text).matches(&origin(yes)), "{text} {yes}");
            assert!(!pattern(text).matches(&origin(no)), "{text} {no}");
        }
    }

    #[test]
    fn authorities_are_read_as_one_thing() {
        for bad in
            ["", "a b", "a:b", "a:", "[::1", "::1", "127.1", "1", "0x7f.1", "a@b", "a..b", "-a", "[::1]x", "[::1]x:80"]
        {
            assert!(Origin::new(Scheme::Http, bad).is_err(), "{bad}");
        }
        assert_eq!(origin("http://[::1]:81").to_string(), "http://[::1]:81");
        assert_eq!(origin("https://a.example:443").to_string(), "https://a.example");
    }

    fn any_pattern() -> impl Strategy<Value = HttpPattern> {
        let host = prop::sample::select(vec!["*", "a.b", "x.a.b", "*.b", "*.a.b", "1.2.3.4", "b"]);
        let port = prop::sample::select(vec!["", ":80", ":81", ":*"]);
        let scheme = prop::sample::select(vec!["http", "https"]);
        prop_oneof![
            1 => Just(HttpPattern::Anything),
            8 => (scheme, host, port).prop_map(|(scheme, host, port)| pattern(&format!("{scheme}://{host}{port}"))),
        ]
    }

    proptest! {
        /// In a small world of which all servers are tried, with some that no pattern names.
        #[test]
        fn covering_is_matching_everything(one in any_pattern(), other in any_pattern()) {
            let mut world = Vec::new();
            for scheme in [Scheme::Http, Scheme::Https] {
                for host in ["a.b", "x.a.b", "y.a.b", "y.b", "b", "c", "1.2.3.4", "1.2.3.5"] {
                    for port in [80, 81, 82, 443] {
                        world.push(Origin { scheme, host: Host::parse(host).unwrap(), port });
                    }
                }
            }
            let includes = world.iter().all(|origin| !other.matches(origin) || one.matches(origin));
            prop_assert_eq!(one.covers(&other), includes, "{} {}", one, other);
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = text.parse::<HttpPattern>();
            let _ = Origin::new(Scheme::Http, &text);
        }
    }
}
