//! The resources of the API: what is stored, listed, watched and applied.
//!
//! On the wire an object is an envelope of `apiVersion`, `kind`, `metadata`, `spec` and `status`, shaped as Kubernetes
//! shapes it. These types are what machines keep and exchange: readers ignore fields that they do not know, so that a
//! version talks to its neighbour. Strictness towards people is [`crate::manifest`]'s.

mod config;
mod container;
mod event;
mod health;
mod job;
mod keyvalue;
mod kind;
mod meta;
mod namespace;
mod node;
mod object;
mod placement;
mod policy;
mod redis;
mod replica;
mod revision;
mod selector;
mod service;
mod token;
mod update;
mod volume;

pub use config::{Config, ConfigSpec, ConfigStatus, Secret, SecretSpec, SecretStatus, SecretText};
pub use container::{HTTP_PORT, Port, Runtime, http_port};
pub use event::{Event, EventSpec, EventStatus, EventType, ObjectRef};
pub use health::Health;
pub use job::{Concurrency, Forgotten, History, Job, JobSpec, JobStatus};
pub use keyvalue::{BucketGrant, BucketScope};
pub use kind::{Kind, UnknownKind};
pub use meta::{Metadata, Owner};
pub use namespace::{
    DEFAULT_NAMESPACE, Namespace, NamespaceSpec, NamespaceStatus, Quota, RESERVED_NAMESPACES, Strategy,
};
pub use node::{
    Effect, EngineReport, InvalidTaint, Liveness, NODE_LABEL, Node, NodeChange, NodeSpec, NodeStatus, Resources, Taint,
    TaintName, own_labels,
};
pub use object::{API_VERSION, Object, Spec};
pub use placement::{InvalidToleration, Placement, Replicas, Toleration, ZONE};
pub use policy::{ImagePolicy, ImagePolicySpec, ImagePolicyStatus};
pub use redis::{InvalidRedisUrl, RedisUrl};
pub use replica::{INTERRUPTED, Phase, Replica, ReplicaSpec, ReplicaStatus};
pub use revision::{Revision, RevisionSpec, RevisionStatus, Template};
pub use selector::{InvalidSelector, Selector};
pub use selector::{is_label_key, is_label_value};
pub use service::{
    Callers, Condition, Http, HttpTimeout, InstanceLimits, ReplicaLimits, Route, Service, ServiceSpec, ServiceStatus,
};
pub use token::{Token, TokenCreated, TokenRequest, TokenSpec, TokenState, TokenStatus};
pub use update::{Offline, Update};
pub use volume::{Home, Volume};
