//! What a kind has in the store beside its object: the route index.

use std::collections::BTreeSet;

use skiff_api::ServiceKey;
use skiff_api::resource::{
    ConfigSpec, ImagePolicySpec, JobSpec, NamespaceSpec, NodeSpec, Object, ReplicaSpec, RevisionSpec, Route,
    SecretSpec, ServiceSpec, Spec, TokenSpec,
};

/// A kind that is kept in the store. (Events are not: they have a log of their own.)
pub trait Indexed: Spec {
    /// The routes that lead to the object. Each leads to one service only, which the store's transactions see to.
    fn routes(_object: &Object<Self>) -> BTreeSet<Route> {
        BTreeSet::new()
    }
}

impl Indexed for NamespaceSpec {}
impl Indexed for ImagePolicySpec {}
impl Indexed for ConfigSpec {}
impl Indexed for SecretSpec {}
impl Indexed for JobSpec {}
impl Indexed for NodeSpec {}
impl Indexed for RevisionSpec {}
impl Indexed for ReplicaSpec {}
impl Indexed for TokenSpec {}

impl Indexed for ServiceSpec {
    fn routes(object: &Object<Self>) -> BTreeSet<Route> {
        let Some(namespace) = object.metadata.namespace.clone() else { return BTreeSet::new() };
        match object.metadata.name.parse() {
            Ok(name) => routes_of(&ServiceKey { namespace, name }, &object.spec).into_iter().collect(),
            Err(_) => BTreeSet::new(),
        }
    }
}

/// The host of a service that names no routes. Browsers and resolvers take `.localhost` to the machine itself, so it
/// works without any name service.
pub fn default_host(service: &ServiceKey) -> String {
    format!("{}.{}.localhost", service.name, service.namespace)
}

/// Where a service is found: its routes, or every path of its default host. A worker is found nowhere.
pub fn routes_of(service: &ServiceKey, spec: &ServiceSpec) -> Vec<Route> {
    match spec.http.routes.as_slice() {
        _ if spec.is_worker() => Vec::new(),
        [] => vec![Route { host: Some(default_host(service)), path: "/".to_owned() }],
        routes => routes.to_vec(),
    }
}
