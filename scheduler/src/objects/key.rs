//! Which key holds what.
//!
//! ```text
//! /objects/{plural}/{namespace or -}/{name}    the object, as JSON
//! /applied/{plural}/{namespace or -}/{name}    the document that was last applied to it
//! /routes/{host or *}{path}/                   NAMESPACE/NAME of the service that the route leads to
//! /uids/{uid}                                  the name of the node whose machine that is
//! /revoked/{uid}                               the name that a machine had which is let in no more
//! /guards/{namespace}                          rewritten with each object that is created in the namespace, or counts on it
//! ```
//! A guard makes "delete the namespace if it is empty" safe: the store compares single keys, not ranges, so the deletion
//! compares the guard, which every creation moves.

use std::fmt;

use skiff_api::resource::{Kind, Object, Route, Spec};
use skiff_api::{Name, ServiceKey, Uid};

pub const OBJECTS: &str = "/objects/";
pub(super) const ROUTES: &str = "/routes/";
pub(super) const GUARDS: &str = "/guards/";
pub(super) const UIDS: &str = "/uids/";
pub(crate) const REVOKED: &str = "/revoked/";

/// The place of a namespace in the keys of kinds that have none.
const NO_NAMESPACE: &str = "-";

/// Which object: prints as `service/shop/cart` or `node/edge-1`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    pub kind: Kind,
    /// `None` for kinds that belong to the whole cluster.
    pub namespace: Option<Name>,
    pub name: String,
}

impl ObjectKey {
    pub fn new(kind: Kind, namespace: Option<&Name>, name: impl Into<String>) -> Self {
        Self { kind, namespace: namespace.cloned(), name: name.into() }
    }

    pub fn of<S: Spec>(object: &Object<S>) -> Self {
        Self::new(S::KIND, object.metadata.namespace.as_ref(), &object.metadata.name)
    }

    pub fn namespace(name: &Name) -> Self {
        Self::new(Kind::Namespace, None, name.as_str())
    }

    pub fn service(key: &ServiceKey) -> Self {
        Self::new(Kind::Service, Some(&key.namespace), key.name.as_str())
    }

    /// Reads a key below [`OBJECTS`]; `None` for any other, and for kinds that this version does not know.
    pub fn parse(key: &str) -> Option<Self> {
        let mut parts = key.strip_prefix(OBJECTS)?.splitn(3, '/');
        let plural = parts.next()?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.plural() == plural)?;
        let namespace = match parts.next()? {
            NO_NAMESPACE => None,
            text => Some(text.parse().ok()?),
        };
        let name = parts.next().filter(|name| !name.is_empty())?;
        Some(Self { kind, namespace, name: name.to_owned() })
    }

    pub fn object(&self) -> String {
        format!("{OBJECTS}{}", self.tail())
    }

    pub fn applied(&self) -> String {
        format!("/applied/{}", self.tail())
    }

    fn tail(&self) -> String {
        let namespace = self.namespace.as_ref().map_or(NO_NAMESPACE, Name::as_str);
        format!("{}/{namespace}/{}", self.kind.plural(), self.name)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}/{namespace}/{}", self.kind.singular(), self.name),
            None => write!(f, "{}/{}", self.kind.singular(), self.name),
        }
    }
}

/// The prefix of all objects of a kind, in one namespace or in all.
pub fn prefix(kind: Kind, namespace: Option<&Name>) -> String {
    match namespace {
        Some(namespace) => format!("{OBJECTS}{}/{namespace}/", kind.plural()),
        None => format!("{OBJECTS}{}/", kind.plural()),
    }
}

/// Two routes that match the same requests have one key: a slash at the end makes no difference to whole segments.
pub(super) fn route(route: &Route) -> String {
    format!("{ROUTES}{}{}/", route.host.as_deref().unwrap_or("*"), route.path.trim_end_matches('/'))
}

pub(super) fn uid(uid: &Uid) -> String {
    format!("{UIDS}{uid}")
}

pub(crate) fn revoked(uid: &Uid) -> String {
    format!("{REVOKED}{uid}")
}

pub(super) fn guard(namespace: &Name) -> String {
    format!("{GUARDS}{namespace}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back() {
        let shop: Name = "shop".parse().unwrap();
        for (key, text, shown) in [
            (ObjectKey::new(Kind::Service, Some(&shop), "cart"), "/objects/services/shop/cart", "service/shop/cart"),
            (ObjectKey::namespace(&shop), "/objects/namespaces/-/shop", "namespace/shop"),
        ] {
            assert_eq!((key.object().as_str(), key.to_string().as_str()), (text, shown));
            assert_eq!(ObjectKey::parse(text), Some(key));
        }
        for text in
            ["/objects/", "/objects/services/shop", "/objects/services/shop/", "/objects/pods/a/b", "/routes/a/b/c"]
        {
            assert_eq!(ObjectKey::parse(text), None, "{text}");
        }
    }
}
