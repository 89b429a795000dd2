//! What reaches past the gateway to one replica: a command in its container, and its ports.
//!
//! `POST /v1/namespaces/NAMESPACE/replicas/NAME/exec?command=PROGRAM&command=ARGUMENT`: the request's body is what the
//! command reads, the answer's body what it writes and how it ended, both framed as [`skiff_api::standard`] says.
//!
//! `POST /v1/namespaces/NAMESPACE/replicas/NAME/forward?port=PORT`: a connection to that port. The request's body goes to
//! it as it is, and the answer's body is what comes back. A component has no ports: whichever is named, its requests are
//! HTTP.
//!
//! Both bodies go on side by side. The answer to [`super::attach`] is made in the same way.

use std::io;

use axum::body::Body;
use axum::extract::Query;
use axum::response::Response;
use futures_util::{StreamExt, TryStreamExt};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Uri};
use serde::Deserialize;
use skiff_api::resource::ReplicaSpec;
use skiff_api::standard::{self, Size};
use skiff_api::wire::{Exec, TunnelTo};
use skiff_api::{Code, NodeName, Problem, ReplicaKey, ReplicaName};

use super::ApiState;
use super::failure::{Result, invalid};
use super::target::{Target, query};

/// What the answer of a forwarded port is called: it is anything.
const ANY_BYTES: &str = "application/octet-stream";

pub(super) async fn exec(state: ApiState, target: Target, uri: Uri, body: Body) -> Result<Response> {
    let (node, replica) = running(&state, &target).await?;
    let exec = wanted(&uri, replica)?;
    dig(&state, &node, TunnelTo::Exec(exec), body, standard::CONTENT_TYPE).await
}

pub(super) async fn forward(state: ApiState, target: Target, uri: Uri, body: Body) -> Result<Response> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct ForwardQuery {
        port: u16,
    }

    let ForwardQuery { port } = query(&uri)?;
    let (node, replica) = running(&state, &target).await?;
    dig(&state, &node, TunnelTo::Port { replica, port }, body, ANY_BYTES).await
}

/// Connects a request and its answer with something on a node.
pub(super) async fn dig(
    state: &ApiState,
    node: &NodeName,
    to: TunnelTo,
    body: Body,
    content_type: &'static str,
) -> Result<Response> {
    let input = body.into_data_stream().map_err(io::Error::other).boxed();
    let output = state.tunnels.dig(node, to, input).await?;
    let output = output.take_until(state.stop.clone().cancelled_owned());
    let mut response = Response::new(Body::from_stream(output));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    Ok(response)
}

/// The replica, and the node that it was placed on, which knows whether it runs.
async fn running(state: &ApiState, target: &Target) -> Result<(NodeName, ReplicaKey)> {
    let replica = state.objects.find::<ReplicaSpec>(target.namespace.as_ref(), &target.name).await?;
    let (Some(node), Some(namespace)) = (&replica.spec.node, &replica.metadata.namespace) else {
        let problem = Problem::new(Code::Conflict, format!("replica {} runs nowhere yet", target.name));
        return Err(problem.hint(format!("see `skiff why {}`", replica.spec.service)).into());
    };
    let name = ReplicaName::new(replica.metadata.name.as_str());
    Ok((NodeName::new(node.as_str()), ReplicaKey { namespace: namespace.clone(), name }))
}

/// The command that a query asks for.
fn wanted(uri: &Uri, replica: ReplicaKey) -> Result<Exec> {
    let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|error| invalid(format!("the query cannot be read: {}", error.body_text())))?;
    let mut exec = Exec { replica, command: Vec::new(), input: false, terminal: None };
    let (mut columns, mut rows) = (None, None);
    for (name, value) in pairs.0 {
        let number = || value.parse::<u16>().map_err(|_| invalid(format!("{name}: {value:?} is no number")));
        match name.as_str() {
            "command" => exec.command.push(value),
            "stdin" if value == "true" => exec.input = true,
            "stdin" if value == "false" => exec.input = false,
            "stdin" => return Err(invalid(format!("stdin: {value:?} is neither true nor false")).into()),
            "columns" => columns = Some(number()?),
            "rows" => rows = Some(number()?),
            _ => {
                let problem = invalid(format!("the query cannot be read: there is no parameter {name:?}"));
                return Err(problem.hint("write command, stdin, columns or rows").into());
            }
        }
    }
    if exec.command.is_empty() {
        let problem = invalid("there is no command to run");
        return Err(problem.hint("write ?command=PROGRAM&command=ARGUMENT").into());
    }
    exec.terminal = match (columns, rows) {
        (Some(columns), Some(rows)) => Some(Size { columns, rows }),
        (None, None) => None,
        _ => return Err(invalid("a terminal has columns and rows").hint("write both, or none of them").into()),
    };
    Ok(exec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Option<Exec> {
        let replica = ReplicaKey { namespace: "default".parse().unwrap(), name: ReplicaName::new("db-1-a") };
        wanted(&format!("/exec?{query}").parse().unwrap(), replica).ok()
    }

    #[test]
    fn a_command_is_in_the_query_word_by_word() {
        let exec = read("command=sh&command=-c&command=echo%20a%26b&stdin=true&columns=80&rows=24").unwrap();
        assert_eq!(exec.command, ["sh", "-c", "echo a&b"]);
        assert!(exec.input && exec.terminal == Some(Size { columns: 80, rows: 24 }));
        let plain = read("command=ls").unwrap();
        assert!(!plain.input && plain.terminal.is_none());
        for bad in
            ["", "stdin=true", "command=ls&stdin=1", "command=ls&rows=24", "command=ls&rows=x&columns=1", "cmd=ls"]
        {
            assert!(read(bad).is_none(), "{bad}");
        }
    }
}
