//! From a host and a path to a service.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use skiff_api::id::ServiceKey;
use skiff_api::resource::Route;

use super::answer::Refusal;
use super::host::without_port;
use super::peer::Remote;
use super::target::Target;

/// Every route, precomputed: a look-up costs one hash for each level of the path, whatever the number of routes.
#[derive(Debug)]
pub(crate) struct Table<T> {
    hosts: HashMap<String, Paths<T>>,
    any_host: Paths<T>,
}

#[derive(Debug)]
struct Paths<T> {
    /// Without a slash at the end; the root is empty.
    by_prefix: HashMap<String, T>,
    /// No longer prefix exists, so a path is not compared beyond it.
    bytes_max: usize,
}

impl<T> Default for Paths<T> {
    fn default() -> Self {
        Self { by_prefix: HashMap::new(), bytes_max: 0 }
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { hosts: HashMap::new(), any_host: Paths::default() }
    }
}

impl<T> Table<T> {
    /// Of two equal routes the first stays: the control plane lets no two exist, but a node must not depend on it.
    pub(crate) fn insert(&mut self, route: &Route, value: T) {
        let paths = match &route.host {
            Some(host) => self.hosts.entry(host.to_ascii_lowercase()).or_default(),
            None => &mut self.any_host,
        };
        let prefix = route.path.trim_end_matches('/');
        paths.bytes_max = paths.bytes_max.max(prefix.len());
        paths.by_prefix.entry(prefix.to_owned()).or_insert(value);
    }

    /// The longest prefix of whole segments on that host, else on any host. `host` may have a port and capitals.
    pub(crate) fn find(&self, host: Option<&str>, path: &str) -> Option<&T> {
        let of_host = host.and_then(|host| {
            let name = without_port(host);
            match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                true => self.hosts.get(&name.to_ascii_lowercase()),
                false => self.hosts.get(name),
            }
        });
        of_host.and_then(|paths| paths.find(path)).or_else(|| self.any_host.find(path))
    }
}

impl<T> Paths<T> {
    fn find(&self, path: &str) -> Option<&T> {
        let mut prefix = path.trim_end_matches('/');
        if prefix.len() > self.bytes_max {
            // The longest that can match ends at a slash, at most one byte behind the longest route.
            let slash = prefix.as_bytes()[..=self.bytes_max].iter().rposition(|byte| *byte == b'/');
            prefix = &prefix[..slash.unwrap_or(0)];
        }
        loop {
            if let Some(found) = self.by_prefix.get(prefix) {
                return Some(found);
            }
            prefix = &prefix[..prefix.rfind('/')?];
        }
    }
}

/// The replicas of a service that answer requests here, and the other nodes that answer them.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) service: ServiceKey,
    targets: Vec<Arc<Target>>,
    turn: AtomicUsize,
    /// Replicas that stop: only for other nodes, which may not have heard of it.
    leaving: Vec<Arc<Target>>,
    remotes: Vec<Arc<Remote>>,
}

/// Where a request goes.
pub(super) enum Picked {
    Here(Arc<Target>),
    /// To another node.
    There(ServiceKey),
}

impl Backend {
    pub(crate) fn new(service: ServiceKey, targets: Vec<Arc<Target>>) -> Self {
        Self { service, targets, turn: AtomicUsize::new(0), leaving: Vec::new(), remotes: Vec::new() }
    }

    /// With what is only for other nodes, and with these themselves.
    pub(crate) fn among_others(self, leaving: Vec<Arc<Target>>, remotes: Vec<Arc<Remote>>) -> Self {
        Self { leaving, remotes, ..self }
    }

    /// Whether a replica on this node takes requests.
    pub(super) fn is_here(&self) -> bool {
        !self.targets.is_empty()
    }

    /// Where a request goes: to a replica on this node, if there is one; after one that is full, to the one with the most
    /// room.
    pub(super) fn look(&self, was_full: bool) -> Result<Picked, Refusal> {
        let picked = if was_full { self.emptiest() } else { self.pick() };
        match picked {
            Some(target) => Ok(Picked::Here(target.clone())),
            None if !self.remotes.is_empty() => Ok(Picked::There(self.service.clone())),
            None => Err(Refusal::NoReplica(self.service.clone())),
        }
    }

    /// A replica that stops, and still serves other nodes.
    pub(super) fn leaving(&self) -> Option<&Arc<Target>> {
        self.leaving.iter().min_by_key(|target| target.load())
    }

    /// Other nodes that have replicas.
    pub(crate) fn remotes(&self) -> &[Arc<Remote>] {
        &self.remotes
    }

    /// The less loaded of two, which are another two each time.
    pub(super) fn pick(&self) -> Option<&Arc<Target>> {
        let count = self.targets.len();
        if count < 2 {
            return self.targets.first();
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let first = turn % count;
        let distance = 1 + turn / count % (count - 1);
        let [first, second] = [&self.targets[first], &self.targets[(first + distance) % count]];
        Some(if second.load() < first.load() { second } else { first })
    }

    /// The one with the most room, for who found another one full.
    pub(super) fn emptiest(&self) -> Option<&Arc<Target>> {
        self.targets.iter().max_by_key(|target| target.room())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(routes: &[(Option<&str>, &str)]) -> Table<String> {
        let mut table = Table::default();
        for (host, path) in routes {
            let route = Route { host: host.map(str::to_owned), path: (*path).to_owned() };
            table.insert(&route, format!("{}{path}", host.unwrap_or("*")));
        }
        table
    }

    fn find<'t>(table: &'t Table<String>, host: &str, path: &str) -> Option<&'t str> {
        table.find(Some(host), path).map(String::as_str)
    }

    #[test]
    fn the_longest_prefix_of_whole_segments_wins() {
        let table = table(&[(Some("a"), "/"), (Some("a"), "/cart"), (Some("a"), "/cart/items/"), (None, "/other")]);
        assert_eq!(find(&table, "a", "/"), Some("a/"));
        assert_eq!(find(&table, "a", "/cartoon"), Some("a/"));
        assert_eq!(find(&table, "a", "/cart"), Some("a/cart"));
        assert_eq!(find(&table, "a", "/cart/"), Some("a/cart"));
        assert_eq!(find(&table, "a", "/cart/items"), Some("a/cart/items/"));
        assert_eq!(find(&table, "a", "/cart/items/7/x"), Some("a/cart/items/"));
        assert_eq!(find(&table, "a", "/cart/itemsx"), Some("a/cart"));
        assert_eq!(find(&table, "a", "/Cart"), Some("a/"));
        assert_eq!(find(&table, "b", "/cart"), None);
    }

    #[test]
    fn a_host_comes_before_any_host() {
        let table = table(&[(Some("a.example"), "/x"), (None, "/"), (None, "/x/y")]);
        assert_eq!(find(&table, "A.Example:8080", "/x/y"), Some("a.example/x"));
        assert_eq!(find(&table, "a.example.", "/x"), Some("a.example/x"));
        assert_eq!(find(&table, "a.example", "/z"), Some("*/"));
        assert_eq!(find(&table, "[::1]:80", "/x/y"), Some("*/x/y"));
        assert_eq!(table.find(None, "/x").map(String::as_str), Some("*/"));
    }

    #[test]
    fn a_path_of_many_segments_is_cheap() {
        let table = table(&[(Some("a"), "/x")]);
        let path = "/a".repeat(30_000);
        let start = std::time::Instant::now();
        for _ in 0..1000 {
            assert_eq!(find(&table, "a", &path), None);
        }
        assert!(start.elapsed().as_secs() < 2, "{:?}", start.elapsed());
    }

    proptest! {
        /// Against the obvious way: every route is tried, the longest that fits wins.
        #[test]
        fn finds_what_a_search_through_all_routes_finds(
            routes in prop::collection::btree_set("(/[ab]{1,2}){0,3}", 0..8),
            path in "(/[abc]{1,2}){0,4}/?",
        ) {
            let mut table = Table::default();
            for route in &routes {
                let path = if route.is_empty() { "/" } else { route };
                table.insert(&Route { host: None, path: path.to_owned() }, route.clone());
            }
            let fits = |route: &&String| {
                path.strip_prefix(route.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            let expected = routes.iter().filter(fits).max_by_key(|route| route.len());
            prop_assert_eq!(table.find(None, &path), expected);
        }
    }
}
