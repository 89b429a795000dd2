//! Tokens that machines join with. Making one is the only time that its secret is seen.

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use skiff_api::resource::TokenRequest;
use skiff_api::{Code, Problem};

use super::failure::Result;
use super::target::Target;
use super::{ApiState, body};
use crate::fleet::Fleet;

/// `POST` on the collection.
pub(super) async fn create(state: ApiState, body: Body) -> Result<Response> {
    let fleet = fleet(&state)?;
    let request: TokenRequest = body::json(body).await?;
    let created = fleet.create_token(&state.objects, request).await?;
    Ok((StatusCode::CREATED, Json(created)).into_response())
}

/// `POST` on a token's end.
pub(super) async fn revoke(state: ApiState, target: Target) -> Result<Response> {
    let token = fleet(&state)?.revoke_token(&state.objects, &target.name).await?;
    Ok(Json(token).into_response())
}

fn fleet(state: &ApiState) -> Result<&Fleet> {
    state.fleet.as_ref().ok_or_else(|| {
        let problem = Problem::new(Code::Forbidden, "this cluster is one process: no machine can join it");
        problem.hint("start the control plane with `skiff server` on the same data folder").into()
    })
}
