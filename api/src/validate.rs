//! What the types alone cannot say about an object: ranges, names, and fields that must agree.
//!
//! Pure, and shared by the manifest reader (which adds line and column) and the API server.

mod config;
mod container;
mod exclusive;
mod health;
mod job;
mod volume;

pub use config::{DATA_BYTES_MAX, config, secret};
pub use job::job;

use std::collections::{BTreeMap, BTreeSet};

use crate::grant::{Allow, Grants};
use crate::quantity::{Bytes, MilliCpu, Span, Timeout};
use crate::resource::{
    ImagePolicy, InstanceLimits, Metadata, Namespace, NodeSpec, NodeStatus, Offline, Placement, RESERVED_NAMESPACES,
    Route, Service, ServiceSpec,
};

/// Far above any service, far below what would hurt the store.
const REPLICAS_MAX: u32 = 10_000;
/// As many requests at once as a node's pool has places for.
const IN_FLIGHT_MAX: u32 = 10_000;
/// A component's smallest useful memory: the shadow stack and a page.
const INSTANCE_MEMORY_MIN: Bytes = Bytes::kibi(64);
/// The address space of a 32-bit memory.
const INSTANCE_MEMORY_MAX: Bytes = Bytes::mebi(4096);
/// Beyond this nobody notices the cost of a fresh instance any more.
const INSTANCE_REQUESTS_MAX: u32 = 1_000_000;
/// An instance that waits holds its memory, which nobody else then has.
const INSTANCE_IDLE_MAX: Span = Span::from_secs(3600);
/// Less is used up by starting an instance.
const LIMIT_CPU_MIN: MilliCpu = MilliCpu(10);
/// More than any machine has.
const MEMORY_LIMIT_MAX: Bytes = Bytes(1 << 50);
const CPU_LIMIT_MAX: MilliCpu = MilliCpu(1_000_000_000);
/// A transaction of the store takes 128 operations, and a write may replace every route by another.
const ROUTES_MAX: usize = 60;
/// Host and path together are a key of the store, which has 1,024 bytes at most.
const PATH_BYTES_MAX: usize = 512;
/// DNS's limit on a host name.
const HOST_BYTES_MAX: usize = 253;
/// All of a service's environment, so that a desired set stays small enough to send.
const ENV_BYTES_MAX: usize = 64 << 10;
/// Arguments together, for the same reason.
const ARGS_BYTES_MAX: usize = 64 << 10;
const ARGS_MAX: usize = 1000;
/// Entries of one list of grants. Each call goes through them, so that many of them would cost every call.
const GRANTS_MAX: usize = 100;

/// Entries of a list of a placement. Each is compared with every node.
const PLACEMENT_MAX: usize = 32;
/// What is more is no longer a rollout but a pause.
const HEALTHY_MAX: Span = Span::from_secs(3600);
/// Longer than any machine is away by plan; whoever means for ever says so.
const REPLACE_AFTER_MAX: Span = Span::from_secs(30 * 24 * 3600);
/// Each key is tried on each signature, by nodes too.
const POLICY_KEYS_MAX: usize = 16;
const POLICY_REPOSITORIES_MAX: usize = 64;
const NODE_LABELS_MAX: usize = 100;

/// Something that is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The field's path in the spec (`http.routes[0].path`), or `metadata.` and its path there.
    pub field: String,
    pub message: String,
    pub hint: Option<String>,
}

impl Fault {
    fn new(field: impl Into<String>, message: impl Into<String>, hint: &str) -> Self {
        let hint = (!hint.is_empty()).then(|| hint.to_owned());
        Self { field: field.into(), message: message.into(), hint }
    }
}

/// Everything that is wrong with a service, in the order of its fields.
pub fn service(service: &Service) -> Vec<Fault> {
    let mut faults = metadata(&service.metadata);
    faults.extend(spec(&service.spec));
    faults
}

/// Everything that is wrong with a namespace.
pub fn namespace(namespace: &Namespace) -> Vec<Fault> {
    let mut faults = metadata(&namespace.metadata);
    let name = namespace.metadata.name.as_str();
    if RESERVED_NAMESPACES.contains(&name) {
        let hint = "its internal host names would read as a cloud's metadata service; choose another name";
        faults.push(Fault::new("metadata.name", format!("the namespace {name:?} is reserved"), hint));
    }
    let Grants { services, http, private, tcp, host_paths, privileges } = &namespace.spec.allow;
    let lists = [
        ("allow.services", services.len()),
        ("allow.http", http.len()),
        ("allow.private", private.len()),
        ("allow.tcp", tcp.len()),
        ("allow.hostPaths", host_paths.len()),
        ("allow.privileges", privileges.len()),
    ];
    faults.extend(too_many_grants(lists));
    for (i, pattern) in tcp.iter().enumerate().filter(|(_, pattern)| pattern.service().is_some()) {
        let message = format!("{pattern} is a service of this cluster");
        faults.push(Fault::new(format!("allow.tcp[{i}]"), message, "grant it by allow.services: [NAME.NAMESPACE]"));
    }
    faults
}

/// Everything that is wrong with an image policy.
pub fn image_policy(policy: &ImagePolicy) -> Vec<Fault> {
    let mut faults = metadata(&policy.metadata);
    let spec = &policy.spec;
    if spec.repositories.is_empty() {
        let hint = "leave it out for all images, or write some, such as \"ghcr.io/acme/*\"";
        faults.push(Fault::new("repositories", "it covers nothing", hint));
    }
    if spec.repositories.len() > POLICY_REPOSITORIES_MAX {
        let message = format!(
            "{} entries are more than the {POLICY_REPOSITORIES_MAX} that a policy may have",
            spec.repositories.len()
        );
        faults.push(Fault::new("repositories", message, "use \"NAMESPACE/*\", or several policies"));
    }
    if spec.keys.is_empty() {
        let hint = "write at least one public key; `skiff sign --generate-key FILE` makes a pair";
        faults.push(Fault::new("keys", "there is no key, so nobody could have signed", hint));
    }
    if spec.keys.len() > POLICY_KEYS_MAX {
        let message = format!("{} keys are more than the {POLICY_KEYS_MAX} that a policy may have", spec.keys.len());
        faults.push(Fault::new("keys", message, "take away those that are not in use"));
    }
    let mut seen = BTreeSet::new();
    for (i, _) in spec.keys.iter().enumerate().filter(|(_, key)| !seen.insert(*key)) {
        faults.push(Fault::new(format!("keys[{i}]"), "the key is there twice", "remove one of the two"));
    }
    faults
}

fn metadata(metadata: &Metadata) -> Vec<Fault> {
    let mut faults = Vec::new();
    if let Err(error) = metadata.name.parse::<crate::id::Name>() {
        faults.push(Fault::new("metadata.name", error.to_string(), ""));
    }
    for (key, value) in &metadata.labels {
        if !crate::resource::is_label_key(key) {
            let hint = "a key is [PREFIX/]NAME of letters, digits, '-', '_' and '.'";
            faults.push(Fault::new("metadata.labels", format!("{} is not a label's key", quoted(key)), hint));
        } else if !crate::resource::is_label_value(value) {
            let hint = "up to 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends";
            let field = format!("metadata.labels.{key}");
            faults.push(Fault::new(field, format!("{} is not a label's value", quoted(value)), hint));
        }
    }
    for key in metadata.annotations.keys().filter(|key| !crate::resource::is_label_key(key)) {
        let hint = "a key is [PREFIX/]NAME of letters, digits, '-', '_' and '.'";
        faults.push(Fault::new("metadata.annotations", format!("{} is not an annotation's key", quoted(key)), hint));
    }
    faults
}

fn spec(spec: &ServiceSpec) -> Vec<Fault> {
    let mut faults = Vec::new();
    if spec.replicas.count().is_some_and(|count| count > REPLICAS_MAX) {
        let message = format!("{} replicas are more than the {REPLICAS_MAX} that a service may have", spec.replicas);
        faults.push(Fault::new("replicas", message, ""));
    }
    args(&spec.args, &mut faults);
    placement(&spec.placement, &mut faults);
    update(spec, &mut faults);
    routes(&spec.http.routes, &mut faults);
    let timeout = &spec.http.timeout;
    for (name, value) in [("firstByte", timeout.first_byte), ("idle", timeout.idle), ("total", timeout.total)] {
        if matches!(value, Timeout::After(span) if span.as_ms() == 0) {
            let hint = "write a span above zero, or `none` for no limit";
            faults.push(Fault::new(format!("http.timeout.{name}"), "a timeout of zero would end every request", hint));
        }
    }
    if !(1..=IN_FLIGHT_MAX).contains(&spec.http.in_flight) {
        let message = format!("{} is not between 1 and {IN_FLIGHT_MAX}", spec.http.in_flight);
        faults.push(Fault::new("http.inFlight", message, ""));
    }
    if !(INSTANCE_MEMORY_MIN..=INSTANCE_MEMORY_MAX).contains(&spec.instance.memory) {
        let message =
            format!("{} is not between {INSTANCE_MEMORY_MIN} and {INSTANCE_MEMORY_MAX}", spec.instance.memory);
        faults.push(Fault::new("instance.memory", message, ""));
    }
    limits(spec, &mut faults);
    // Sums over all replicas of a node must not overflow.
    if spec.resources.memory > MEMORY_LIMIT_MAX {
        faults.push(Fault::new(
            "resources.memory",
            format!("{} is more than any machine has", spec.resources.memory),
            "",
        ));
    }
    if spec.resources.cpu > CPU_LIMIT_MAX {
        faults.push(Fault::new("resources.cpu", format!("{} is more than any machine has", spec.resources.cpu), ""));
    }
    container::check(spec, &mut faults);
    health::check(spec, &mut faults);
    exclusive::check(spec, &mut faults);
    volume::check(spec, &mut faults);
    env(&spec.env, &mut faults);
    config::sources(spec, &mut faults);
    let Allow { services, http, private, tcp } = &spec.allow;
    let callers = spec.http.callers.0.as_ref().map_or(0, Vec::len);
    let lists = [
        ("allow.services", services.len()),
        ("allow.http", http.len()),
        ("allow.private", private.len()),
        ("allow.tcp", tcp.len()),
    ];
    faults.extend(too_many_grants([("http.callers", callers)].into_iter().chain(lists)));
    faults
}

fn placement(placement: &Placement, faults: &mut Vec<Fault>) {
    let (require, prefer) = (placement.require.len(), placement.prefer.len());
    let lists = [
        ("placement.require", require),
        ("placement.prefer", prefer),
        ("placement.tolerate", placement.tolerate.len()),
    ];
    for (field, entries) in lists.into_iter().filter(|(_, entries)| *entries > PLACEMENT_MAX) {
        let message = format!("{entries} entries are more than the {PLACEMENT_MAX} that it may have");
        faults.push(Fault::new(field, message, ""));
    }
    let preferred = placement.prefer.iter().enumerate().map(|(i, labels)| (format!("placement.prefer[{i}]"), labels));
    for (field, labels) in [("placement.require".to_owned(), &placement.require)].into_iter().chain(preferred) {
        labels_of(&field, labels, faults);
    }
    if let Some(key) = placement.spread.as_ref().filter(|key| !crate::resource::is_label_key(key)) {
        let hint = "name a label of nodes, such as zone";
        faults.push(Fault::new("placement.spread", format!("{} is not a label's key", quoted(key)), hint));
    }
}

fn update(spec: &ServiceSpec, faults: &mut Vec<Fault>) {
    let update = &spec.update;
    if update.surge == 0 && update.unavailable == 0 {
        let hint = "raise update.surge to start new replicas first, or update.unavailable to stop old ones first";
        faults.push(Fault::new("update.surge", "with neither surge nor unavailable no update could begin", hint));
    }
    if update.surge > REPLICAS_MAX || update.unavailable > REPLICAS_MAX {
        let message = format!("more than the {REPLICAS_MAX} replicas that a service may have");
        faults.push(Fault::new("update", message, ""));
    }
    if update.healthy > HEALTHY_MAX {
        faults.push(Fault::new("update.healthy", format!("{} is more than {HEALTHY_MAX}", update.healthy), ""));
    }
    if let Timeout::After(span) = spec.offline.replace_after
        && !(Offline::REPLACE_AFTER_MIN..=REPLACE_AFTER_MAX).contains(&span)
    {
        let (least, most) = (Offline::REPLACE_AFTER_MIN, REPLACE_AFTER_MAX);
        let hint = "a node that was just lost may be back in a moment; write `none` to wait for it for ever";
        faults.push(Fault::new("offline.replaceAfter", format!("{span} is not between {least} and {most}"), hint));
    }
}

/// More than a host name may have.
const NODE_NAME_BYTES_MAX: usize = 253;

/// Whether a node may be called so: it is part of paths, and of host names.
pub fn is_node_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !matches!(name, "" | "." | "..") && name.len() <= NODE_NAME_BYTES_MAX && name.bytes().all(allowed)
}

/// Everything that is wrong with what people set on a node.
pub fn node(labels: &BTreeMap<String, String>, spec: &NodeSpec) -> Vec<Fault> {
    let mut faults = Vec::new();
    labels_of("labels", labels, &mut faults);
    if labels.len() > NODE_LABELS_MAX || spec.taints.len() > NODE_LABELS_MAX {
        let message = format!("more than the {NODE_LABELS_MAX} labels or taints that a node may have");
        faults.push(Fault::new("labels", message, ""));
    }
    let own = crate::resource::own_labels("", &NodeStatus::default());
    for (key, _) in own.into_iter().filter(|(key, _)| labels.contains_key(*key)) {
        let hint = "a node says its own name, site, os and arch; choose another key";
        faults.push(Fault::new(format!("labels.{key}"), "this label is the node's own", hint));
    }
    faults
}

fn labels_of(field: &str, labels: &BTreeMap<String, String>, faults: &mut Vec<Fault>) {
    for (key, value) in labels {
        if !crate::resource::is_label_key(key) {
            let hint = "a key is [PREFIX/]NAME of letters, digits, '-', '_' and '.'";
            faults.push(Fault::new(field, format!("{} is not a label's key", quoted(key)), hint));
        } else if !crate::resource::is_label_value(value) && key != crate::resource::NODE_LABEL {
            let hint = "up to 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends";
            let field = format!("{field}.{key}");
            faults.push(Fault::new(field, format!("{} is not a label's value", quoted(value)), hint));
        }
    }
}

fn limits(spec: &ServiceSpec, faults: &mut Vec<Fault>) {
    let instance = &spec.instance;
    if !(1..=INSTANCE_REQUESTS_MAX).contains(&instance.requests) {
        let message = format!("{} is not between 1 and {INSTANCE_REQUESTS_MAX}", instance.requests);
        faults.push(Fault::new("instance.requests", message, "1 gives each request an instance of its own"));
    }
    if instance.idle.as_ms() == 0 || instance.idle > INSTANCE_IDLE_MAX {
        let message = format!("{} is not above 0s and up to {INSTANCE_IDLE_MAX}", instance.idle);
        faults.push(Fault::new("instance.idle", message, ""));
    } else if instance.requests == 1 && instance.idle != InstanceLimits::default().idle {
        let hint = "leave it out, or raise instance.requests";
        faults.push(Fault::new("instance.idle", "an instance that serves one request is never idle", hint));
    }
    // A container has no instances.
    let least = if container::is_one(spec) { Bytes(1) } else { instance.memory };
    if let Some(memory) = spec.limits.memory
        && !(least..=MEMORY_LIMIT_MAX).contains(&memory)
    {
        let message = format!("{memory} is not between instance.memory ({}) and {MEMORY_LIMIT_MAX}", instance.memory);
        faults.push(Fault::new("limits.memory", message, "all instances share it, so one must fit"));
    }
    if let Some(cpu) = spec.limits.cpu
        && !(LIMIT_CPU_MIN..=CPU_LIMIT_MAX).contains(&cpu)
    {
        let message = format!("{cpu} is not between {LIMIT_CPU_MIN} and {CPU_LIMIT_MAX}");
        faults.push(Fault::new("limits.cpu", message, "leave it out for no limit"));
    }
}

fn too_many_grants(lists: impl IntoIterator<Item = (&'static str, usize)>) -> impl Iterator<Item = Fault> {
    lists.into_iter().filter(|(_, entries)| *entries > GRANTS_MAX).map(|(field, entries)| {
        let message = format!("{entries} entries are more than the {GRANTS_MAX} that a list may have");
        Fault::new(field, message, "use `*`, `NAMESPACE/*` or `https://*.example.com`")
    })
}

fn routes(routes: &[Route], faults: &mut Vec<Fault>) {
    if routes.len() > ROUTES_MAX {
        let message = format!("{} routes are more than the {ROUTES_MAX} that a service may have", routes.len());
        faults.push(Fault::new("http.routes", message, ""));
    }
    let mut seen = BTreeSet::new();
    for (i, route) in routes.iter().enumerate() {
        if let Some(host) = &route.host
            && !is_host(host)
        {
            let hint = "write a host name in lower case, without a scheme or port, such as shop.example.com";
            let message = format!("{} is not a host name", quoted(host));
            faults.push(Fault::new(format!("http.routes[{i}].host"), message, hint));
        }
        if let Some(why) = path_fault(&route.path) {
            let hint = "a path starts with '/', such as /cart, and matches whole segments";
            let message = format!("{} is not a path to route by: {why}", quoted(&route.path));
            faults.push(Fault::new(format!("http.routes[{i}].path"), message, hint));
        }
        if !seen.insert((&route.host, route.path.trim_end_matches('/'))) {
            let message = format!("the route {} is there twice", shown(route));
            faults.push(Fault::new(format!("http.routes[{i}]"), message, "remove one of the two"));
        }
    }
}

fn shown(route: &Route) -> String {
    format!("{}{}", route.host.as_deref().unwrap_or("*"), route.path)
}

fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= HOST_BYTES_MAX && host.split('.').all(label)
}

fn path_fault(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') {
        return Some("it does not start with '/'");
    }
    if path.len() > PATH_BYTES_MAX {
        return Some("it is too long");
    }
    if path.contains("//") {
        return Some("it has an empty segment");
    }
    if path.split('/').any(|segment| segment == "." || segment == "..") {
        return Some("it has a '.' or '..' segment");
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&b);
    match path.bytes().all(allowed) {
        true => None,
        false => Some("it has a character that a path cannot have unescaped"),
    }
}

fn args(args: &[String], faults: &mut Vec<Fault>) {
    let bytes: usize = args.iter().map(String::len).sum();
    if args.len() > ARGS_MAX || bytes > ARGS_BYTES_MAX {
        let message = format!(
            "{} arguments of {bytes} bytes are more than the {ARGS_MAX} of {ARGS_BYTES_MAX} that are allowed",
            args.len()
        );
        faults.push(Fault::new("args", message, ""));
    }
    for (i, _) in args.iter().enumerate().filter(|(_, arg)| arg.contains('\0')) {
        faults.push(Fault::new(format!("args[{i}]"), "the argument has a NUL character", ""));
    }
}

fn env(env: &BTreeMap<String, String>, faults: &mut Vec<Fault>) {
    for (key, value) in env {
        if !is_variable(key) {
            let hint = "letters, digits and '_', not starting with a digit";
            faults.push(Fault::new("env", format!("{} is not a variable's name", quoted(key)), hint));
        } else if value.contains('\0') {
            faults.push(Fault::new(format!("env.{key}"), "the value has a NUL character", ""));
        }
    }
    let bytes: usize = env.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > ENV_BYTES_MAX {
        let message = format!("{bytes} bytes of names and values are more than the {ENV_BYTES_MAX} that are allowed");
        faults.push(Fault::new("env", message, ""));
    }
}

/// Whether an environment variable may be called so.
pub fn is_variable(name: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    name.bytes().next().is_some_and(|b| is_word(b) && !b.is_ascii_digit()) && name.bytes().all(is_word)
}

fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(80).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(change: impl FnOnce(&mut Service)) -> Vec<String> {
        let metadata = Metadata::new("default".parse().ok(), "cart");
        let mut object = Service::new(metadata, ServiceSpec::new("cart".parse().unwrap()));
        change(&mut object);
        service(&object).into_iter().map(|fault| format!("{}: {}", fault.field, fault.message)).collect()
    }

    fn route(host: Option<&str>, path: &str) -> Route {
        Route { host: host.map(str::to_owned), path: path.to_owned() }
    }

    #[test]
    fn a_plain_service_is_fine() {
        assert!(faults(|_| ()).is_empty());
    }

    #[test]
    fn routes_are_checked() {
        for bad in ["", "cart", "//", "/a//b", "/a/../b", "/a?b", "/a b", "/%2e"] {
            assert_eq!(faults(|s| s.spec.http.routes = vec![route(None, bad)]).len(), 1, "{bad}");
        }
        for bad in ["", "Shop.example.com", "http://a", "a:80", "a..b", "-a"] {
            assert_eq!(faults(|s| s.spec.http.routes = vec![route(Some(bad), "/")]).len(), 1, "{bad}");
        }
        let twice = faults(|s| s.spec.http.routes = vec![route(None, "/a"), route(None, "/a/")]);
        assert_eq!(twice, ["http.routes[1]: the route */a/ is there twice"]);
    }

    #[test]
    fn limits_that_fit_each_other_are_fine() {
        let faults = faults(|s| {
            s.spec.instance.requests = 10_000;
            s.spec.instance.idle = "2s".parse().unwrap();
            s.spec.limits.memory = Some(s.spec.instance.memory);
            s.spec.limits.cpu = Some(MilliCpu(100));
        });
        assert!(faults.is_empty(), "{faults:?}");
    }

    #[test]
    fn ranges_are_checked() {
        assert_eq!(faults(|s| s.spec.replicas = 10_001.into()).len(), 1);
        assert_eq!(faults(|s| s.spec.update.surge = 0).len(), 1);
        assert_eq!(faults(|s| s.spec.offline.replace_after = Timeout::After("4s".parse().unwrap())).len(), 1);
        assert_eq!(faults(|s| s.spec.offline.replace_after = Timeout::None).len(), 0);
        assert_eq!(faults(|s| drop(s.spec.placement.require.insert("a b".into(), String::new()))).len(), 1);
        assert_eq!(faults(|s| s.spec.placement.spread = Some("a b".into())).len(), 1);
        assert_eq!(faults(|s| s.spec.http.in_flight = 0).len(), 1);
        assert_eq!(faults(|s| s.spec.instance.memory = Bytes(1)).len(), 1);
        assert_eq!(faults(|s| s.spec.instance.requests = 0).len(), 1);
        assert_eq!(faults(|s| s.spec.instance.idle = "0s".parse().unwrap()).len(), 1);
        assert_eq!(faults(|s| s.spec.instance.idle = "2s".parse().unwrap()).len(), 1, "it would have no effect");
        assert_eq!(faults(|s| s.spec.limits.memory = Some(Bytes::mebi(63))).len(), 1, "less than one instance's");
        assert_eq!(faults(|s| s.spec.limits.cpu = Some(MilliCpu(9))).len(), 1);
        assert_eq!(faults(|s| s.spec.http.timeout.idle = "0s".parse().unwrap()).len(), 1);
        assert_eq!(faults(|s| s.spec.args = vec!["a\0".to_owned()]).len(), 1);
        assert_eq!(faults(|s| s.spec.args = vec!["a".repeat(33_000); 2]).len(), 1);
        assert_eq!(faults(|s| drop(s.spec.env.insert("1A".into(), String::new()))).len(), 1);
        assert_eq!(faults(|s| drop(s.metadata.labels.insert("a b".into(), String::new()))).len(), 1);
    }
}
