//! From a request to an endpoint: read the path, ask for the right, dispatch.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Json, body::Body};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::auth::{Action, Authorizer, Decision, token_of};
use super::error::Failure;
use super::route::Target;
use super::{blobs, lists, manifests, tokens, uploads};
use crate::hash::sha256;
use crate::store::{self, Registry};

/// How long the next piece of a body may take. Longer than any pause of a thin link; a client that is gone without a word
/// is given up.
const BODY_IDLE: Duration = Duration::from_secs(60);

/// Lists that are made at once: of a hundred thousand tags each takes some ten megabytes for a moment.
const LISTS_AT_ONCE: usize = 2;

/// The registry's routes, with their full paths (`/v2/…`), to be merged into the router of the API's port.
pub fn router(registry: Registry, auth: Arc<dyn Authorizer>) -> Router {
    router_with(registry, auth, BODY_IDLE)
}

/// The same, with bodies that may pause for so long.
pub fn router_with(registry: Registry, auth: Arc<dyn Authorizer>, body_idle: Duration) -> Router {
    Router::new()
        .route("/v2", any(handle))
        .route("/v2/", any(handle))
        .route("/v2/{*path}", any(handle))
        .route("/.well-known/wasm-pkg/registry.json", any(well_known))
        .with_state(Server { registry, auth, body_idle, lists: Arc::new(Semaphore::new(LISTS_AT_ONCE)) })
}

/// What every endpoint works with.
#[derive(Clone)]
pub(super) struct Server {
    registry: Registry,
    auth: Arc<dyn Authorizer>,
    pub(super) body_idle: Duration,
    lists: Arc<Semaphore>,
}

/// A request whose path was read and whose right was checked.
pub(super) struct Call {
    pub(super) server: Server,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) query: Vec<(String, String)>,
}

async fn handle(State(server): State<Server>, request: Request) -> Response {
    let is_head = request.method() == Method::HEAD;
    let challenge = server.auth.open_by().and_then(|scheme| tokens::challenge(scheme, request.headers()));
    let mut response = dispatch(server, request).await.unwrap_or_else(IntoResponse::into_response);
    if let Some(challenge) = challenge.filter(|_| response.status() == StatusCode::UNAUTHORIZED) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    if is_head {
        // What an answer to GET would have said, without its body.
        let (parts, _body) = response.into_parts();
        response = Response::from_parts(parts, Body::empty());
    }
    let version = HeaderValue::from_static("registry/2.0");
    response.headers_mut().insert("docker-distribution-api-version", version);
    response
}

async fn dispatch(server: Server, request: Request) -> Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let path = path.strip_prefix("/v2/").unwrap_or_default();
    let action = match parts.method {
        Method::GET | Method::HEAD => Action::Pull,
        Method::DELETE => Action::Delete,
        _ => Action::Push,
    };
    if path == "token" && parts.method == Method::GET && server.auth.open_by().is_some() {
        return tokens::issue(&server, &parts.headers);
    }
    // An unknown path is told only to whoever may be here at all.
    let Some(target) = Target::parse(path) else {
        server.check(&parts.headers, Action::Pull, None)?;
        return Err(Failure::new(StatusCode::NOT_FOUND, "UNSUPPORTED", "there is no such endpoint"));
    };
    let target = match target {
        Ok(target) => target,
        Err(failure) => {
            server.check(&parts.headers, Action::Pull, None)?;
            return Err(failure);
        }
    };
    // All that concerns an upload is part of pushing.
    let action = match target {
        Target::Uploads { .. } | Target::Upload { .. } => Action::Push,
        _ => action,
    };
    server.check(&parts.headers, action, target.repository())?;
    let query = Query::try_from_uri(&parts.uri).map(|Query(query)| query).unwrap_or_default();
    let call = Call { server, method: parts.method, headers: parts.headers, query };
    match target {
        Target::Base => lists::base(&call),
        Target::Catalog => lists::catalog(call).await,
        Target::Tags { repository } => lists::tags(call, repository).await,
        Target::Referrers { repository, digest } => lists::referrers(call, repository, digest).await,
        Target::Blob { repository, digest } => blobs::blob(call, repository, digest).await,
        Target::Uploads { repository } => uploads::start(call, body, repository).await,
        Target::Upload { repository, id } => uploads::upload(call, body, repository, id).await,
        Target::Manifest { repository, reference } => manifests::manifest(call, body, repository, reference).await,
    }
}

/// Tells wkg that this is an OCI registry.
async fn well_known(headers: HeaderMap) -> Json<serde_json::Value> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    Json(serde_json::json!({ "preferredProtocol": "oci", "oci": { "registry": host } }))
}

impl Server {
    pub(super) fn decide(&self, headers: &HeaderMap, action: Action, repository: Option<&str>) -> Decision {
        let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        self.auth.authorize(authorization, action, repository)
    }

    /// Waits for its turn to make a list.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.lists.acquire().await.ok()
    }

    pub(super) fn limits(&self) -> &store::Limits {
        self.registry.limits()
    }

    fn check(&self, headers: &HeaderMap, action: Action, repository: Option<&str>) -> Result<(), Failure> {
        match self.decide(headers, action, repository) {
            Decision::Allowed => Ok(()),
            Decision::Unauthenticated => Err(Failure::unauthorized()),
            Decision::Denied => Err(Failure::denied(repository.unwrap_or("the registry"))),
        }
    }

    /// Runs what blocks. It runs to its end even if the client goes away.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Registry) -> Result<T, store::Error> + Send + 'static,
    ) -> Result<T, Failure> {
        let registry = self.registry.clone();
        match tokio::task::spawn_blocking(move || act(&registry)).await {
            Ok(result) => result.map_err(Failure::from),
            Err(_) => Err(Failure::stopped()),
        }
    }
}

impl Call {
    pub(super) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// What tells this client from others: its token, in a form that is no secret. Whoever sends none is one client.
    pub(super) fn client(&self) -> String {
        let token = self.header(header::AUTHORIZATION).and_then(token_of).unwrap_or_default();
        match token.is_empty() {
            true => String::new(),
            false => sha256(token.as_bytes()).short().to_owned(),
        }
    }

    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.queries(name).next()
    }

    /// All values of a parameter that may come several times.
    pub(super) fn queries(&self, name: &str) -> impl Iterator<Item = &str> {
        self.query.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}
