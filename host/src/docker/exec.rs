//! Commands that are run in a container, with streams of their own.

use bollard::container::LogOutput;
use bollard::errors::Error as Call;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::query_parameters::ResizeExecOptionsBuilder;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use futures_util::{FutureExt, Stream};
use skiff_api::standard::{Channel, End, Frames, Size, frame, json_frame};
use skiff_api::wire::Exec;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::engine::Engine;
use super::error::Error;
use crate::tunnel::{Flow, Input};

/// What is quoted of a check that failed.
const CHECK_BYTES_MAX: usize = 300;

/// A command that runs. It goes on when nobody is connected to it any more, and sees the end of its input.
pub(super) struct Session {
    pub(super) output: Flow,
    pub(super) input: Typed,
}

/// Begins a command in a container that runs.
pub(super) async fn begin(engine: &Engine, container: &str, exec: &Exec) -> Result<Session, Error> {
    let options = CreateExecOptions {
        attach_stdin: Some(exec.input),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(exec.terminal.is_some()),
        cmd: Some(exec.command.clone()),
        ..CreateExecOptions::default()
    };
    let create = async |docker: bollard::Docker| docker.create_exec(container, options).await;
    let id = engine.ask("prepare a command", create).await?.id;
    let options = StartExecOptions { tty: exec.terminal.is_some(), ..StartExecOptions::default() };
    let start = async |docker: bollard::Docker| docker.start_exec(&id, Some(options)).await;
    let StartExecResults::Attached { output, input } = engine.ask("run a command", start).await? else {
        return Err(Error::Exited("the engine ran the command without its streams".to_owned()));
    };
    if let Some(size) = exec.terminal {
        resize(engine, &id, size).await;
    }
    let output = framed(output, end(engine.clone(), id.clone()));
    Ok(Session { output, input: Typed { engine: engine.clone(), id, frames: Frames::default(), input } })
}

/// Runs a command to its end. An error is what it wrote, or why it could not be run.
pub(super) async fn check(engine: &Engine, container: &str, command: &[String]) -> Result<(), String> {
    let options = CreateExecOptions {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(command.to_vec()),
        ..CreateExecOptions::default()
    };
    let run = async {
        let create = async |docker: bollard::Docker| docker.create_exec(container, options).await;
        let id = engine.ask("prepare a check", create).await?.id;
        let start = async |docker: bollard::Docker| docker.start_exec(&id, None::<StartExecOptions>).await;
        let mut written = Vec::new();
        if let StartExecResults::Attached { mut output, .. } = engine.ask("run a check", start).await? {
            while let Some(Ok(piece)) = output.next().await {
                let room = CHECK_BYTES_MAX - written.len();
                written.extend_from_slice(&piece.as_ref()[..piece.as_ref().len().min(room)]);
            }
        }
        Ok::<_, Error>((end(engine.clone(), id).await, written))
    };
    let (end, written) = run.await.map_err(|error| crate::reconcile::chain(&error))?;
    let program = command.first().map_or("", String::as_str);
    match end {
        End { exit_code: Some(0), .. } => Ok(()),
        End { exit_code: Some(code), .. } => {
            let written = String::from_utf8_lossy(&written);
            let written: String = written.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            let said = if written.is_empty() { String::new() } else { format!(": {written}") };
            Err(format!("{program} ended with code {code}{said}"))
        }
        End { error, .. } => Err(error),
    }
}

/// What it writes, and then how it ended.
fn framed(
    output: impl Stream<Item = Result<LogOutput, Call>> + Send + 'static,
    end: impl Future<Output = End> + Send + 'static,
) -> Flow {
    let written = output.filter_map(async |piece| match piece {
        Ok(LogOutput::StdErr { message }) => Some(frame(Channel::Error, &message)),
        Ok(piece) => Some(frame(Channel::Output, piece.as_ref())),
        // The end tells what is known.
        Err(_) => None,
    });
    let end = stream::once(end.map(|end| json_frame(Channel::End, &end)));
    Box::pin(written.chain(end).map(|frame| Ok(Bytes::from(frame))))
}

async fn end(engine: Engine, id: String) -> End {
    let inspected = engine.ask("tell how a command ended", async |docker| docker.inspect_exec(&id).await).await;
    match inspected {
        Ok(exec) if exec.exit_code.is_some() => End { exit_code: exec.exit_code, ..End::default() },
        Ok(_) => End { error: "the connection to the command was lost".to_owned(), ..End::default() },
        Err(error) => End { error: format!("the container has ended, or its engine: {error}"), ..End::default() },
    }
}

/// The terminal stays as it is where that fails: the command may have ended.
async fn resize(engine: &Engine, id: &str, size: Size) {
    let options = ResizeExecOptionsBuilder::default().h(size.rows.into()).w(size.columns.into()).build();
    let resize = async |docker: bollard::Docker| docker.resize_exec(id, options).await;
    if let Err(error) = engine.ask("set a terminal's size", resize).await {
        tracing::debug!(%error, "a terminal keeps its size");
    }
}

/// What comes for it: frames of its input, and of its terminal's size.
pub(super) struct Typed {
    engine: Engine,
    id: String,
    frames: Frames,
    input: std::pin::Pin<Box<dyn AsyncWrite + Send>>,
}

impl Input for Typed {
    fn take(&mut self, bytes: Bytes) -> BoxFuture<'_, bool> {
        async move {
            self.frames.push(&bytes);
            loop {
                match self.frames.next_frame() {
                    Ok(Some((Channel::Input, bytes))) => {
                        if self.input.write_all(&bytes).await.is_err() || self.input.flush().await.is_err() {
                            return false;
                        }
                    }
                    Ok(Some((Channel::Size, bytes))) => {
                        if let Ok(size) = serde_json::from_slice(&bytes) {
                            resize(&self.engine, &self.id, size).await;
                        }
                    }
                    Ok(Some(_)) => {}
                    Ok(None) => return true,
                    Err(_) => return false,
                }
            }
        }
        .boxed()
    }

    fn end(&mut self) -> BoxFuture<'_, ()> {
        async { drop(self.input.shutdown().await) }.boxed()
    }
}
