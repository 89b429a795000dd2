//! Reading objects, and committing changes to them.

use std::sync::Arc;

use skiff_api::resource::{Object, Selector};
use skiff_api::{Name, Uid};

use super::change::{complete, explain};
use super::codec::version_of;
use super::{Change, Error, Indexed, ObjectKey, decode, key};
use crate::store::{Compare, List, Revision, Store, Txn, TxnOutcome, Watch};

/// The objects in a store. Cheap to clone.
#[derive(Clone)]
pub struct Objects {
    store: Arc<dyn Store>,
    effect: Effect,
}

/// What a commit does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Write,
    /// It says what a write would say, and changes nothing.
    Check,
}

/// All objects of a kind at one revision; watch after it to miss nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed<S: Indexed> {
    pub revision: Revision,
    pub items: Vec<Object<S>>,
}

impl Objects {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, effect: Effect::Write }
    }

    /// The same objects, for trying out: whatever is committed is compared with the store, and then not written.
    #[must_use]
    pub fn dry_run(&self) -> Self {
        Self { effect: Effect::Check, ..self.clone() }
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The object of that name, if there is one. Kinds of the whole cluster have no namespace.
    pub async fn get<S: Indexed>(&self, namespace: Option<&Name>, name: &str) -> Result<Option<Object<S>>, Error> {
        let key = ObjectKey::new(S::KIND, namespace, name);
        self.store.get(&key.object()).await?.as_ref().map(decode).transpose()
    }

    /// The same, when its absence is an error.
    pub async fn find<S: Indexed>(&self, namespace: Option<&Name>, name: &str) -> Result<Object<S>, Error> {
        let missing = || Error::NotFound { object: ObjectKey::new(S::KIND, namespace, name) };
        self.get(namespace, name).await?.ok_or_else(missing)
    }

    /// The name of the node that a machine has joined as.
    pub async fn bound(&self, uid: &Uid) -> Result<Option<String>, Error> {
        let entry = self.store.get(&key::uid(uid)).await?;
        Ok(entry.map(|entry| String::from_utf8_lossy(&entry.value).into_owned()))
    }

    /// The objects of a kind in one namespace, or in all, whose labels match.
    pub async fn list<S: Indexed>(&self, namespace: Option<&Name>, selector: &Selector) -> Result<Listed<S>, Error> {
        let listing = self.store.list(List::prefix(key::prefix(S::KIND, namespace))).await?;
        let mut items = Vec::with_capacity(listing.entries.len());
        for entry in &listing.entries {
            let object: Object<S> = decode(entry)?;
            if selector.matches(&object.metadata.labels) {
                items.push(object);
            }
        }
        Ok(Listed { revision: listing.revision, items })
    }

    /// Every transaction on objects after a revision: see [`ObjectKey::parse`] and [`decode`] for what is in it.
    pub fn watch(&self, after: Revision) -> Watch {
        self.store.watch(key::OBJECTS, after)
    }

    /// Writes all of a change, or nothing and says why.
    pub async fn commit(&self, change: Change) -> Result<Revision, Error> {
        let txn = change.into_txn()?;
        let txn = if self.effect == Effect::Check { compares_of(&txn) } else { txn };
        match self.store.commit(txn).await? {
            TxnOutcome::Committed(revision) => Ok(revision),
            TxnOutcome::Refused { compare, found } => Err(explain(&compare, found.as_ref())),
        }
    }

    /// Creates one object and answers it as it is now.
    pub async fn create<S: Indexed>(&self, object: Object<S>) -> Result<Object<S>, Error> {
        self.create_with(object, Change::new()).await
    }

    /// Creates an object together with what is in `change`.
    pub async fn create_with<S: Indexed>(&self, mut object: Object<S>, change: Change) -> Result<Object<S>, Error> {
        complete(&mut object.metadata)?;
        let revision = self.commit(change.create(&object)).await?;
        object.metadata.resource_version = version_of(revision);
        Ok(object)
    }

    /// Replaces what people write of an object (see [`Change::write_spec`]) and answers it as it is now.
    pub async fn write_spec<S: Indexed>(
        &self,
        seen: &Object<S>,
        wanted: &Object<S>,
        change: Change,
    ) -> Result<Object<S>, Error> {
        let revision = self.commit(change.write_spec(seen, wanted)).await?;
        let mut object = super::change::with_spec_of(seen, wanted);
        object.metadata.resource_version = version_of(revision);
        Ok(object)
    }
}

/// A transaction that holds where another would, and changes nothing.
fn compares_of(txn: &Txn) -> Txn {
    txn.compares().iter().cloned().fold(Txn::new(), |txn, compare| match compare {
        Compare::Absent { key } => txn.require_absent(key),
        Compare::Present { key } => txn.require_present(key),
        Compare::ModifiedAt { key, revision } => txn.require_revision(key, revision),
        Compare::CreatedAt { key, revision } => txn.require_created(key, revision),
    })
}
