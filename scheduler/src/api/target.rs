//! What a request's path and query name.

use axum::extract::{FromRequestParts, Path, Query};
use http::Uri;
use http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use skiff_api::{Kind, Name};

use super::ApiState;
use super::failure::{Failure, Result, invalid};
use crate::objects::ObjectKey;

/// The variables of a path template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) namespace: Option<Name>,
    /// Empty for a collection.
    pub(super) name: String,
}

#[derive(Deserialize)]
struct Variables {
    namespace: Option<String>,
    #[serde(default)]
    name: String,
}

impl Target {
    pub(super) fn key(&self, kind: Kind) -> ObjectKey {
        ObjectKey::new(kind, self.namespace.as_ref(), &self.name)
    }
}

impl FromRequestParts<ApiState> for Target {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self> {
        let Path(Variables { namespace, name }) = Path::<Variables>::from_request_parts(parts, state)
            .await
            .map_err(|error| invalid(format!("the path cannot be read: {error}")))?;
        let namespace = namespace.map(|text| text.parse::<Name>()).transpose();
        Ok(Self { namespace: namespace.map_err(|error| invalid(error.to_string()))?, name })
    }
}

/// The parameters of a query. One that is not known is an error: a misspelt `dryRun` must not write.
pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T> {
    match Query::try_from_uri(uri) {
        Ok(Query(query)) => Ok(query),
        Err(error) => Err(invalid(format!("the query cannot be read: {}", error.body_text())).into()),
    }
}
