//! What a service allows itself, and what its namespace lets it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{AddressClass, AddressRange, FullPath, Host, HttpPattern, Origin, Privilege, ServicePattern, TcpPattern};
use crate::id::{Name, ServiceKey};
use crate::resource::{BucketGrant, RedisUrl, Volume};

/// What a service's guests may reach: what is named here, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Allow {
    /// Services of the cluster: `NAME`, `NAME.NAMESPACE`, `NAMESPACE/*` or `*`. They must agree: see `http.callers`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServicePattern>,
    /// Servers outside: `SCHEME://HOST[:PORT]` with `*.` in front of a host for those below it, or `*`. By name, only
    /// public addresses are reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub http: Vec<HttpPattern>,
    /// Addresses that are not public which names in `http` and `tcp` may resolve to: `10.0.0.0/8`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub private: Vec<AddressRange>,
    /// Servers that speak something else than HTTP: `HOST:PORT`, or `NAME.NAMESPACE.internal:PORT` for a container of this
    /// cluster that runs on the same node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tcp: Vec<TcpPattern>,
}

/// The most that the services of a namespace may allow themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Grants {
    /// Default `*`: any service that agrees.
    #[serde(default = "Grants::any_service")]
    pub services: Vec<ServicePattern>,
    /// Default `*`: any server with a public address.
    #[serde(default = "Grants::any_server")]
    pub http: Vec<HttpPattern>,
    /// Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub private: Vec<AddressRange>,
    /// Servers that containers may connect to, and services keep buckets in: `HOST:PORT`, with `*` for any port and `*.` in front of a host for those
    /// below it. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tcp: Vec<TcpPattern>,
    /// Files and folders of machines that containers may be given, with all that is below them. Default none.
    #[serde(default, rename = "hostPaths", skip_serializing_if = "Vec::is_empty")]
    pub host_paths: Vec<FullPath>,
    /// What containers may have beyond the safe defaults: `writableRoot`, and capabilities such as `CHOWN`. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub privileges: Vec<Privilege>,
}

impl Grants {
    fn any_service() -> Vec<ServicePattern> {
        vec![ServicePattern::Any]
    }

    fn any_server() -> Vec<HttpPattern> {
        vec![HttpPattern::Anything]
    }
}

impl Default for Grants {
    fn default() -> Self {
        let (services, http) = (Self::any_service(), Self::any_server());
        Self { services, http, private: Vec::new(), tcp: Vec::new(), host_paths: Vec::new(), privileges: Vec::new() }
    }
}

/// Something that a service allows itself and its namespace does not grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// `services`, `http`, `private`, `tcp`, `hostPaths` or `privileges`: of the namespace's `allow`.
    pub field: &'static str,
    /// The service's own list, and where it stands there: of its `allow`, or `keyvalue`.
    pub from: &'static str,
    pub index: usize,
    /// As it would stand in the namespace's list.
    pub entry: String,
}

impl Allow {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether guests in the namespace `own` may call a service, if it agrees.
    pub fn service(&self, own: &Name, service: &ServiceKey) -> bool {
        self.services.iter().any(|pattern| pattern.matches(own, service))
    }

    /// Whether guests may send requests there. Says nothing of addresses.
    pub fn origin(&self, origin: &Origin) -> bool {
        self.http.iter().any(|pattern| pattern.matches(origin))
    }

    /// Whether a request that may go to `origin` may be sent to this address, which that name has or which it is.
    pub fn address(&self, origin: &Origin, ip: IpAddr) -> bool {
        let is_named = || {
            let names = |pattern: &HttpPattern| pattern.ip() == Some(ip.to_canonical()) && pattern.matches(origin);
            matches!(origin.host, Host::Ip(_)) && self.http.iter().any(names)
        };
        self.reaches(ip, is_named)
    }

    /// The same of a server that the service's own manifest names, and the namespace grants.
    pub fn address_of(&self, host: &Host, ip: IpAddr) -> bool {
        self.reaches(ip, || *host == Host::Ip(ip.to_canonical()))
    }

    fn reaches(&self, ip: IpAddr, is_named: impl FnOnce() -> bool) -> bool {
        match AddressClass::of(ip) {
            AddressClass::Public => true,
            AddressClass::Never => false,
            AddressClass::Special => self.private.iter().any(|range| range.contains(ip)) || is_named(),
        }
    }

    /// What of it a namespace does not grant to the services in it.
    pub fn beyond(&self, grants: &Grants, own: &Name) -> Vec<Lack> {
        let mut lacks = Vec::new();
        for (index, wanted) in self.services.iter().enumerate() {
            if !grants.services.iter().any(|granted| granted.covers(own, wanted)) {
                lacks.push(Lack { field: "services", from: "services", index, entry: wanted.to_string() });
            }
        }
        for (index, wanted) in self.http.iter().enumerate() {
            // A special address has to be named, or be in a range that is: `*` is not meant to include it.
            let special = wanted.ip().filter(|ip| AddressClass::of(*ip) != AddressClass::Public);
            let in_range = || special.is_none_or(|ip| grants.private.iter().any(|range| range.contains(ip)));
            let grants_it = |granted: &HttpPattern| {
                granted.covers(wanted) && (special.is_none() || granted.ip() == special || in_range())
            };
            if !grants.http.iter().any(grants_it) {
                lacks.push(Lack { field: "http", from: "http", index, entry: wanted.to_string() });
            }
        }
        for (index, wanted) in self.private.iter().enumerate() {
            if !grants.private.iter().any(|granted| granted.covers(wanted)) {
                lacks.push(Lack { field: "private", from: "private", index, entry: wanted.to_string() });
            }
        }
        for (index, wanted) in self.tcp.iter().enumerate() {
            if let Some(ServiceKey { name, namespace }) = wanted.service() {
                let service = ServicePattern::Service { name, namespace: Some(namespace) };
                if !grants.services.iter().any(|granted| granted.covers(own, &service)) {
                    lacks.push(Lack { field: "services", from: "tcp", index, entry: service.to_string() });
                }
                continue;
            }
            let special = wanted.ip().filter(|ip| AddressClass::of(*ip) != AddressClass::Public);
            let grants_it =
                |granted: &TcpPattern| granted.covers(wanted) && (special.is_none() || granted.ip() == special);
            if !grants.tcp.iter().any(grants_it) {
                lacks.push(Lack { field: "tcp", from: "tcp", index, entry: wanted.to_string() });
            }
        }
        lacks
    }
}

impl Grants {
    /// Which of a service's servers they do not let it keep buckets in.
    pub fn lacking(&self, keyvalue: &[BucketGrant]) -> Vec<Lack> {
        let mut lacks = Vec::new();
        for (index, grant) in keyvalue.iter().enumerate() {
            let Some(RedisUrl { host, port, .. }) = &grant.redis else { continue };
            let special = matches!(host, Host::Ip(ip) if AddressClass::of(*ip) != AddressClass::Public);
            // A special address has to be named: `*` is not meant to include it.
            let grants_it = |granted: &TcpPattern| granted.matches(host, *port) && (!special || granted.ip().is_some());
            if !self.tcp.iter().any(grants_it) {
                lacks.push(Lack {
                    field: "tcp",
                    from: "keyvalue",
                    index,
                    entry: TcpPattern::of(host, *port).to_string(),
                });
            }
        }
        lacks
    }

    /// Which privileges they do not let a container have.
    pub fn denied(&self, privileges: &[Privilege]) -> Vec<Lack> {
        let denied = privileges.iter().enumerate().filter(|(_, wanted)| !self.privileges.contains(wanted));
        let lack = |(index, wanted): (usize, &Privilege)| Lack {
            field: "privileges",
            from: "privileges",
            index,
            entry: wanted.to_string(),
        };
        denied.map(lack).collect()
    }

    /// Which of a container's files and folders they do not let it have.
    pub fn without(&self, volumes: &[Volume]) -> Vec<Lack> {
        let mut lacks = Vec::new();
        for (index, volume) in volumes.iter().enumerate() {
            let Some(path) = &volume.host_path else { continue };
            if !self.host_paths.iter().any(|granted| granted.covers(path)) {
                lacks.push(Lack { field: "hostPaths", from: "volumes", index, entry: path.to_string() });
            }
        }
        lacks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grant::Scheme;

    fn allow(services: &[&str], http: &[&str], private: &[&str]) -> Allow {
        Allow {
            services: services.iter().map(|text| text.parse().unwrap()).collect(),
            http: http.iter().map(|text| text.parse().unwrap()).collect(),
            private: private.iter().map(|text| text.parse().unwrap()).collect(),
            tcp: Vec::new(),
        }
    }

    fn grants(services: &[&str], http: &[&str], private: &[&str]) -> Grants {
        let Allow { services, http, private, tcp } = allow(services, http, private);
        Grants { services, http, private, tcp, ..Grants::default() }
    }

    fn reaches(allow: &Allow, authority: &str, ip: &str) -> bool {
        let origin = Origin::new(Scheme::Http, authority).unwrap();
        allow.origin(&origin) && allow.address(&origin, ip.parse().unwrap())
    }

    #[test]
    fn a_name_reaches_special_addresses_only_by_a_range() {
        let by_name = allow(&[], &["http://db.lan", "http://*:*"], &[]);
        assert!(reaches(&by_name, "db.lan", "1.1.1.1"));
        assert!(!reaches(&by_name, "db.lan", "10.0.0.5"));
        assert!(!reaches(&by_name, "db.lan", "::ffff:127.0.0.1"));
        assert!(!reaches(&by_name, "127.0.0.1:7070", "127.0.0.1"));
        let with_range = allow(&[], &["http://db.lan"], &["10.0.0.0/24", "0.0.0.0/0"]);
        assert!(reaches(&with_range, "db.lan", "10.0.0.5"));
        assert!(!reaches(&with_range, "db.lan", "224.0.0.1"), "never");
        assert!(!reaches(&with_range, "other.lan", "10.0.0.5"));
    }

    #[test]
    fn an_address_that_is_named_is_reached_and_no_other() {
        let allow = allow(&[], &["http://10.0.0.5", "http://*"], &[]);
        assert!(reaches(&allow, "10.0.0.5", "10.0.0.5"));
        assert!(!reaches(&allow, "10.0.0.6", "10.0.0.6"));
        // A name that resolves to it is not what was granted.
        assert!(!reaches(&allow, "evil.example", "10.0.0.5"));
        assert!(!reaches(&allow, "10.0.0.5:81", "10.0.0.5"), "another port");
    }

    #[test]
    fn a_namespace_that_says_nothing_grants_what_is_public() {
        let own: Name = "shop".parse().unwrap();
        let default = Grants::default();
        assert_eq!(allow(&["cart", "x.y", "ops/*"], &["https://a.example", "*"], &[]).beyond(&default, &own), []);
        let lacks = allow(&[], &["http://1.1.1.1", "http://10.0.0.5:81"], &["10.0.0.0/8"]).beyond(&default, &own);
        let lack = |field, index, entry: &str| Lack { field, from: field, index, entry: entry.to_owned() };
        assert_eq!(lacks, [lack("http", 1, "http://10.0.0.5:81"), lack("private", 0, "10.0.0.0/8")]);
    }

    #[test]
    fn a_namespace_that_says_something_grants_just_that() {
        let own: Name = "shop".parse().unwrap();
        let granted = grants(&["shop/*"], &["https://*.example", "http://10.0.0.5:81"], &["10.1.0.0/16"]);
        let within = allow(&["cart", "cart.shop"], &["https://a.example", "http://10.0.0.5:81"], &["10.1.2.0/24"]);
        assert_eq!(within.beyond(&granted, &own), []);
        let beyond =
            allow(&["cart.ops", "*"], &["https://a.other", "http://10.0.0.5", "http://10.1.0.1"], &["10.0.0.0/8"]);
        assert_eq!(beyond.beyond(&granted, &own).len(), 6);
        let ranged = grants(&[], &["*"], &["10.1.0.0/16"]);
        assert_eq!(allow(&[], &["http://10.1.0.1"], &[]).beyond(&ranged, &own), []);
    }

    #[test]
    fn a_folder_of_the_machine_is_granted_with_what_is_below_it() {
        let lacking = |granted: &[&str], wanted: &str| {
            let host_paths = granted.iter().map(|text| text.parse().unwrap()).collect();
            let volume = format!(r#"{{"hostPath": "{wanted}", "path": "/data", "readOnly": true}}"#);
            let lacks = Grants { host_paths, ..Grants::default() }.without(&[serde_json::from_str(&volume).unwrap()]);
            lacks.into_iter().map(|lack| lack.entry).collect::<Vec<_>>()
        };
        assert_eq!(lacking(&[], "/srv"), ["/srv"]);
        assert!(lacking(&["/srv"], "/srv/data").is_empty());
        assert_eq!(lacking(&["/srv/data"], "/srv/database"), ["/srv/database"]);
    }

    #[test]
    fn a_server_that_speaks_no_http_is_granted_by_name() {
        let own: Name = "shop".parse().unwrap();
        let lacking = |granted: &[&str], wanted: &[&str]| -> Vec<(usize, String)> {
            let patterns = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
            let grants = Grants { tcp: patterns(granted), ..Grants::default() };
            let lacks = Allow { tcp: patterns(wanted), ..Allow::default() }.beyond(&grants, &own);
            lacks.into_iter().map(|lack| (lack.index, lack.entry)).collect()
        };
        let wanted = ["db.example:5432", "10.0.0.5:5432"];
        assert_eq!(lacking(&[], &wanted).len(), 2);
        assert_eq!(lacking(&["*:*"], &wanted), [(1, "10.0.0.5:5432".to_owned())]);
        assert!(lacking(&["*.example:5432", "10.0.0.5:*"], &wanted).is_empty());
        assert_eq!(lacking(&["*.example:5433"], &wanted[..1]).len(), 1);
        // One of this cluster is a service, which is granted as such.
        let allow = Allow { tcp: vec!["db.shop.internal:5432".parse().unwrap()], ..Allow::default() };
        assert_eq!(allow.beyond(&Grants::default(), &own), []);
        let lacks = allow.beyond(&grants(&["cart"], &["*"], &[]), &own);
        assert_eq!((lacks[0].field, lacks[0].from, lacks[0].entry.as_str()), ("services", "tcp", "db.shop"));
    }

    #[test]
    fn a_redis_is_granted_by_its_server_and_a_special_address_by_name() {
        let lacking = |tcp: &[&str], redis: &str| -> Vec<String> {
            let tcp = tcp.iter().map(|text| text.parse().unwrap()).collect();
            let grant = format!(r#"{{"bucket": "b", "redis": "{redis}"}}"#);
            let lacks = Grants { tcp, ..Grants::default() }.lacking(&[serde_json::from_str(&grant).unwrap()]);
            lacks.into_iter().map(|lack| lack.entry).collect()
        };
        assert_eq!(lacking(&[], "redis://cache.example"), ["cache.example:6379"]);
        assert!(lacking(&["*.example:6379"], "redis://cache.example").is_empty());
        assert_eq!(lacking(&["*.example:6379"], "redis://cache.example:6380"), ["cache.example:6380"]);
        assert_eq!(lacking(&["*:*"], "redis://127.0.0.1"), ["127.0.0.1:6379"]);
        assert!(lacking(&["127.0.0.1:*"], "redis://127.0.0.1").is_empty());
        let (nothing, loopback) = (Allow::default(), "127.0.0.1".parse().unwrap());
        assert!(nothing.address_of(&Host::Ip(loopback), loopback));
        assert!(!nothing.address_of(&Host::Name("cache.example".to_owned()), loopback), "a name leads elsewhere");
    }
}
