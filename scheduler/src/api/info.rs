//! What the server says about itself.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};
use skiff_api::resource::API_VERSION;
use utoipa::ToSchema;

use super::ApiState;
use super::failure::Result;

/// Which Skiff this is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Version {
    /// Skiff's version.
    version: String,
    /// The version of the resources.
    api_version: String,
}

pub(super) async fn version() -> Response {
    let version = Version { version: env!("CARGO_PKG_VERSION").to_owned(), api_version: API_VERSION.to_owned() };
    Json(version).into_response()
}

pub(super) async fn healthz() -> Response {
    "ok\n".into_response()
}

pub(super) async fn metrics(state: ApiState) -> Result<Response> {
    let revision = state.objects.store().revision().await?;
    let text = state.metrics.render(revision.get());
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

pub(super) async fn openapi(state: ApiState) -> Response {
    ([(CONTENT_TYPE, "application/json")], state.openapi).into_response()
}
