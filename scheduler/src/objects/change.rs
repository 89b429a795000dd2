//! Several typed writes in one transaction.
//!
//! ```text
//! Change::new().create(&revision).write_status(&service, status)    -> Objects::commit -> all of it, or a reason
//! ```
//! Whatever was decided from an object that was read is compared with the store when it is written: if somebody wrote in
//! between, nothing is changed and the answer is [`Error::Conflict`]; read again and decide again. A transaction holds
//! at most [`OPERATIONS_MAX`](crate::store::OPERATIONS_MAX) writes; a creation may need two of them, for its namespace's
//! guard.

use std::collections::BTreeSet;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;
use skiff_api::resource::{Metadata, Namespace, Object, Route};
use skiff_api::{Kind, Name, Uid};

use super::codec::{encode, revision_of};
use super::{Error, Indexed, ObjectKey, key};
use crate::store::{Compare, Entry, Revision, Txn};

/// Writes that happen together or not at all. An error in making one is reported by the commit.
#[derive(Debug, Default)]
pub struct Change {
    txn: Txn,
    guarded: BTreeSet<Name>,
    failed: Option<Error>,
}

impl Change {
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.txn.ops().is_empty() && self.failed.is_none()
    }

    /// The object must be as it was read.
    #[must_use]
    pub fn require<S: Indexed>(self, seen: &Object<S>) -> Self {
        let object = ObjectKey::of(seen).object();
        match revision_of(seen) {
            Ok(revision) => self.map(|txn| txn.require_revision(object, revision)),
            Err(error) => self.fail(error),
        }
    }

    /// There must be such an object, in whatever version.
    #[must_use]
    pub fn require_exists(self, object: &ObjectKey) -> Self {
        self.map(|txn| txn.require_present(object.object()))
    }

    /// There must be no such object.
    #[must_use]
    pub fn require_none(self, object: &ObjectKey) -> Self {
        self.map(|txn| txn.require_absent(object.object()))
    }

    /// Creates an object; its name must be free and its namespace must exist. Sets what is not set of uid, time of
    /// creation and generation: a caller that needs to know them sets them itself.
    #[must_use]
    pub fn create<S: Indexed>(self, object: &Object<S>) -> Self {
        let mut object = object.clone();
        if let Err(error) = complete(&mut object.metadata) {
            return self.fail(error);
        }
        let key = ObjectKey::of(&object);
        if key.name.is_empty() || key.name.contains('/') || S::KIND.is_namespaced() != key.namespace.is_some() {
            return self.fail(Error::BadName { kind: S::KIND, text: key.name });
        }
        let path = key.object();
        self.guard(key.namespace.as_ref()).map(|txn| txn.require_absent(path)).put(&key, &object).reroute(
            &key,
            &BTreeSet::new(),
            &S::routes(&object),
        )
    }

    /// Replaces what people write: labels, annotations and spec, from `wanted`. All else stays as it was read. The
    /// generation rises if the spec differs.
    #[must_use]
    pub fn write_spec<S: Indexed>(self, seen: &Object<S>, wanted: &Object<S>) -> Self {
        let key = ObjectKey::of(seen);
        let object = with_spec_of(seen, wanted);
        self.require(seen).put(&key, &object).reroute(&key, &S::routes(seen), &S::routes(&object))
    }

    /// Replaces what controllers write.
    #[must_use]
    pub fn write_status<S: Indexed>(self, seen: &Object<S>, status: S::Status) -> Self {
        let object = Object { status, ..seen.clone() };
        self.require(seen).put(&ObjectKey::of(seen), &object)
    }

    /// Deletes an object that is as it was read, with its routes and its last applied document.
    #[must_use]
    pub fn delete<S: Indexed>(self, seen: &Object<S>) -> Self {
        let key = ObjectKey::of(seen);
        let change = self.require(seen).reroute(&key, &S::routes(seen), &BTreeSet::new());
        change.map(|txn| {
            let txn = txn.delete(key.object());
            if key.kind.is_writable() { txn.delete(key.applied()) } else { txn }
        })
    }

    /// A machine gets a name; it must have none yet.
    #[must_use]
    pub fn bind(self, uid: &Uid, name: &str) -> Self {
        let (path, name) = (key::uid(uid), name.to_owned());
        self.map(|txn| txn.require_absent(path.as_str()).put(path.as_str(), name))
    }

    /// A machine loses its name, and is let in no more.
    #[must_use]
    pub fn revoke(self, uid: &Uid, name: &str) -> Self {
        let (path, revoked, name) = (key::uid(uid), key::revoked(uid), name.to_owned());
        self.map(|txn| txn.delete(path).put(revoked, name))
    }

    /// Remembers the document that is applied to an object with this change.
    #[must_use]
    pub fn applied(self, object: &ObjectKey, document: &Value) -> Self {
        let path = object.applied();
        self.map(|txn| txn.put(path, document.to_string()))
    }

    /// The namespace must be as it was read, and whoever counts on what is in it reads again.
    #[must_use]
    pub fn within(self, seen: &Namespace, name: &Name) -> Self {
        self.guard(Some(name)).require(seen)
    }

    /// Whoever counts on what is in the namespace reads again.
    #[must_use]
    pub fn touch(self, name: &Name) -> Self {
        self.guard(Some(name))
    }

    /// The guard of a namespace must be as it was read: nothing that counts on the namespace was written in it since.
    #[must_use]
    pub fn hold(self, namespace: &Name, guard: Option<&Entry>) -> Self {
        let path = key::guard(namespace);
        self.map(|txn| match guard {
            Some(entry) => txn.require_revision(path, entry.modified),
            None => txn.require_absent(path),
        })
    }

    /// The guard of a namespace must be as it was read: nothing was created in it since.
    pub(super) fn close_namespace(self, namespace: &Name, guard: Option<&Entry>) -> Self {
        let path = key::guard(namespace);
        self.map(|txn| match guard {
            Some(entry) => txn.require_revision(path.clone(), entry.modified).delete(path),
            None => txn.require_absent(path),
        })
    }

    pub(super) fn into_txn(self) -> Result<Txn, Error> {
        match self.failed {
            Some(error) => Err(error),
            None => Ok(self.txn),
        }
    }

    fn guard(mut self, namespace: Option<&Name>) -> Self {
        let Some(namespace) = namespace else { return self };
        if !self.guarded.insert(namespace.clone()) {
            return self;
        }
        let (object, guard) = (ObjectKey::namespace(namespace).object(), key::guard(namespace));
        self.map(|txn| txn.require_present(object).put(guard, Bytes::new()))
    }

    fn put<S: Indexed>(self, key: &ObjectKey, object: &Object<S>) -> Self {
        match encode(object) {
            Ok(bytes) => self.map(|txn| txn.put(key.object(), bytes)),
            Err(error) => self.fail(error),
        }
    }

    fn reroute(self, key: &ObjectKey, before: &BTreeSet<Route>, after: &BTreeSet<Route>) -> Self {
        let owner = key.namespace.as_ref().map_or_else(|| key.name.clone(), |ns| format!("{ns}/{}", key.name));
        let paths = |routes: &BTreeSet<Route>| routes.iter().map(key::route).collect::<BTreeSet<_>>();
        let (before, after) = (paths(before), paths(after));
        self.map(|txn| {
            let txn = before.difference(&after).fold(txn, |txn, path| txn.delete(path.as_str()));
            after
                .difference(&before)
                .fold(txn, |txn, path| txn.require_absent(path.as_str()).put(path.as_str(), owner.clone()))
        })
    }

    fn map(mut self, step: impl FnOnce(Txn) -> Txn) -> Self {
        self.txn = step(self.txn);
        self
    }

    /// The first error counts: those after it may follow from it.
    fn fail(mut self, error: Error) -> Self {
        self.failed.get_or_insert(error);
        self
    }
}

/// What [`Change::write_spec`] makes of an object.
pub(super) fn with_spec_of<S: Indexed>(seen: &Object<S>, wanted: &Object<S>) -> Object<S> {
    let generation = seen.metadata.generation + u64::from(seen.spec != wanted.spec);
    Object {
        metadata: Metadata {
            labels: wanted.metadata.labels.clone(),
            annotations: wanted.metadata.annotations.clone(),
            generation,
            ..seen.metadata.clone()
        },
        spec: wanted.spec.clone(),
        ..seen.clone()
    }
}

/// Sets what the server gives to a new object, where it is not set.
pub(super) fn complete(metadata: &mut Metadata) -> Result<(), Error> {
    if metadata.uid.as_str().is_empty() {
        metadata.uid = new_uid()?;
    }
    if metadata.created == Timestamp::default() {
        metadata.created = Timestamp::now();
    }
    metadata.generation = metadata.generation.max(1);
    Ok(())
}

/// 128 random bits: enough that no two objects ever share one.
fn new_uid() -> Result<Uid, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|source| Error::Randomness { source })?;
    Ok(Uid::new(format!("{:032x}", u128::from_be_bytes(bytes))))
}

/// Why the store refused a change, in terms of objects.
pub(super) fn explain(compare: &Compare, found: Option<&Entry>) -> Error {
    let path: &str = compare.key();
    if let Some(route) = path.strip_prefix(key::ROUTES) {
        // Shown as people write it: a slash only where it is the whole path.
        let route = route.strip_suffix('/').filter(|route| route.contains('/')).unwrap_or(route);
        let owner = found.map(|entry| String::from_utf8_lossy(&entry.value).into_owned()).unwrap_or_default();
        return Error::RouteTaken { route: route.to_owned(), owner };
    }
    if path.starts_with(key::UIDS) {
        let name = found.map(|entry| String::from_utf8_lossy(&entry.value).into_owned()).unwrap_or_default();
        return Error::AlreadyExists { object: ObjectKey::new(Kind::Node, None, name) };
    }
    if let Some(namespace) = path.strip_prefix(key::GUARDS) {
        return Error::NamespaceInUse { namespace: namespace.to_owned() };
    }
    let Some(object) = ObjectKey::parse(path) else {
        return Error::Store(crate::store::Error::BadKey { key: compare.key().clone() });
    };
    let seen = match compare {
        Compare::ModifiedAt { revision, .. } | Compare::CreatedAt { revision, .. } => *revision,
        Compare::Absent { .. } | Compare::Present { .. } => Revision::ZERO,
    };
    match (compare, found) {
        (Compare::Absent { .. }, _) => Error::AlreadyExists { object },
        (Compare::Present { .. }, _) if object.kind == Kind::Namespace => match object.name.parse() {
            Ok(namespace) => Error::NoNamespace { namespace },
            Err(_) => Error::NotFound { object },
        },
        (_, None) => Error::NotFound { object },
        (_, Some(entry)) => Error::Conflict { object, seen: seen.to_string(), now: entry.modified.to_string() },
    }
}
