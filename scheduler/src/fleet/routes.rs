//! The two paths that machines use before, and instead of, a token of the API: a join token is in the body, a certificate in
//! the connection, which whoever accepted it puts into the request as a [`Peer`].

use axum::body::Body;
use axum::extract::{Request, State};
use axum::routing::post;
use axum::{Json, Router};
use skiff_api::wire::join::{JOIN_PATH, JoinAnswer, RENEW_PATH, RenewAnswer};
use skiff_link::Peer;

use super::Fleet;
use crate::api::{Answered, body};
use crate::objects::Objects;

/// `/v1/join` and `/v1/renew`, to be merged with the API's router.
pub fn router(objects: Objects, fleet: Fleet) -> Router {
    Router::new().route(JOIN_PATH, post(join)).route(RENEW_PATH, post(renew)).with_state((objects, fleet))
}

async fn join(State((objects, fleet)): State<(Objects, Fleet)>, body: Body) -> Answered<Json<JoinAnswer>> {
    let request = body::json(body).await?;
    Ok(Json(fleet.join(&objects, request).await?))
}

async fn renew(State((_, fleet)): State<(Objects, Fleet)>, request: Request) -> Answered<Json<RenewAnswer>> {
    let (head, body) = request.into_parts();
    let request = body::json(body).await?;
    Ok(Json(fleet.renew(head.extensions.get::<Peer>(), &request)?))
}
