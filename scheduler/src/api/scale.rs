//! How many replicas a service has: a door of its own, so that scaling needs neither the file nor the whole object.

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use skiff_api::resource::{Service, ServiceSpec};
use utoipa::ToSchema;

use super::failure::{Result, invalid};
use super::target::Target;
use super::write::{ATTEMPTS, Writable, fault_problem};
use super::{ApiState, body, policies};
use crate::objects::Change;

/// The number of replicas that a service is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    pub replicas: u32,
}

pub(super) async fn get(state: ApiState, target: Target) -> Result<Response> {
    let live = state.objects.find::<ServiceSpec>(target.namespace.as_ref(), &target.name).await?;
    Ok(Json(Scale { replicas: counted(&live)? }).into_response())
}

pub(super) async fn put(state: ApiState, target: Target, body: Body) -> Result<Response> {
    let Scale { replicas } = body::json(body).await?;
    let mut attempt = 1;
    loop {
        let live = state.objects.find::<ServiceSpec>(target.namespace.as_ref(), &target.name).await?;
        counted(&live)?;
        let mut wanted = live.clone();
        wanted.spec.replicas = replicas.into();
        if let Some(fault) = ServiceSpec::faults(&wanted).into_iter().next() {
            return Err(fault_problem(fault).into());
        }
        if wanted.spec == live.spec {
            return Ok(Json(Scale { replicas }).into_response());
        }
        if live.spec.replicas.count().is_none_or(|now| now < replicas) {
            policies::check(&state, skiff_api::Kind::Service, &live).await?;
        }
        match state.objects.write_spec(&live, &wanted, Change::new()).await {
            Err(error) if error.is_conflict() && attempt < ATTEMPTS => attempt += 1,
            result => {
                result?;
                return Ok(Json(Scale { replicas }).into_response());
            }
        }
    }
}

/// How many there are to be, where a number says so.
fn counted(service: &Service) -> Result<u32> {
    service.spec.replicas.count().ok_or_else(|| {
        let name = &service.metadata.name;
        let problem = invalid(format!("service {name} has one replica on every node: there is nothing to scale"));
        problem.hint("apply a manifest with a number as `replicas`").into()
    })
}
