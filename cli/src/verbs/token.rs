//! `skiff token`: the context's own, and those that machines join with.

use std::collections::BTreeMap;
use std::process::ExitCode;

use skiff_api::Kind;
use skiff_api::resource::TokenRequest;

use crate::Outcome;
use crate::args::{Format, GetArgs, NamespaceArgs, ServerArgs, TokenCreateArgs, TokenRevokeArgs};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::verbs::get;

pub(super) fn show(server: &ServerArgs) -> Outcome {
    let context = Context::find(server)?;
    if context.token.is_empty() {
        let text = "failed to show the token: there is none (hint: start a cluster with `skiff up`)";
        return Err(Failure::message(Exit::Unauthorized, text));
    }
    println!("{}", context.token);
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn create(context: &Context, args: TokenCreateArgs) -> Outcome {
    let mut labels = BTreeMap::new();
    for text in &args.labels {
        let Some((key, value)) = text.split_once('=') else {
            let text = format!("failed to make a token: the label {text:?} is not KEY=VALUE");
            return Err(Failure::message(Exit::Invalid, text));
        };
        labels.insert(key.to_owned(), value.to_owned());
    }
    let request = TokenRequest { uses: args.uses, ttl: args.ttl, labels };
    let created = context.client()?.create_token(&request).await?;
    println!("{}", created.token);
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn list(context: &Context) -> Outcome {
    let namespace =
        skiff_api::resource::DEFAULT_NAMESPACE.parse().map_err(|error| Failure::new(Exit::Internal, error))?;
    let args = GetArgs {
        kind: Kind::Token,
        name: None,
        namespace: NamespaceArgs { namespace },
        all_namespaces: false,
        labels: String::new(),
        output: Format::Table,
        watch: false,
    };
    get::run(context, args).await
}

pub(super) async fn revoke(context: &Context, args: TokenRevokeArgs) -> Outcome {
    let client = context.client()?;
    for id in &args.ids {
        client.revoke_token(id).await?;
        println!("token/{id} revoked");
    }
    Ok(ExitCode::SUCCESS)
}
