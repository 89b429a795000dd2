//! `skiff describe`

use std::process::ExitCode;

use serde_json::Value;
use skiff_api::Kind;
use skiff_api::client::{ListQuery, Scope};

use crate::Outcome;
use crate::args::DescribeArgs;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::{describe, row};

pub(super) async fn run(context: &Context, args: DescribeArgs) -> Outcome {
    if args.kind == Kind::Event {
        let text = "failed to describe an event: it is all in its line (hint: see `skiff get events`)";
        return Err(Failure::message(Exit::Invalid, text));
    }
    let client = context.client()?;
    let namespace = &args.namespace.namespace;
    let object = client.get_value(args.kind, namespace, &args.name).await?;
    let scope = if args.kind.is_namespaced() { Scope::Namespace(namespace.clone()) } else { Scope::All };
    let replicas = match args.kind {
        Kind::Service | Kind::Job | Kind::Node => {
            client.list_values(Kind::Replica, &scope, &ListQuery::default()).await?.items
        }
        _ => Vec::new(),
    };
    let field = if args.kind == Kind::Node { "/spec/node" } else { "/spec/service" };
    let replicas: Vec<Value> =
        replicas.into_iter().filter(|replica| row::text(replica.pointer(field)) == args.name).collect();
    let about =
        ListQuery { regarding: Some(format!("{}/{}", args.kind.singular(), args.name)), ..ListQuery::default() };
    let events = client.list_values(Kind::Event, &scope, &about).await?.items;
    print!("{}", describe::render(args.kind, &object, &replicas, &events, jiff::Timestamp::now()));
    Ok(ExitCode::SUCCESS)
}
