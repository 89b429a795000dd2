//! Objects as bytes.
//!
//! The resource version is the store's and is not part of what is stored: it is put into an object when it is read.

use skiff_api::resource::{Object, Spec};

use super::{Error, ObjectKey};
use crate::store::{Entry, Revision};

/// The resource version of an object that was written at `revision`.
pub(super) fn version_of(revision: Revision) -> String {
    revision.to_string()
}

/// Reads what the store holds.
pub fn decode<S: Spec>(entry: &Entry) -> Result<Object<S>, Error> {
    let mut object: Object<S> =
        serde_json::from_slice(&entry.value).map_err(|source| Error::Damaged { key: entry.key.to_string(), source })?;
    object.metadata.resource_version = version_of(entry.modified);
    Ok(object)
}

pub(super) fn encode<S: Spec>(object: &Object<S>) -> Result<Vec<u8>, Error> {
    let mut stored = object.clone();
    stored.metadata.resource_version.clear();
    serde_json::to_vec(&stored).map_err(|source| Error::Encode { object: ObjectKey::of(object), source })
}

/// The revision at which an object was last written, from its resource version.
pub(super) fn revision_of<S: Spec>(object: &Object<S>) -> Result<Revision, Error> {
    let text = &object.metadata.resource_version;
    text.parse().map(Revision::new).map_err(|_| Error::BadVersion { object: ObjectKey::of(object), text: text.clone() })
}
