//! What people set on nodes: labels, taints, and whether they take work. A node says all else itself, so it has no file.

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use skiff_api::resource::{NodeChange, NodeSpec};
use skiff_api::validate;

use super::failure::Result;
use super::target::Target;
use super::write::{ATTEMPTS, fault_problem, is_same};
use super::{ApiState, body};
use crate::objects::Change;

/// `POST` on a node's change: what it names is set, all else stays, whoever writes at the same time.
pub(super) async fn change(state: ApiState, target: Target, body: Body) -> Result<Response> {
    let change: NodeChange = body::json(body).await?;
    let mut attempt = 1;
    loop {
        let live = state.objects.find::<NodeSpec>(None, &target.name).await?;
        let mut wanted = live.clone();
        change.apply(&mut wanted.metadata.labels, &mut wanted.spec);
        if let Some(fault) = validate::node(&wanted.metadata.labels, &wanted.spec).into_iter().next() {
            return Err(fault_problem(fault).into());
        }
        if is_same(&live, &wanted) {
            return Ok(Json(live).into_response());
        }
        match state.objects.write_spec(&live, &wanted, Change::new()).await {
            Err(error) if error.is_conflict() && attempt < ATTEMPTS => attempt += 1,
            result => return Ok(Json(result?).into_response()),
        }
    }
}
