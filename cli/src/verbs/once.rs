//! A job that somebody waits for: its standard streams are this process's, its exit code is, and then it is gone.

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use skiff_api::client::{Client, Error, ListQuery, Scope};
use skiff_api::resource::{Job, Replica, ReplicaSpec};
use skiff_api::standard::Channel;
use skiff_api::{Code, Kind, Name};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::Outcome;
use crate::exit::{Exit, Failure};
use crate::verbs::wait;

/// Of a program that was ended from the keyboard, as shells say it.
const INTERRUPTED: u8 = 130;

/// Its end is stored a moment after its last word.
const END_WITHIN: Duration = Duration::from_secs(60);
/// How long a task that is being made is left alone.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// What is typed at once, and what of it is on its way.
const READ_BYTES: usize = 16 << 10;
const READS_MAX: usize = 4;

/// Where the job's input comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// This process's own.
    Ours,
    /// Nothing comes, and it does not end: for a worker, its end would be the word to stop.
    None,
}

/// Runs a job that has just been made, and deletes it, whatever comes of it.
pub(super) async fn run(client: &Client, (namespace, name): (&Name, &str), input: Input, begin: Duration) -> Outcome {
    let ended = tokio::select! {
        ended = attached(client, namespace, name, input, begin) => ended,
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

async fn attached(client: &Client, namespace: &Name, name: &str, input: Input, begin: Duration) -> Outcome {
    let named = [(namespace.clone(), name.to_owned())];
    let mut last: Option<Job> = None;
    let mut note = |job: &Job| last = Some(job.clone());
    // What cannot begin says so by its end.
    let attached = tokio::select! {
        attached = attach(client, namespace, name, input, begin) => Some(attached?),
        ended = wait::until(wait::has_ended, client, &named, Duration::MAX, &mut note) => ended.map(|()| None)?,
    };
    if let Some(mut written) = attached {
        while let Some(piece) = written.next().await {
            let (channel, bytes) = piece.map_err(|error| Failure::from(error).during("lost the task"))?;
            if put(channel, &bytes).is_err() {
                // Whoever reads has gone, as with `| head`: nobody wants the rest.
                return Ok(ExitCode::SUCCESS);
            }
        }
        wait::until(wait::has_ended, client, &named, END_WITHIN, &mut note).await?;
    }
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

type Written = BoxStream<'static, Result<(Channel, Vec<u8>), Error>>;

/// Connects to the task once it is there.
async fn attach(
    client: &Client,
    namespace: &Name,
    name: &str,
    input: Input,
    begin: Duration,
) -> Result<Written, Failure> {
    let deadline = wait::deadline(begin);
    loop {
        // Nothing is read before a task is there that can have it.
        let (go, gone) = oneshot::channel::<()>();
        let typed = stream::once(gone).flat_map(move |gone| match (gone, input) {
            (Ok(()), Input::Ours) => typed(),
            (Ok(()), Input::None) => stream::pending().boxed(),
            (Err(_), _) => stream::empty().boxed(),
        });
        let problem = match client.attach(namespace, name, typed.boxed()).await {
            Ok(written) => {
                // Fails where the task has ended by now.
                let _ = go.send(());
                return Ok(written.boxed());
            }
            Err(Error::Problem(problem)) if problem.code == Code::Unavailable => problem,
            Err(error) => return Err(error.into()),
        };
        if Instant::now() >= deadline {
            return Err(Failure::from(Error::Problem(problem)));
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// This process's standard input. It is read in a thread of its own, which nobody waits for: there is no way to end a read.
pub(super) fn typed() -> BoxStream<'static, io::Result<Bytes>> {
    let (pieces, typed) = mpsc::channel(READS_MAX);
    std::thread::spawn(move || {
        let (mut input, mut buffer) = (io::stdin().lock(), vec![0; READ_BYTES]);
        loop {
            let piece = match input.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => Ok(Bytes::copy_from_slice(&buffer[..count])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let is_last = piece.is_err();
            if pieces.blocking_send(piece).is_err() || is_last {
                return;
            }
        }
    });
    stream::unfold(typed, |mut typed| async move { typed.recv().await.map(|piece| (piece, typed)) }).boxed()
}

/// Where it was written, at once: there may be no line to wait for.
pub(super) fn put(channel: Channel, bytes: &[u8]) -> io::Result<()> {
    match channel {
        Channel::Output => io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()),
        Channel::Error => io::stderr().write_all(bytes),
        Channel::Input | Channel::End | Channel::Size => Ok(()),
    }
}
