//! `POST /v1/tunnels/ID`: a node's end of a tunnel. What it sends goes to whoever asked, and the answer is what they send.

use std::io;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use futures_util::TryStreamExt;
use skiff_api::{Code, Problem};
use skiff_link::Peer;

use super::Fleet;
use crate::api::Answered;
use crate::link::Tunnels;

pub(super) async fn take_up(
    State((fleet, tunnels)): State<(Fleet, Tunnels)>,
    Path(id): Path<u64>,
    request: Request,
) -> Answered<Response> {
    let (head, body) = request.into_parts();
    let peer = fleet.admitted(head.extensions.get::<Peer>())?;
    let output = Box::pin(body.into_data_stream().map_err(io::Error::other));
    let input = tunnels.take_up(&peer.uid, id, output);
    let input = input.map_err(|error| Problem::new(Code::NotFound, error.to_string()))?;
    Ok(Response::new(Body::from_stream(input)))
}
