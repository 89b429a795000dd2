//! A guest's standard streams, as it sees them.
//!
//! The log takes what its rate allows and drops the rest, so a guest that floods it is not slowed down and waits for
//! nobody: output is always ready, never full. Only a client that is attached to a task gets all of it, and is waited for.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use skiff_api::standard;
use skiff_api::wire::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use crate::logs::Sink;
use crate::sandbox::console::Console;
use crate::sandbox::pipe::Taken;

/// One write to a log: larger than any line that the log keeps whole, small against what a host call may copy.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// One of a guest's two output streams.
#[derive(Clone)]
pub(super) struct LogStream {
    logs: Sink,
    stream: Stream,
    /// Remembers the last of it.
    tail: Option<Tail>,
    /// Whoever is attached gets all of it, and is waited for.
    console: Option<Console>,
}

impl LogStream {
    pub(super) fn new(logs: Sink, stream: Stream, tail: Option<Tail>, console: Option<Console>) -> Self {
        Self { logs, stream, tail, console }
    }

    fn take(&self, bytes: &[u8]) {
        if let Some(tail) = &self.tail {
            tail.push(bytes);
        }
        self.logs.write(self.stream, bytes);
        if let Some(console) = self.console.as_ref().filter(|_| !bytes.is_empty()) {
            console.output().push(standard::frame(self.stream.into(), bytes));
        }
    }

    fn room(&self) -> usize {
        self.console.as_ref().map_or(WRITE_BYTES_MAX, |console| console.output().room().min(WRITE_BYTES_MAX))
    }

    async fn until_room(&self) {
        if let Some(console) = &self.console {
            console.output().until_room().await;
        }
    }
}

/// What is kept of a worker's last output: some lines, for a sentence about its end.
const TAIL_BYTES_MAX: usize = 400;
const TAIL_LINES_MAX: usize = 3;

/// The last that a worker wrote, to both of its streams.
#[derive(Debug, Clone, Default)]
pub(super) struct Tail(Arc<Mutex<VecDeque<u8>>>);

impl Tail {
    fn push(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(&bytes[bytes.len().saturating_sub(TAIL_BYTES_MAX)..]);
        let over = kept.len().saturating_sub(TAIL_BYTES_MAX);
        kept.drain(..over);
    }

    /// Its last lines, without what no terminal should be sent.
    pub(super) fn lines(&self) -> Vec<String> {
        let kept: Vec<u8> = self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        let text = String::from_utf8_lossy(&kept);
        let clean = |line: &str| line.chars().filter(|c| !c.is_control()).collect::<String>();
        let mut lines: Vec<String> = text.lines().map(clean).filter(|line| !line.is_empty()).collect();
        lines.drain(..lines.len().saturating_sub(TAIL_LINES_MAX));
        lines
    }
}

/// A worker's standard input: what a client that is attached sends, or nothing. It ends when the worker is to stop. That is
/// the one way in which a component can be told.
#[derive(Clone)]
pub(super) struct Input {
    end: CancellationToken,
    watched: Arc<AtomicBool>,
    console: Option<Console>,
}

impl Input {
    pub(super) fn new(end: CancellationToken, console: Option<Console>) -> Self {
        Self { end, watched: Arc::default(), console }
    }

    /// Whether the worker ever looked at it: one that never did does not know that it is to stop.
    pub(super) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }

    /// Whoever is attached, for the worker's output.
    pub(super) fn console(&self) -> Option<&Console> {
        self.console.as_ref()
    }

    /// `None` at its end.
    fn take(&self, size: usize) -> Option<Bytes> {
        self.watched.store(true, Ordering::Relaxed);
        if self.end.is_cancelled() {
            return None;
        }
        match self.console.as_ref().map_or(Taken::NothingYet, |console| console.input().take(size)) {
            Taken::Some(bytes) => Some(bytes),
            Taken::NothingYet => Some(Bytes::new()),
            Taken::End => None,
        }
    }

    async fn until_some(&self) {
        self.watched.store(true, Ordering::Relaxed);
        let typed = async {
            match &self.console {
                Some(console) => console.input().until_some().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.end.cancelled() => {}
            () = typed => {}
        }
    }
}

impl IsTerminal for Input {
    fn is_terminal(&self) -> bool {
        self.console.as_ref().is_some_and(Console::is_terminal)
    }
}

impl StdinStream for Input {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(Waiting { stream: self.clone(), until_ready: None })
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        self.until_some().await;
    }
}

impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.take(size).ok_or(StreamError::Closed)
    }
}

/// One of the streams, as tokio has it: with what it waits for.
struct Waiting<S> {
    stream: S,
    until_ready: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl<S> Waiting<S> {
    /// Whether it may be looked at again.
    fn poll_ready<F>(&mut self, cx: &mut Context<'_>, until_ready: impl FnOnce(&S) -> F) -> Poll<()>
    where
        F: Future<Output = ()> + Send + Sync + 'static,
    {
        let stream = &self.stream;
        let waiting = self.until_ready.get_or_insert_with(|| Box::pin(until_ready(stream)));
        let ready = waiting.as_mut().poll(cx);
        if ready.is_ready() {
            self.until_ready = None;
        }
        ready
    }
}

impl AsyncRead for Waiting<Input> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        loop {
            match self.stream.take(buf.remaining()) {
                Some(bytes) if bytes.is_empty() => {}
                Some(bytes) => {
                    buf.put_slice(&bytes);
                    return Poll::Ready(Ok(()));
                }
                None => return Poll::Ready(Ok(())),
            }
            let until_some = |input: &Input| {
                let input = input.clone();
                async move { input.until_some().await }
            };
            if self.poll_ready(cx, until_some).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        self.console.as_ref().is_some_and(Console::is_terminal)
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(Waiting { stream: self.clone(), until_ready: None })
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {
        self.until_room().await;
    }
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        // What is not attached takes whatever comes, as the log bounds what it keeps.
        if self.console.is_some() && bytes.len() > self.room() {
            return Err(StreamError::trap("wrote more than check-write allowed"));
        }
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(self.room())
    }
}

impl AsyncWrite for Waiting<LogStream> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        loop {
            let room = self.stream.room();
            if room > 0 {
                let taken = &bytes[..bytes.len().min(room)];
                self.stream.take(taken);
                return Poll::Ready(Ok(taken.len()));
            }
            let until_room = |stream: &LogStream| {
                let stream = stream.clone();
                async move { stream.until_room().await }
            };
            if self.poll_ready(cx, until_room).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_nothing_that_moves_a_cursor() {
        let tail = Tail::default();
        assert_eq!(tail.lines(), Vec::<String>::new());
        (0..100).for_each(|number| tail.push(format!("line {number}\n").as_bytes()));
        tail.push(b"\x1b[2Jlast\xff");
        assert_eq!(tail.lines(), ["line 98", "line 99", "[2Jlast\u{fffd}"]);
        tail.push(&[b'a'; 100_000]);
        assert_eq!(tail.lines(), ["a".repeat(TAIL_BYTES_MAX)]);
    }

    #[tokio::test]
    async fn input_ends_when_it_is_to_and_knows_whether_anybody_looks() {
        let end = CancellationToken::new();
        let mut input = Input::new(end.clone(), None);
        assert!(!input.is_watched());
        assert!(input.read(10).unwrap().is_empty() && input.is_watched());
        end.cancel();
        input.ready().await;
        assert!(matches!(input.read(10), Err(StreamError::Closed)));
    }

    #[tokio::test]
    async fn an_attached_client_is_read_waited_for_and_gets_all_of_it() {
        let console = Console::new(true);
        let client = console.attach().unwrap();
        let mut input = Input::new(CancellationToken::new(), Some(console.clone()));
        assert!(input.is_terminal() && input.read(3).unwrap().is_empty());
        let keyboard = client.keyboard();
        keyboard.write(Bytes::from_static(b"typed")).await;
        input.ready().await;
        assert_eq!((&input.read(3).unwrap()[..], &input.read(3).unwrap()[..]), (&b"typ"[..], &b"ed"[..]));
        drop(keyboard);
        input.ready().await;
        assert!(matches!(input.read(3), Err(StreamError::Closed)));

        let logs = Sink::new(crate::logs::Journal::in_memory());
        let mut output = LogStream::new(logs, Stream::Stdout, None, Some(console));
        let mut wrote = 0;
        while let room @ 1.. = output.check_write().unwrap() {
            output.write(vec![b'x'; room].into()).unwrap();
            wrote += room;
        }
        assert!(output.write(Bytes::from_static(b"x")).is_err(), "it is full");
        let mut frames = standard::Frames::default();
        frames.push(&client.output().await.unwrap());
        let (channel, bytes) = frames.next_frame().unwrap().unwrap();
        assert!(channel == standard::Channel::Output && bytes.len() == WRITE_BYTES_MAX && wrote >= 2 * bytes.len());
        output.ready().await;
        assert_eq!(output.check_write().unwrap(), WRITE_BYTES_MAX);
        drop(client);
        (0..100).for_each(|_| output.write(vec![b'x'; WRITE_BYTES_MAX].into()).unwrap());
    }
}
