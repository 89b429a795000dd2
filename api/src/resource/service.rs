//! Services: workloads that are kept running.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::grant::{Allow, Privilege, ServicePattern};
use crate::id::{Name, RevisionName, ServiceKey};
use crate::image::ImageRef;
use crate::quantity::{Bytes, MilliCpu, Span, Timeout};
use crate::resource::{
    BucketGrant, Health, Home, Kind, Object, Offline, Placement, Port, Replicas, Resources, Runtime, Spec, Template,
    Update, Volume,
};

pub type Service = Object<ServiceSpec>;

/// What a service should be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// What to run. Stored with the digest that its tag had when it was applied.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub image: ImageRef,
    /// What runs it: `wasm`, or `docker` for containers. Default: what the image is for. An image of another kind is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
    /// Whether it runs on its own and answers no requests: its component exports `wasi:cli/run` and no handler. The image
    /// decides; who writes it down is told where the image is of the other kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<bool>,
    /// Arguments of the component behind its own name, or of a container behind its image's entry point.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Where a container listens. Requests go to the port called `http`, or to the only one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// How a replica is asked whether it is well: one that is not is started anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Who a container's processes are: `UID` or `UID:GID`. Default: what its image says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What a container has beyond the safe defaults, which its namespace grants: `writableRoot`, and capabilities.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub privileges: Vec<Privilege>,
    /// What a container keeps beside its image. With one that has a name, or that it writes to, the service is `exclusive`, and stays
    /// on the node that has it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// How many replicas to keep: a number, or `every-node`. Default 1.
    #[serde(default)]
    pub replicas: Replicas,
    #[serde(default)]
    pub http: Http,
    /// What placement reserves on a node for each replica. Default 1Mi and no CPU.
    #[serde(default = "Resources::small")]
    pub resources: Resources,
    /// What the sandboxes of one replica may use together.
    #[serde(default, skip_serializing_if = "ReplicaLimits::is_default")]
    pub limits: ReplicaLimits,
    /// The limits of one sandbox.
    #[serde(default)]
    pub instance: InstanceLimits,
    /// Environment variables of the component.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Configs whose values it reads, through `wasi:config`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub config: Vec<Name>,
    /// Secrets whose values it reads, in the same way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Name>,
    /// Those of its Configs and Secrets whose keys are environment variables as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env_from: Vec<Name>,
    /// Buckets that it uses, through `wasi:keyvalue`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keyvalue: Vec<BucketGrant>,
    /// What its guests may reach. Default: nothing. Never more than its namespace grants.
    #[serde(default, skip_serializing_if = "Allow::is_empty")]
    pub allow: Allow,
    /// Where replicas may run, and where they should.
    #[serde(default, skip_serializing_if = "Placement::is_default")]
    pub placement: Placement,
    /// How one revision follows another.
    #[serde(default, skip_serializing_if = "Update::is_default")]
    pub update: Update,
    /// What happens when a node and the control plane lose each other.
    #[serde(default, skip_serializing_if = "Offline::is_default")]
    pub offline: Offline,
    /// At most one copy of it runs in the whole cluster, by a lease of its node: the old one has ended before a new one starts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exclusive: bool,
    /// When all its replicas were last asked to be new ones: another time makes a new revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, format = DateTime))]
    pub restarted_at: Option<Timestamp>,
}

impl ServiceSpec {
    /// A service that runs `image`, with every default.
    pub fn new(image: ImageRef) -> Self {
        Self {
            image,
            runtime: None,
            worker: None,
            args: Vec::new(),
            ports: Vec::new(),
            health: None,
            user: None,
            privileges: Vec::new(),
            volumes: Vec::new(),
            replicas: Replicas::default(),
            http: Http::default(),
            resources: Resources::small(),
            limits: ReplicaLimits::default(),
            instance: InstanceLimits::default(),
            env: BTreeMap::new(),
            config: Vec::new(),
            secrets: Vec::new(),
            env_from: Vec::new(),
            keyvalue: Vec::new(),
            allow: Allow::default(),
            placement: Placement::default(),
            update: Update::default(),
            offline: Offline::default(),
            exclusive: false,
            restarted_at: None,
        }
    }

    /// Whether it runs on its own, and nothing is sent to it.
    pub fn is_worker(&self) -> bool {
        self.worker == Some(true)
    }

    /// Whether at most one copy of it may run.
    pub fn is_exclusive(&self) -> bool {
        self.exclusive || self.bound_by().is_some()
    }

    /// The volume that keeps it on one node, if there is one.
    pub fn bound_by(&self) -> Option<&Volume> {
        self.volumes.iter().find(|volume| volume.binds())
    }

    /// The part of the spec that a replica is made from: a change of it makes a new revision.
    pub fn template(&self) -> Template {
        Template {
            image: self.image.clone(),
            runtime: self.runtime,
            args: self.args.clone(),
            ports: self.ports.clone(),
            health: self.health.clone(),
            user: self.user.clone(),
            privileges: self.privileges.clone(),
            volumes: self.volumes.clone(),
            timeout: self.http.timeout.clone(),
            in_flight: self.http.in_flight,
            resources: self.resources,
            limits: self.limits,
            instance: self.instance.clone(),
            env: self.env.clone(),
            config: self.config.clone(),
            secrets: self.secrets.clone(),
            env_from: self.env_from.clone(),
            keyvalue: self.keyvalue.clone(),
            allow: self.allow.clone(),
            exclusive: self.exclusive,
            restarted_at: self.restarted_at,
        }
    }

    /// Takes over what replicas are made from; all else stays.
    pub fn roll_back(&mut self, template: Template) {
        // No `..`: what a template gets, goes back as well.
        let Template {
            image,
            runtime,
            args,
            ports,
            health,
            user,
            privileges,
            volumes,
            timeout,
            in_flight,
            resources,
            limits,
            instance,
            env,
            config,
            secrets,
            env_from,
            keyvalue,
            allow,
            exclusive,
            restarted_at,
        } = template;
        self.image = image;
        self.runtime = runtime;
        self.args = args;
        self.ports = ports;
        self.health = health;
        self.user = user;
        self.privileges = privileges;
        self.volumes = volumes;
        self.http.timeout = timeout;
        self.http.in_flight = in_flight;
        self.resources = resources;
        self.limits = limits;
        self.instance = instance;
        self.env = env;
        self.config = config;
        self.secrets = secrets;
        self.env_from = env_from;
        self.keyvalue = keyvalue;
        self.allow = allow;
        self.exclusive = exclusive;
        self.restarted_at = restarted_at;
    }
}

/// How a service is reached over HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Http {
    /// Where the gateway finds it. Default: host `NAME.NAMESPACE.localhost`, every path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    #[serde(default)]
    pub timeout: HttpTimeout,
    /// Requests at once per replica; more wait in a queue of the same length. Default 64.
    #[serde(default = "Http::default_in_flight")]
    pub in_flight: u32,
    /// Which services may call it: `NAME`, `NAME.NAMESPACE`, `NAMESPACE/*` or `*`. Default: those of its own namespace.
    #[serde(default, skip_serializing_if = "Callers::is_default")]
    pub callers: Callers,
}

/// Which services may call a service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Callers(
    /// `None`: those of its own namespace. An empty list is nobody.
    pub Option<Vec<ServicePattern>>,
);

impl Callers {
    pub fn is_default(&self) -> bool {
        self.0.is_none()
    }

    /// Whether `caller` may call a service of the namespace `own`.
    pub fn include(&self, own: &Name, caller: &ServiceKey) -> bool {
        match &self.0 {
            None => caller.namespace == *own,
            Some(patterns) => patterns.iter().any(|pattern| pattern.matches(own, caller)),
        }
    }
}

#[cfg(feature = "schema")]
impl utoipa::PartialSchema for Callers {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        <Vec<String> as utoipa::PartialSchema>::schema()
    }
}

#[cfg(feature = "schema")]
impl utoipa::ToSchema for Callers {}

impl Http {
    fn default_in_flight() -> u32 {
        64
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            timeout: HttpTimeout::default(),
            in_flight: Self::default_in_flight(),
            callers: Callers::default(),
        }
    }
}

/// How long a request may take, from the gateway's point of view.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct HttpTimeout {
    /// From the whole request head to the response head. Default 5s.
    #[serde(default = "HttpTimeout::default_first_byte")]
    pub first_byte: Timeout,
    /// Between two pieces of the response body. Default 30s.
    #[serde(default = "HttpTimeout::default_idle")]
    pub idle: Timeout,
    /// From the request head to the end of the response. Default none.
    #[serde(default = "HttpTimeout::default_total")]
    pub total: Timeout,
}

impl HttpTimeout {
    fn default_first_byte() -> Timeout {
        Timeout::After(Span::from_secs(5))
    }

    fn default_idle() -> Timeout {
        Timeout::After(Span::from_secs(30))
    }

    fn default_total() -> Timeout {
        Timeout::None
    }
}

impl Default for HttpTimeout {
    fn default() -> Self {
        Self { first_byte: Self::default_first_byte(), idle: Self::default_idle(), total: Self::default_total() }
    }
}

/// A host and a path prefix that lead to a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Route {
    /// The host name, without a port, in lower case. Default: any host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// A path prefix that matches whole segments. Default `/`.
    #[serde(default = "Route::root")]
    pub path: String,
}

impl Route {
    fn root() -> String {
        "/".to_owned()
    }
}

/// What the sandboxes of one replica may use together. Beyond it requests wait, then get a 503.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ReplicaLimits {
    /// The sum of all instances' linear memories and tables. Default 1Gi, or `instance.memory` if that is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Processor seconds a second. Default: as much as the node has to spare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<MilliCpu>,
}

impl ReplicaLimits {
    /// Sixteen sandboxes at their own limit, hundreds of usual ones; no share that a machine of 2 GiB would miss.
    const MEMORY_DEFAULT: Bytes = Bytes::mebi(1024);

    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The memory that holds where `instance` is the limit of one sandbox.
    pub fn memory_or_default(&self, instance: &InstanceLimits) -> Bytes {
        self.memory.unwrap_or(Self::MEMORY_DEFAULT.max(instance.memory))
    }
}

/// The limits of one sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct InstanceLimits {
    /// The sum of an instance's linear memories and tables. Default 64Mi.
    #[serde(default = "InstanceLimits::default_memory")]
    pub memory: Bytes,
    /// Requests that one instance may serve, one after another. Default 1: each request has a fresh one.
    #[serde(default = "InstanceLimits::default_requests")]
    pub requests: u32,
    /// How long an instance that may serve more waits for its next request before it ends. Default 1s.
    #[serde(default = "InstanceLimits::default_idle")]
    pub idle: Span,
}

impl InstanceLimits {
    fn default_memory() -> Bytes {
        Bytes::mebi(64)
    }

    fn default_requests() -> u32 {
        1
    }

    pub(crate) fn default_idle() -> Span {
        Span::from_secs(1)
    }
}

impl Default for InstanceLimits {
    fn default() -> Self {
        Self { memory: Self::default_memory(), requests: Self::default_requests(), idle: Self::default_idle() }
    }
}

/// What is known of a service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceStatus {
    /// The generation that the controllers have seen.
    pub observed_generation: u64,
    /// Replicas that exist.
    pub replicas: u32,
    /// Replicas of the newest revision.
    pub updated: u32,
    /// Replicas that answer requests.
    pub ready: u32,
    /// The newest revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<RevisionName>,
    /// The node that has its volumes, once one has: a copy runs there or nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home: Option<Home>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl ServiceStatus {
    pub fn condition(&self, name: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.name == name)
    }
}

/// One aspect of an object's state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Ready`: as many replicas of the newest revision answer as are wanted.
    #[serde(rename = "type")]
    pub name: String,
    pub status: bool,
    /// One word for programs.
    pub reason: String,
    /// One sentence for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    #[cfg_attr(feature = "schema", schema(value_type = String, format = DateTime))]
    pub since: Timestamp,
}

impl Spec for ServiceSpec {
    const KIND: Kind = Kind::Service;
    type Status = ServiceStatus;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn going_back_takes_all_of_a_template_and_nothing_else() {
        let mut old = ServiceSpec::new("cart:1".parse().unwrap());
        old.http.in_flight = 3;
        old.args.push("--loud".to_owned());
        old.env.insert("LOG".to_owned(), "debug".to_owned());
        old.limits.memory = Some(Bytes::mebi(3));
        old.restarted_at = Some(Timestamp::UNIX_EPOCH);
        let mut new = ServiceSpec::new("cart:2".parse().unwrap());
        new.http.routes = vec![Route { host: None, path: "/".to_owned() }];
        let routes = new.http.routes.clone();
        new.roll_back(old.template());
        assert_eq!(new.template(), old.template());
        assert_eq!(new.http.routes, routes);
    }
}
