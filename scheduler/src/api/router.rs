//! The router: the table's paths, and around them what holds for every request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use bytes::Bytes;
use http::header::ALLOW;
use http::{HeaderValue, Method};
use skiff_api::{Code, Kind, Problem};

use super::auth::require_token;
use super::endpoints::{Endpoint, endpoints};
use super::failure::Failure;
use super::write::read_only;
use super::{ApiOptions, ApiState, openapi};
use crate::metrics::{Metrics, Request as Counted};

/// Until the head of an answer. Only a registry or a disk that hangs needs that long; watches and logs answer at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// What [`Metrics`] calls requests that reach no path of the table.
const OTHER: &str = "other";

/// The API server, as a service to be put on a listener.
pub fn router(options: ApiOptions) -> Router {
    let table = endpoints();
    // A document of strings and maps always has a JSON form.
    let document = Bytes::from(serde_json::to_vec(&openapi::document(&table)).unwrap_or_default());
    let state = ApiState::new(options, document);
    let metrics = state.metrics.clone();
    paths(table)
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| router.route(&path, methods.into_router(&path)))
        .fallback(not_found)
        .layer(from_fn(in_time))
        .layer(from_fn_with_state(state.clone(), require_token))
        .layer(from_fn_with_state(metrics, count))
        .with_state(state)
}

/// The methods of one path.
#[derive(Default)]
struct Methods {
    router: MethodRouter<ApiState>,
    allowed: Vec<Method>,
}

fn paths(table: Vec<Endpoint>) -> BTreeMap<String, Methods> {
    let mut paths: BTreeMap<String, Methods> = BTreeMap::new();
    for Endpoint { path, method, handler, .. } in table {
        let methods = paths.entry(path).or_default();
        methods.router = std::mem::take(&mut methods.router).merge(handler);
        methods.allowed.push(method);
    }
    paths
}

impl Methods {
    fn into_router(self, path: &str) -> MethodRouter<ApiState> {
        let allowed = self.allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        let kind = read_only_kind(path);
        let refuse = move |method: Method| std::future::ready(refusal(&method, kind, &allowed));
        let label = Label(path.into());
        self.router.fallback(refuse).layer(from_fn(move |request: Request, next: Next| {
            let label = label.clone();
            async move {
                let mut response = next.run(request).await;
                response.extensions_mut().insert(label);
                response
            }
        }))
    }
}

/// The kind whose objects lie at a path, if people do not write it.
fn read_only_kind(path: &str) -> Option<Kind> {
    let mut parts = path.rsplit('/');
    let last = parts.next()?;
    let plural = if last == "{name}" { parts.next()? } else { last };
    Kind::ALL.into_iter().find(|kind| kind.plural() == plural && !kind.is_writable())
}

fn refusal(method: &Method, kind: Option<Kind>, allowed: &str) -> Response {
    let writes = [Method::POST, Method::PUT, Method::DELETE, Method::PATCH].contains(method);
    if let Some(kind) = kind.filter(|_| writes) {
        return Failure(read_only(kind)).into_response();
    }
    let problem = Problem::new(Code::MethodNotAllowed, format!("{method} is not offered here"));
    let mut response = Failure(problem.hint(format!("this path offers {allowed}"))).into_response();
    if let Ok(value) = HeaderValue::from_str(allowed) {
        response.headers_mut().insert(ALLOW, value);
    }
    response
}

async fn not_found(request: Request) -> Failure {
    let problem = Problem::new(Code::NotFound, format!("there is no path {}", request.uri().path()));
    Failure(problem.hint("the paths are listed at /v1/openapi.json"))
}

async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let detail = format!("there was no answer within {} s", ANSWER_WITHIN.as_secs());
            let hint = "look whether it was done, and try again";
            Failure(Problem::new(Code::Unavailable, detail).hint(hint)).into_response()
        }
    }
}

/// The path template that answered.
#[derive(Clone)]
struct Label(Arc<str>);

async fn count(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let (method, start) = (method_label(request.method()), Instant::now());
    let mut response = next.run(request).await;
    let route = response.extensions_mut().remove::<Label>().map_or_else(|| OTHER.into(), |Label(route)| route);
    metrics.request(Counted { route, method, status: response.status().as_u16() }, start.elapsed());
    response
}

/// Anybody can invent a method; labels must stay few.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        _ => OTHER,
    }
}
