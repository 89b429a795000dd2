//! What a container writes, into the node's log store.

use std::time::Duration;

use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt;
use jiff::Timestamp;
use skiff_api::wire::Stream;

use super::engine::Engine;
use super::error::Error;
use crate::logs::Sink;

/// An engine that went away may be back.
const AGAIN: Duration = Duration::from_secs(2);
/// What is shown of a container that failed.
const TAIL_LINES: usize = 5;
const TAIL_CHARS_MAX: usize = 600;

/// Reads along until the container has ended and all is read. `since`: only what comes from then on.
pub(super) async fn follow(engine: Engine, name: String, sink: Sink, mut since: Option<Timestamp>) {
    loop {
        let seconds = since.map_or(0, |since| i32::try_from(since.as_second()).unwrap_or(i32::MAX));
        let options = LogsOptionsBuilder::default().follow(true).stdout(true).stderr(true).since(seconds).build();
        let opened = engine.ask("show a log", async |docker| Ok(docker.logs(&name, Some(options)).boxed())).await;
        let mut broken = opened.is_err();
        if let Ok(mut lines) = opened {
            while let Some(output) = lines.next().await {
                match output {
                    Ok(LogOutput::StdErr { message }) => sink.write(Stream::Stderr, &message),
                    Ok(output) => sink.write(Stream::Stdout, output.as_ref()),
                    Err(bollard::errors::Error::DockerResponseServerError { .. }) => return,
                    Err(_) => {
                        broken = true;
                        break;
                    }
                }
            }
        }
        if !broken {
            return;
        }
        since = Some(Timestamp::now());
        tokio::time::sleep(AGAIN).await;
    }
}

/// The last lines, for a message.
pub(super) async fn tail(engine: &Engine, name: &str) -> String {
    let lines = async |docker: bollard::Docker| {
        let tail = TAIL_LINES.to_string();
        let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(&tail).build();
        let mut lines = docker.logs(name, Some(options));
        let mut text = String::new();
        while let Some(Ok(line)) = lines.next().await {
            text.push_str(&String::from_utf8_lossy(line.as_ref()));
        }
        Ok(text)
    };
    let lines: Result<String, Error> = engine.ask("show a log", lines).await;
    let lines = lines.unwrap_or_default();
    let kept: Vec<char> = lines.trim_end().chars().map(|c| if c == '\n' { c } else { plain(c) }).collect();
    let kept: String = kept[kept.len().saturating_sub(TAIL_CHARS_MAX)..].iter().collect();
    match kept.trim().is_empty() {
        true => "it wrote nothing".to_owned(),
        false => format!("its last words: {}", kept.lines().collect::<Vec<_>>().join(" | ")),
    }
}

fn plain(c: char) -> char {
    if c.is_control() { ' ' } else { c }
}
