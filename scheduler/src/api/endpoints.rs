//! The table of everything that the API offers. The router and the OpenAPI document are made from it.

use axum::body::Body;
use axum::extract::State;
use axum::routing::{MethodFilter, MethodRouter, on};
use http::{Method, Uri};
use skiff_api::Kind;
use utoipa::openapi::path::{HttpMethod, Operation};

use super::openapi::{self as doc, Answer, Param};
use super::target::Target;
use super::{
    ApiState, apply, attach, auth, decisions, info, list, logs, nodes, reach, remove, rollout, scale, tokens, write,
};

/// One method on one path.
pub(super) struct Endpoint {
    pub(super) path: String,
    pub(super) method: Method,
    pub(super) handler: MethodRouter<ApiState>,
    pub(super) operation: Operation,
}

impl Endpoint {
    pub(super) fn openapi_method(&self) -> HttpMethod {
        match self.method {
            Method::POST => HttpMethod::Post,
            Method::PUT => HttpMethod::Put,
            Method::DELETE => HttpMethod::Delete,
            _ => HttpMethod::Get,
        }
    }
}

type Shared = State<ApiState>;

/// A path, and what its operations are called.
#[derive(Clone)]
struct At {
    path: String,
    kind: Kind,
    /// Tells operations on one namespace from those on all.
    scope: &'static str,
}

pub(super) fn endpoints() -> Vec<Endpoint> {
    Kind::ALL.into_iter().flat_map(objects).chain(service_doors()).chain(fleet_doors()).chain(own()).collect()
}

/// What every kind has, as far as people may.
fn objects(kind: Kind) -> Vec<Endpoint> {
    let at = |path: String, scope| At { path, kind, scope };
    let all = at(format!("/v1/{}", kind.plural()), "");
    let scoped = at(format!("/v1/namespaces/{{namespace}}/{}", kind.plural()), "Namespaced");
    let home = if kind.is_namespaced() { &scoped } else { &all };
    let one = at(format!("{}/{{name}}", home.path), "");
    let collections = if kind.is_namespaced() { vec![all, scoped] } else { vec![all] };

    let mut endpoints: Vec<_> = collections.iter().map(list_endpoint).collect();
    endpoints.push(get_endpoint(&one));
    if kind.is_writable() {
        endpoints.extend(collections.iter().map(create_endpoint));
        endpoints.push(replace_endpoint(&one));
    }
    if kind.is_writable() || matches!(kind, Kind::Replica | Kind::Node) {
        endpoints.push(delete_endpoint(&one));
    }
    endpoints
}

fn endpoint(path: &str, method: Method, handler: MethodRouter<ApiState>, operation: Operation) -> Endpoint {
    Endpoint { path: path.to_owned(), method, handler, operation }
}

fn list_endpoint(At { path, kind, scope }: &At) -> Endpoint {
    let kind = *kind;
    let id = format!("list{scope}{}", kind.names());
    let (handler, operation) = match kind {
        Kind::Event => {
            let handler = |State(s): Shared, target: Target, uri: Uri| list::events(s, target, uri);
            let params = [Param::Regarding, Param::LabelSelector, Param::Limit];
            (
                on(MethodFilter::GET, handler),
                doc::operation(path, &id, "Lists events, oldest first", &params, Answer::List(kind)),
            )
        }
        _ => {
            let handler = move |State(s): Shared, target: Target, uri: Uri| list::list(s, kind, target, uri);
            let params = [Param::LabelSelector, Param::Limit, Param::Continue, Param::ResourceVersion, Param::Watch];
            let summary = format!("Lists or watches {}", kind.plural());
            (on(MethodFilter::GET, handler), doc::operation(path, &id, &summary, &params, Answer::List(kind)))
        }
    };
    endpoint(path, Method::GET, handler, operation)
}

fn get_endpoint(At { path, kind, .. }: &At) -> Endpoint {
    let kind = *kind;
    let operation =
        doc::operation(path, &format!("get{kind}"), &format!("Reads one {kind}"), &[], Answer::Object(kind));
    let handler = match kind {
        Kind::Event => on(MethodFilter::GET, |State(s): Shared, target: Target| list::event(s, target)),
        _ => on(MethodFilter::GET, move |State(s): Shared, target: Target| list::get(s, kind, target)),
    };
    endpoint(path, Method::GET, handler, operation)
}

fn create_endpoint(At { path, kind, scope }: &At) -> Endpoint {
    let kind = *kind;
    let handler = move |State(s): Shared, target: Target, body: Body| write::create(s, kind, target, body);
    let id = format!("create{scope}{kind}");
    let operation =
        doc::operation(path, &id, &format!("Creates a {kind}"), &[Param::Body(kind)], Answer::Created(kind));
    endpoint(path, Method::POST, on(MethodFilter::POST, handler), operation)
}

fn replace_endpoint(At { path, kind, .. }: &At) -> Endpoint {
    let kind = *kind;
    let handler = move |State(s): Shared, target: Target, body: Body| write::replace(s, kind, target, body);
    let summary = format!("Replaces a {kind}; with a resourceVersion, only if it is at that");
    let operation =
        doc::operation(path, &format!("replace{kind}"), &summary, &[Param::Body(kind)], Answer::Object(kind));
    endpoint(path, Method::PUT, on(MethodFilter::PUT, handler), operation)
}

fn delete_endpoint(At { path, kind, .. }: &At) -> Endpoint {
    let kind = *kind;
    let handler = move |State(s): Shared, target: Target| remove::remove(s, kind, target);
    let operation =
        doc::operation(path, &format!("delete{kind}"), &format!("Deletes a {kind}"), &[], Answer::Object(kind));
    endpoint(path, Method::DELETE, on(MethodFilter::DELETE, handler), operation)
}

/// What only services and replicas have.
fn service_doors() -> Vec<Endpoint> {
    const SERVICE: &str = "/v1/namespaces/{namespace}/services/{name}";
    const ATTACH: &str = "/v1/namespaces/{namespace}/jobs/{name}/attach";
    const JOB_LOGS: &str = "/v1/namespaces/{namespace}/jobs/{name}/logs";
    let (scale, logs) = (format!("{SERVICE}/scale"), format!("{SERVICE}/logs"));
    let (rollback, restart) = (format!("{SERVICE}/rollback"), format!("{SERVICE}/restart"));
    let replica_logs = "/v1/namespaces/{namespace}/replicas/{name}/logs";
    const EXEC: &str = "/v1/namespaces/{namespace}/replicas/{name}/exec";
    const FORWARD: &str = "/v1/namespaces/{namespace}/replicas/{name}/forward";
    let lines = [Param::Follow, Param::Tail, Param::Since];
    vec![
        endpoint(
            &scale,
            Method::GET,
            on(MethodFilter::GET, |State(s): Shared, target: Target| scale::get(s, target)),
            doc::operation(&scale, "getScale", "Reads how many replicas a Service is to have", &[], Answer::Scale),
        ),
        endpoint(
            &scale,
            Method::PUT,
            on(MethodFilter::PUT, |State(s): Shared, target: Target, body: Body| scale::put(s, target, body)),
            doc::operation(&scale, "putScale", "Sets it", &[Param::ScaleBody], Answer::Scale),
        ),
        endpoint(
            &rollback,
            Method::POST,
            on(MethodFilter::POST, |State(s): Shared, target: Target, body: Body| rollout::roll_back(s, target, body)),
            doc::operation(
                &rollback,
                "rollBack",
                "Makes replicas again from an earlier Revision's template",
                &[Param::RollBackBody],
                Answer::RolledBack,
            ),
        ),
        endpoint(
            &restart,
            Method::POST,
            on(MethodFilter::POST, |State(s): Shared, target: Target| rollout::restart(s, target)),
            doc::operation(
                &restart,
                "restart",
                "Replaces all replicas of a Service with new ones, as its `update` says",
                &[],
                Answer::Object(Kind::Service),
            ),
        ),
        endpoint(
            &logs,
            Method::GET,
            on(MethodFilter::GET, |State(s): Shared, target: Target, uri: Uri| logs::of_service(s, target, uri)),
            doc::operation(&logs, "getServiceLogs", "Reads the logs of a Service's replicas", &lines, Answer::Logs),
        ),
        endpoint(
            JOB_LOGS,
            Method::GET,
            on(MethodFilter::GET, |State(s): Shared, target: Target, uri: Uri| logs::of_job(s, target, uri)),
            doc::operation(JOB_LOGS, "getJobLogs", "Reads the logs of a Job's tasks", &lines, Answer::Logs),
        ),
        endpoint(
            ATTACH,
            Method::POST,
            on(MethodFilter::POST, |State(s): Shared, target: Target, body: Body| attach::job(s, target, body)),
            doc::operation(
                ATTACH,
                "attachJob",
                "Connects to the standard streams of a Job's task, once; the answer comes while the body is sent",
                &[Param::StandardInput],
                Answer::StandardStreams,
            ),
        ),
        endpoint(
            replica_logs,
            Method::GET,
            on(MethodFilter::GET, |State(s): Shared, target: Target, uri: Uri| logs::of_replica(s, target, uri)),
            doc::operation(replica_logs, "getReplicaLogs", "Reads the log of a Replica", &lines, Answer::Logs),
        ),
        endpoint(
            EXEC,
            Method::POST,
            on(MethodFilter::POST, |State(s): Shared, target: Target, uri: Uri, body: Body| {
                reach::exec(s, target, uri, body)
            }),
            doc::operation(
                EXEC,
                "execReplica",
                "Runs a command in a Replica's container; the answer comes while the body is sent",
                &[Param::Command, Param::Stdin, Param::Columns, Param::Rows, Param::StandardInput],
                Answer::StandardStreams,
            ),
        ),
        endpoint(
            FORWARD,
            Method::POST,
            on(MethodFilter::POST, |State(s): Shared, target: Target, uri: Uri, body: Body| {
                reach::forward(s, target, uri, body)
            }),
            doc::operation(
                FORWARD,
                "forwardReplica",
                "Connects to a port of a Replica; the answer comes while the body is sent",
                &[Param::Port, Param::StandardInput],
                Answer::Bytes,
            ),
        ),
    ]
}

/// What is about nodes, and where things are.
fn fleet_doors() -> Vec<Endpoint> {
    const NODE: &str = "/v1/nodes/{name}/change";
    const WHY: &str = "/v1/namespaces/{namespace}/services/{name}/why";
    const REBALANCE: &str = "/v1/rebalance";
    const TOKENS: &str = "/v1/tokens";
    const REVOKE: &str = "/v1/tokens/{name}/revoke";
    vec![
        endpoint(
            NODE,
            Method::POST,
            on(MethodFilter::POST, |State(s): Shared, target: Target, body: Body| nodes::change(s, target, body)),
            doc::operation(
                NODE,
                "changeNode",
                "Sets labels and taints of a Node, and whether it takes work; what is not named stays",
                &[Param::NodeChangeBody],
                Answer::Object(Kind::Node),
            ),
        ),
        endpoint(
            TOKENS,
            Method::POST,
            on(MethodFilter::POST, |State(s): Shared, body: Body| tokens::create(s, body)),
            doc::operation(
                TOKENS,
                "createToken",
                "Makes a Token that machines join with; its text is in this answer and nowhere else",
                &[Param::TokenBody],
                Answer::TokenCreated,
            ),
        ),
        endpoint(
            REVOKE,
            Method::POST,
            on(MethodFilter::POST, |State(s): Shared, target: Target| tokens::revoke(s, target)),
            doc::operation(
                REVOKE,
                "revokeToken",
                "Ends a Token: no machine joins with it any more",
                &[],
                Answer::Object(Kind::Token),
            ),
        ),
        endpoint(
            WHY,
            Method::GET,
            on(MethodFilter::GET, |State(s): Shared, target: Target| decisions::why(s, target)),
            doc::operation(WHY, "getWhy", "Says why the replicas of a Service are where they are", &[], Answer::Why),
        ),
        endpoint(
            REBALANCE,
            Method::POST,
            on(MethodFilter::POST, |State(s): Shared, uri: Uri| decisions::rebalance(s, uri)),
            doc::operation(
                REBALANCE,
                "rebalance",
                "Moves replicas until nodes are evenly full",
                &[Param::DryRun],
                Answer::Rebalance,
            ),
        ),
    ]
}

/// What is about the server itself.
fn own() -> Vec<Endpoint> {
    let get = |path: &str, id: &str, summary: &str, answer, handler| {
        endpoint(path, Method::GET, handler, doc::operation(path, id, summary, &[], answer))
    };
    vec![
        endpoint(
            "/v1/apply",
            Method::POST,
            on(MethodFilter::POST, |State(s): Shared, uri: Uri, body: Body| apply::apply(s, uri, body)),
            doc::operation(
                "/v1/apply",
                "apply",
                "Merges what a file says into an object, or creates it",
                &[Param::DryRun, Param::SparseBody],
                Answer::Applied,
            ),
        ),
        get(
            "/v1/version",
            "getVersion",
            "Says which Skiff this is",
            Answer::Version,
            on(MethodFilter::GET, info::version),
        ),
        get(
            "/v1/openapi.json",
            "getOpenApi",
            "This document",
            Answer::Json,
            on(MethodFilter::GET, |State(s): Shared| info::openapi(s)),
        ),
        get(
            "/metrics",
            "getMetrics",
            "Metrics in Prometheus' text format",
            Answer::Text,
            on(MethodFilter::GET, |State(s): Shared| info::metrics(s)),
        ),
        get(
            auth::OPEN,
            "getHealth",
            "Says that the process runs",
            Answer::OpenText,
            on(MethodFilter::GET, info::healthz),
        ),
    ]
}
