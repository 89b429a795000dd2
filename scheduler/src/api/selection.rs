//! Which objects a list or a watch is about, and their JSON form.

use serde_json::{Value, json};
use skiff_api::resource::{
    API_VERSION, ConfigSpec, ImagePolicySpec, JobSpec, NamespaceSpec, NodeSpec, ReplicaSpec, RevisionSpec, SecretSpec,
    Selector, ServiceSpec, TokenSpec,
};
use skiff_api::{Kind, Name};

use super::failure::{Result, invalid};
use crate::objects::{Indexed, decode, key};
use crate::store::Entry;

/// The objects of a kind, of one namespace or of all, whose labels match.
#[derive(Debug, Clone)]
pub(super) struct Selection {
    pub(super) kind: Kind,
    pub(super) namespace: Option<Name>,
    pub(super) labels: Selector,
}

/// An object as it goes over the wire.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) object: Value,
    pub(super) is_selected: bool,
}

impl Selection {
    pub(super) fn new(kind: Kind, namespace: Option<Name>, labels: Option<&str>) -> Result<Self> {
        let labels = labels.unwrap_or_default().parse().map_err(|error| invalid(format!("labelSelector: {error}")))?;
        Ok(Self { kind, namespace, labels })
    }

    pub(super) fn prefix(&self) -> String {
        key::prefix(self.kind, self.namespace.as_ref())
    }

    /// Reads through the type, so that an object from an older version has this version's defaults.
    pub(super) fn read(&self, entry: &Entry) -> Result<Found> {
        match self.kind {
            Kind::Namespace => self.typed::<NamespaceSpec>(entry),
            Kind::ImagePolicy => self.typed::<ImagePolicySpec>(entry),
            Kind::Config => self.typed::<ConfigSpec>(entry),
            Kind::Secret => self.typed::<SecretSpec>(entry),
            Kind::Service => self.typed::<ServiceSpec>(entry),
            Kind::Job => self.typed::<JobSpec>(entry),
            Kind::Node => self.typed::<NodeSpec>(entry),
            Kind::Revision => self.typed::<RevisionSpec>(entry),
            Kind::Replica => self.typed::<ReplicaSpec>(entry),
            Kind::Token => self.typed::<TokenSpec>(entry),
            Kind::Event => Err(invalid("events are not kept in the store").into()),
        }
    }

    fn typed<S: Indexed>(&self, entry: &Entry) -> Result<Found> {
        let object = decode::<S>(entry)?;
        let is_selected = self.labels.matches(&object.metadata.labels);
        Ok(Found { object: to_json(&object)?, is_selected })
    }

    /// `ServiceList` with its items.
    pub(super) fn list(&self, metadata: Value, items: Vec<Value>) -> Value {
        json!({"apiVersion": API_VERSION, "kind": format!("{}List", self.kind), "metadata": metadata, "items": items})
    }
}

pub(super) fn to_json<T: serde::Serialize>(object: &T) -> Result<Value> {
    serde_json::to_value(object).map_err(|error| {
        skiff_api::Problem::new(skiff_api::Code::Internal, format!("failed to write JSON: {error}")).into()
    })
}
