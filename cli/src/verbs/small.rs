//! Verbs of a few lines.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::Outcome;
use crate::args::{Args, ServerArgs};
use crate::context::Context;

pub(super) fn completions(shell: Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "skiff", &mut script);
    print!("{}", String::from_utf8_lossy(&script));
    Ok(ExitCode::SUCCESS)
}

/// The control plane's version is extra: without one, this still answers.
pub(super) async fn version(server: &ServerArgs) -> Outcome {
    println!("client: {}", env!("CARGO_PKG_VERSION"));
    let Ok(context) = Context::find(server) else { return Ok(ExitCode::SUCCESS) };
    match context.client()?.version().await {
        Ok(info) => println!("server: {} at {}", info.version, context.server),
        Err(error) => println!("server: {error}"),
    }
    Ok(ExitCode::SUCCESS)
}
