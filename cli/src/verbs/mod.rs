//! One file per verb, or per family of them.

mod apply;
mod backup;
mod build;
pub(crate) mod compile;
mod create;
mod delete;
mod deploy;
mod describe;
mod dev;
mod diff;
mod exec;
mod get;
mod images;
mod inspect;
mod login;
mod logs;
mod new;
mod node;
mod nodes;
mod once;
mod port_forward;
mod ps;
mod pull;
mod push;
mod replica;
mod rmi;
mod rollout;
mod run;
mod scale;
mod server;
mod serving;
mod sign;
mod small;
mod tag;
mod token;
mod up;
mod wait;
mod why;

use crate::Outcome;
use crate::args::{Args, NodeSubverb, NodeVerb, TokenVerb, Verb};
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// Runs a verb to its end.
pub(crate) fn run(args: Args) -> Outcome {
    let server = args.server;
    match args.verb {
        Verb::Up(args) => return up::run(args),
        Verb::Server(args) => return server::run(args),
        Verb::Node(NodeVerb { verb: None, run }) => return node::run(server, run),
        Verb::Completions { shell } => return small::completions(shell),
        Verb::Token(TokenVerb::Show) => return token::show(&server),
        Verb::CompileComponent(compile) => return Ok(compile::run(&compile)),
        Verb::New(new) => return new::run(&new),
        Verb::Build(build) => return build::run(&build),
        _ => {}
    }
    // A verb waits for one connection: one thread serves it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Internal, error).during("failed to start"))?;
    runtime.block_on(async {
        if let Verb::Version = args.verb {
            return small::version(&server).await;
        }
        // A file needs no control plane, and neither does another registry.
        let verb = match args.verb {
            Verb::Inspect(inspect) => return inspect::run(&server, inspect).await,
            Verb::Push(push) => return push::run(&server, push).await,
            Verb::Pull(pull) => return pull::run(&server, pull).await,
            Verb::Sign(sign) => return sign::run(&server, sign).await,
            Verb::Login(login) => return login::login(&server, login).await,
            Verb::Logout(logout) => return login::logout(&server, logout).await,
            Verb::Restore(restore) => return backup::restore(restore).await,
            Verb::Dev(dev) => return dev::run(&server, dev).await,
            verb => verb,
        };
        let context = Context::find(&server)?;
        match verb {
            Verb::Images(images) => images::run(&context, images).await,
            Verb::Tag(tag) => tag::run(&context, tag).await,
            Verb::Rmi(rmi) => rmi::run(&context, rmi).await,
            Verb::Run(run) => run::run(&context, run).await,
            Verb::Deploy(deploy) => deploy::run(&context, deploy).await,
            Verb::Apply(apply) => apply::run(&context, apply).await,
            Verb::Create(verb) => create::run(&context, verb).await,
            Verb::Diff(diff) => diff::run(&context, diff).await,
            Verb::Get(get) => get::run(&context, get).await,
            Verb::Describe(describe) => describe::run(&context, describe).await,
            Verb::Scale(scale) => scale::run(&context, scale).await,
            Verb::Rollout(verb) => rollout::run(&context, verb).await,
            Verb::Ps(args) => ps::ps(&context, args).await,
            Verb::Rm(args) => ps::rm(&context, args).await,
            Verb::Why(args) => why::why(&context, args).await,
            Verb::Rebalance(args) => why::rebalance(&context, args).await,
            Verb::Cordon(args) => nodes::cordon(&context, args).await,
            Verb::Uncordon(args) => nodes::uncordon(&context, args).await,
            Verb::Drain(args) => nodes::drain(&context, args).await,
            Verb::Taint(args) => nodes::taint(&context, args).await,
            Verb::Label(args) => nodes::label(&context, args).await,
            Verb::Node(NodeVerb { verb: Some(NodeSubverb::Remove(args)), .. }) => nodes::remove(&context, args).await,
            Verb::Backup(args) => backup::backup(&context, args).await,
            Verb::Token(TokenVerb::Create(args)) => token::create(&context, args).await,
            Verb::Token(TokenVerb::List) => token::list(&context).await,
            Verb::Token(TokenVerb::Revoke(args)) => token::revoke(&context, args).await,
            Verb::Logs(logs) => logs::run(&context, logs).await,
            Verb::Exec(args) => exec::run(&context, args).await,
            Verb::PortForward(args) => port_forward::run(&context, args).await,
            Verb::Delete(delete) => delete::run(&context, delete).await,
            Verb::Up(_)
            | Verb::Node(NodeVerb { verb: None, .. })
            | Verb::Completions { .. }
            | Verb::Server(_)
            | Verb::Token(TokenVerb::Show)
            | Verb::CompileComponent(_)
            | Verb::Version
            | Verb::Restore(_)
            | Verb::New(_)
            | Verb::Build(_)
            | Verb::Dev(_)
            | Verb::Inspect(_)
            | Verb::Push(_)
            | Verb::Pull(_)
            | Verb::Sign(_)
            | Verb::Login(_)
            | Verb::Logout(_) => Err(Failure::message(Exit::Internal, "this verb does not talk to a control plane")),
        }
    })
}
