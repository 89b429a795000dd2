//! The paths that machines use before, and instead of, a token of the API: a join token is in the body, a certificate in
//! the connection, which whoever accepted it puts into the request as a [`Peer`].

use axum::body::Body;
use axum::extract::{Request, State};
use axum::routing::post;
use axum::{Json, Router};
use skiff_api::wire::join::{JOIN_PATH, JoinAnswer, RENEW_PATH, RenewAnswer};
use skiff_keyvalue::Engine;
use skiff_link::Peer;

use super::Fleet;
use super::buckets::{self, Buckets};
use super::tunnels;
use crate::api::{Answered, body};
use crate::controllers::Oracle;
use crate::link::Tunnels;
use crate::objects::Objects;

/// `/v1/join`, `/v1/renew`, `/v1/keyvalue` and `/v1/tunnels`, to be merged with the API's router.
pub fn router(objects: Objects, fleet: Fleet, (buckets, oracle): (Engine, Oracle), tunnels: Tunnels) -> Router {
    let shared = Buckets::new(fleet.clone(), buckets, oracle);
    let tunnels = Router::new().route(TUNNEL_PATH, post(tunnels::take_up)).with_state((fleet.clone(), tunnels));
    let buckets = Router::new().route(KEYVALUE_PATH, post(buckets::run)).with_state(shared);
    let router = Router::new().route(JOIN_PATH, post(join)).route(RENEW_PATH, post(renew));
    router.with_state((objects, fleet)).merge(buckets).merge(tunnels)
}

/// The node's end of a tunnel.
const TUNNEL_PATH: &str = "/v1/tunnels/{id}";

/// The cluster's buckets.
const KEYVALUE_PATH: &str = "/v1/keyvalue";

async fn join(State((objects, fleet)): State<(Objects, Fleet)>, body: Body) -> Answered<Json<JoinAnswer>> {
    let request = body::json(body).await?;
    Ok(Json(fleet.join(&objects, request).await?))
}

async fn renew(State((_, fleet)): State<(Objects, Fleet)>, request: Request) -> Answered<Json<RenewAnswer>> {
    let (head, body) = request.into_parts();
    let request = body::json(body).await?;
    Ok(Json(fleet.renew(head.extensions.get::<Peer>(), &request)?))
}
