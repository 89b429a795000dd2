//! `skiff dev`: a service that follows its source.
//!
//! ```text
//!  files ──notify──> changes ──quiet for a moment──> deploy ──> says what came of it
//!  logs of the service ──────────────────────────────────────> the terminal
//! ```
//! What an engine reads (JavaScript) is in a Config, which reaches the replica without a new one; anything else is built,
//! pushed and rolled out as `skiff deploy` does it. A build that fails, or a replica that does not start, leaves what ran before running: the update starts the new one
//! first. Without a cluster one is started for as long as this runs, with its data in the folder's `.skiff`.

mod cluster;
mod files;

use std::process::{ExitCode, Stdio};
use std::time::Instant;

use futures_util::StreamExt;
use skiff_api::client::{LogOptions, LogTarget};
use skiff_api::wire::Stream;

use self::cluster::Local;
use self::files::Changes;
use crate::Outcome;
use crate::args::{DevArgs, ServerArgs};
use crate::context::Context;
use crate::exit::Failure;
use crate::project::Project;
use crate::verbs::deploy::{self, Deployed};
use crate::verbs::serving::process::Stop;

pub(super) async fn run(server: &ServerArgs, args: DevArgs) -> Outcome {
    let mut stop = Stop::listen()?;
    let project = Project::find(&args.deploy.folder)?;
    // Before the first build: what changes during it is seen.
    let mut changes = Changes::watch(&project)?;
    let local = match args.local {
        true => None,
        false => cluster::reachable(server).await?,
    };
    let (context, local) = match local {
        Some(context) => (context, None),
        None => {
            let (context, local) = Local::start(project.folder(), args.gateway).await?;
            (context, Some(local))
        }
    };
    tokio::select! {
        failure = follow(&context, &project, &args, &mut changes) => {
            // Its cluster is stopped with it.
            drop(local);
            Err(failure)
        }
        _ = stop.wait() => {
            if let Some(local) = local {
                local.stop().await;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Deploys at once, and after each change. Returns only when it cannot go on.
async fn follow(context: &Context, project: &Project, args: &DevArgs, changes: &mut Changes) -> Failure {
    let mut logs: Option<tokio::task::JoinHandle<()>> = None;
    let mut pushed = None;
    loop {
        let started = Instant::now();
        let deployed = match args.full {
            true => deploy::deploy(context, project, &args.deploy).await,
            false => deploy::deploy_source(context, project, &args.deploy, &mut pushed).await,
        };
        // Ends with the next change.
        let mut _types = None;
        match deployed {
            Ok(deployed) => {
                said(&deployed, started);
                if deployed.is_unchecked {
                    _types = check_types(project);
                }
                if logs.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
                    logs = Some(tokio::spawn(print_logs(context.clone(), deployed)));
                }
            }
            Err(failure) => {
                // The exit code is for a verb that ends.
                let _ = failure.report();
            }
        }
        eprintln!("waiting for a change of the source; Ctrl-C ends");
        match changes.next().await {
            Ok(file) => eprintln!("{} changed", file.display()),
            Err(failure) => return failure,
        }
    }
}

/// Says what is wrong with the types while the service is served: it runs without them.
fn check_types(project: &Project) -> Option<tokio::process::Child> {
    let command = project.types().ok()?;
    tokio::process::Command::from(command).kill_on_drop(true).stdin(Stdio::null()).spawn().ok()
}

fn said(deployed: &Deployed, started: Instant) {
    let took = started.elapsed().as_secs_f32();
    match deployed.is_changed {
        true => println!("served after {took:.1}s: {}", deployed.routes.join(" ")),
        false => println!("nothing changed, after {took:.1}s: {}", deployed.routes.join(" ")),
    }
}

/// What the service writes from now on, until the connection ends.
async fn print_logs(context: Context, deployed: Deployed) {
    let options = LogOptions { follow: true, tail: Some(0), since: None };
    let target = LogTarget::Service(deployed.service);
    let lines = match context.client() {
        Ok(client) => client.logs(&deployed.namespace, &target, &options).await.map_err(Failure::from),
        Err(failure) => Err(failure),
    };
    match lines {
        Ok(lines) => {
            let mut lines = Box::pin(lines);
            while let Some(Ok(entry)) = lines.next().await {
                match entry.stream {
                    Stream::Stdout => println!("[{}] {}", entry.replica, entry.text),
                    Stream::Stderr => eprintln!("[{}] {}", entry.replica, entry.text),
                    Stream::System => eprintln!("[{}] skiff: {}", entry.replica, entry.text),
                }
            }
        }
        Err(failure) => eprintln!("the service's log is not shown: {failure}"),
    }
}
