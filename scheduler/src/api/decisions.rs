//! What the control loop says of its decisions: why replicas are where they are, and what a rebalancing moves.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::Uri;
use serde::Deserialize;
use skiff_api::{Code, Kind, Problem, ServiceKey};

use super::ApiState;
use super::failure::{Result, invalid};
use super::target::{Target, query};
use crate::controllers::Effect;
use crate::objects::Error;

pub(super) async fn why(state: ApiState, target: Target) -> Result<Response> {
    let object = target.key(Kind::Service);
    let Some(namespace) = target.namespace else { return Err(Error::NotFound { object }.into()) };
    let name = target.name.parse().map_err(|error: skiff_api::id::InvalidName| invalid(error.to_string()))?;
    match state.oracle.why(ServiceKey { namespace, name }).await {
        Some(Some(why)) => Ok(Json(why).into_response()),
        Some(None) => Err(Error::NotFound { object }.into()),
        None => Err(stopping().into()),
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RebalanceQuery {
    #[serde(default)]
    dry_run: bool,
}

pub(super) async fn rebalance(state: ApiState, uri: Uri) -> Result<Response> {
    let RebalanceQuery { dry_run } = query(&uri)?;
    let effect = if dry_run { Effect::Dry } else { Effect::Real };
    match state.oracle.rebalance(effect).await {
        Some(set) => Ok(Json(set).into_response()),
        None => Err(stopping().into()),
    }
}

fn stopping() -> Problem {
    Problem::new(Code::Unavailable, "the control plane is stopping").hint("try again in a moment")
}
