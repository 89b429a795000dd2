//! `skiff logs`

use std::io::{self, Write};
use std::process::ExitCode;

use futures_util::StreamExt;
use jiff::Timestamp;
use skiff_api::Kind;
use skiff_api::client::{LogEntry, LogOptions, LogTarget};
use skiff_api::wire::Stream;

use crate::Outcome;
use crate::args::LogsArgs;
use crate::context::Context;
use crate::exit::{Exit, Failure};

pub(super) async fn run(context: &Context, args: LogsArgs) -> Outcome {
    let target = target(&args.target)?;
    let since = args.since.map(|span| {
        Timestamp::now()
            .saturating_sub(jiff::SignedDuration::from_millis(i64::try_from(span.as_ms()).unwrap_or(i64::MAX)))
    });
    let since = match since {
        Some(Ok(at)) => Some(at),
        Some(Err(error)) => return Err(Failure::new(Exit::Invalid, error).during("failed to read --since")),
        None => None,
    };
    let options = LogOptions { follow: args.follow, tail: args.tail, since };
    let client = context.client()?;
    let mut lines = Box::pin(client.logs(&args.namespace.namespace, &target, &options).await?);
    let mut failed = None;
    while let Some(line) = lines.next().await {
        match line {
            Ok(entry) => {
                if print(&args, &entry).is_err() {
                    // Whoever reads has gone, as with `| head`.
                    return Ok(ExitCode::SUCCESS);
                }
            }
            // At once: a followed log may go on for days after it.
            Err(error) => failed = Some(Failure::from(error).report()),
        }
    }
    Ok(failed.unwrap_or(ExitCode::SUCCESS))
}

/// What a guest wrote to standard error, and what Skiff says of it, goes to standard error.
fn print(args: &LogsArgs, entry: &LogEntry) -> io::Result<()> {
    let mut line = String::new();
    if args.prefix {
        line += &format!("[{}] ", entry.replica);
    }
    if args.timestamps {
        line += &format!("{:.3} ", entry.time);
    }
    line += &entry.text;
    put(entry.stream, &line)
}

/// Where a guest wrote it.
pub(super) fn put(stream: Stream, line: &str) -> io::Result<()> {
    match stream {
        Stream::Stdout => writeln!(io::stdout(), "{line}"),
        Stream::Stderr => writeln!(io::stderr(), "{line}"),
        Stream::System => writeln!(io::stderr(), "skiff: {line}"),
    }
}

fn target(text: &str) -> Result<LogTarget, Failure> {
    let Some((kind, name)) = text.split_once('/') else {
        return Ok(LogTarget::Service(text.to_owned()));
    };
    match kind.parse() {
        Ok(Kind::Service) => Ok(LogTarget::Service(name.to_owned())),
        Ok(Kind::Job) => Ok(LogTarget::Job(name.to_owned())),
        Ok(Kind::Replica) => Ok(LogTarget::Replica(name.to_owned())),
        _ => {
            let text = format!(
                "failed to read logs of {text}: {kind:?} has none (hint: write service/NAME, job/NAME or replica/NAME)"
            );
            Err(Failure::message(Exit::Invalid, text))
        }
    }
}
