//! A job that somebody waits for: what it writes is printed as it comes, its exit code is this process's, and then it is gone.

use std::process::ExitCode;
use std::time::Duration;

use futures_util::StreamExt;
use skiff_api::client::{Client, ListQuery, LogOptions, LogTarget, Scope};
use skiff_api::resource::{Job, JobSpec, Replica, ReplicaSpec};
use skiff_api::{Kind, Name};

use crate::Outcome;
use crate::exit::{Exit, Failure};
use crate::verbs::{logs, wait};

/// Of a program that was ended from the keyboard, as shells say it.
const INTERRUPTED: u8 = 130;

/// Its end is stored a moment after its last line.
const END_WITHIN: Duration = Duration::from_secs(60);

/// Runs a job that has just been made, and deletes it, whatever comes of it.
pub(super) async fn run(client: &Client, namespace: &Name, name: &str, begin: Duration) -> Outcome {
    let ended = tokio::select! {
        ended = followed(client, namespace, name, begin) => ended,
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::from(INTERRUPTED)),
    };
    let deleted = client.delete(Kind::Job, namespace, name).await;
    let code = ended?;
    match deleted {
        Err(error) if !error.is_not_found() => {
            Err(Failure::from(error).during(format!("failed to delete job {name}, which has ended")))
        }
        _ => Ok(code),
    }
}

async fn followed(client: &Client, namespace: &Name, name: &str, begin: Duration) -> Outcome {
    let named = [(namespace.clone(), name.to_owned())];
    // A line may come before anybody hears that it runs; what fails before it can write ends here.
    wait::until::<JobSpec>(has_begun, client, &named, begin, &mut |_| ()).await?;
    let options = LogOptions { follow: true, ..LogOptions::default() };
    let mut lines = Box::pin(client.logs(namespace, &LogTarget::Job(name.to_owned()), &options).await?);
    while let Some(line) = lines.next().await {
        let entry = line?;
        if logs::put(entry.stream, &entry.text).is_err() {
            break;
        }
    }
    let mut last: Option<Job> = None;
    wait::until(wait::has_ended, client, &named, END_WITHIN, &mut |job: &Job| last = Some(job.clone())).await?;
    let is_complete = last.as_ref().is_some_and(|job| job.status.condition("Complete").is_some());
    if is_complete {
        return Ok(ExitCode::SUCCESS);
    }
    let tasks = client.list::<ReplicaSpec>(&Scope::Namespace(namespace.clone()), &ListQuery::default()).await?.items;
    let is_its = |task: &&Replica| task.spec.service.as_str() == name && task.status.ended;
    let task = tasks.iter().find(is_its);
    match task.and_then(|task| task.status.exit_code).map(u8::try_from) {
        // It has said what there is to say itself.
        Some(Ok(code)) if code != 0 => Ok(ExitCode::from(code)),
        _ => {
            let why = last.as_ref().map_or_else(|| "nothing is known of it".to_owned(), wait::reason);
            Err(Failure::message(Exit::NotReady, format!("job {namespace}/{name} has failed: {why}")))
        }
    }
}

/// It runs, has run, or will not.
fn has_begun(job: &Job) -> bool {
    let runs = job.status.conditions.first().is_some_and(|condition| condition.reason == "Running");
    wait::has_ended(job) || (runs && job.status.active > 0)
}
