//! `skiff exec`: a command in a service's container, with this process's standard streams, and its exit code.

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use skiff_api::standard::{Channel, End, Size, frame, json_frame};
use skiff_api::wire::Exec;
use tokio::signal::unix::{SignalKind, signal};

use super::once::{put, typed};
use super::replica;
use crate::Outcome;
use crate::args::ExecArgs;
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// Where the terminal does not say how large it is.
const USUAL: Size = Size { columns: 80, rows: 24 };

pub(super) async fn run(context: &Context, args: ExecArgs) -> Outcome {
    if args.tty && args.interactive && !io::stdin().is_terminal() {
        let text = "failed to give the command a terminal: standard input is none (hint: leave -t out)";
        return Err(Failure::message(Exit::Invalid, text));
    }
    let client = context.client()?;
    let replica = replica::find(&client, &args.namespace.namespace, &args.target).await?;
    let terminal = args.tty.then(size);
    let exec = Exec { replica, command: args.command, input: args.interactive, terminal };
    let written = client.exec(&exec, input(args.interactive, args.tty)?).await;
    let mut written = written.map_err(|error| Failure::from(error).during("failed to run the command"))?.boxed();
    // From here on the keys go to the command, that which ends this program as well.
    let raw = (args.tty && args.interactive).then(Raw::begin).flatten();
    let mut end = None;
    while let Some(piece) = written.next().await {
        let (channel, bytes) = piece.map_err(|error| Failure::from(error).during("lost the command"))?;
        if channel == Channel::End {
            end = serde_json::from_slice::<End>(&bytes).ok();
        }
        if put(channel, &bytes).is_err() {
            // Whoever reads has gone, as with `| head`: nobody wants the rest.
            return Ok(ExitCode::SUCCESS);
        }
    }
    drop(raw);
    let End { exit_code, error } = end.unwrap_or_default();
    match exit_code {
        Some(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))),
        None if error.is_empty() => {
            Err(Failure::message(Exit::Unreachable, "lost the command: nobody knows how it ended"))
        }
        None => Err(Failure::message(Exit::Unreachable, format!("lost the command: {error}"))),
    }
}

/// What the command is sent. It ends when what is typed does.
fn input(is_interactive: bool, has_terminal: bool) -> Result<BoxStream<'static, io::Result<Bytes>>, Failure> {
    let typed = match is_interactive {
        true => typed().map(|piece| Some(piece.map(|bytes| frame(Channel::Input, &bytes)))).boxed(),
        false if has_terminal => stream::pending().boxed(),
        false => stream::empty().boxed(),
    };
    let typed = typed.chain(stream::once(async { None }));
    let sizes = match has_terminal {
        true => sizes()?.map(|size| Some(Ok(json_frame(Channel::Size, &size)))).boxed(),
        false => stream::pending().boxed(),
    };
    let pieces = stream::select(typed, sizes).take_while(|piece| std::future::ready(piece.is_some()));
    Ok(pieces.filter_map(async |piece| piece.map(|piece| piece.map(Bytes::from))).boxed())
}

/// The terminal's size, each time that it changes.
fn sizes() -> Result<BoxStream<'static, Size>, Failure> {
    let changes = signal(SignalKind::window_change());
    let changes =
        changes.map_err(|error| Failure::new(Exit::Internal, error).during("failed to watch the terminal"))?;
    Ok(stream::unfold(changes, |mut changes| async move { Some((changes.recv().await.map(|()| size())?, changes)) })
        .boxed())
}

fn size() -> Size {
    match tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin())) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => Size { columns: size.ws_col, rows: size.ws_row },
        _ => USUAL,
    }
}

/// A terminal that passes every key on as it is. It is as it was before when this is dropped.
struct Raw(Termios);

impl Raw {
    fn begin() -> Option<Self> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
