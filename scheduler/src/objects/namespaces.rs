//! Namespaces: the one that is always there, and the deletion of the others.

use skiff_api::Name;
use skiff_api::resource::{DEFAULT_NAMESPACE, Kind, Metadata, Namespace, NamespaceSpec};

use super::{Change, Error, ObjectKey, Objects, key};
use crate::store::{Entry, List};

/// How many objects a refusal names.
const CONTENTS_SHOWN_MAX: usize = 5;

/// What keeps a namespace from being deleted, in the order in which it is named.
const CONTENTS: [Kind; 7] =
    [Kind::Service, Kind::Job, Kind::ImagePolicy, Kind::Config, Kind::Secret, Kind::Revision, Kind::Replica];

impl Objects {
    /// Creates what every cluster has. Does nothing on a store that has it.
    pub async fn bootstrap(&self) -> Result<(), Error> {
        let namespace = Namespace::new(Metadata::new(None, DEFAULT_NAMESPACE), NamespaceSpec::default());
        match self.create(namespace).await {
            Ok(_) | Err(Error::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Says that a namespace is missing before anything is looked up in it: whoever mistyped its name would be sent to
    /// push an image instead. The write that follows requires it again.
    pub async fn require_namespace(&self, namespace: Option<&Name>) -> Result<(), Error> {
        match namespace {
            Some(name) if self.get::<NamespaceSpec>(None, name.as_str()).await?.is_none() => {
                Err(Error::NoNamespace { namespace: name.clone() })
            }
            _ => Ok(()),
        }
    }

    /// What moves with everything that is created in a namespace, or that its grants were looked up for.
    pub async fn guard(&self, name: &Name) -> Result<Option<Entry>, Error> {
        Ok(self.store().get(&key::guard(name)).await?)
    }

    /// Deletes a namespace that is as it was read and has nothing in it.
    pub async fn delete_namespace(&self, seen: &Namespace) -> Result<(), Error> {
        let name: Name = (seen.metadata.name.parse())
            .map_err(|_| Error::BadName { kind: Kind::Namespace, text: seen.metadata.name.clone() })?;
        // Read before the lists: what is created after them moves it, and the commit is refused.
        let guard = self.guard(&name).await?;
        for kind in CONTENTS {
            let page = List::prefix(key::prefix(kind, Some(&name))).limit(CONTENTS_SHOWN_MAX);
            let listing = self.store().list(page).await?;
            if !listing.entries.is_empty() {
                let found = listing.entries.iter().filter_map(|entry| ObjectKey::parse(&entry.key));
                let mut contents: Vec<String> = found.map(|key| format!("{}/{}", kind.singular(), key.name)).collect();
                if listing.more {
                    contents.push("more".to_owned());
                }
                return Err(Error::NamespaceNotEmpty { namespace: name, contents: contents.join(", ") });
            }
        }
        self.commit(Change::new().delete(seen).close_namespace(&name, guard.as_ref())).await?;
        Ok(())
    }
}
