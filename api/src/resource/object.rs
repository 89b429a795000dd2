//! The envelope of every object.

use std::fmt::Debug;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::resource::{Kind, Metadata};

/// The version of the resource format.
pub const API_VERSION: &str = "skiff/v1";

/// What a kind of object has as its spec and status.
pub trait Spec: Debug + Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    const KIND: Kind;
    type Status: Debug + Clone + PartialEq + Default + Serialize + DeserializeOwned + Send + Sync + 'static;
}

/// An object: what should be (`spec`, written by people) and what is (`status`, written by controllers).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", bound = "")]
pub struct Object<S: Spec> {
    pub api_version: String,
    pub kind: Kind,
    pub metadata: Metadata,
    pub spec: S,
    #[serde(default)]
    pub status: S::Status,
}

impl<S: Spec> Object<S> {
    pub fn new(metadata: Metadata, spec: S) -> Self {
        Self { api_version: API_VERSION.to_owned(), kind: S::KIND, metadata, spec, status: S::Status::default() }
    }
}
