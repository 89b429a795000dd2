//! A guest's standard streams, as it sees them. Output is always ready, never full.
//!
//! The log takes what its rate allows and drops the rest, so a guest that floods it is not slowed down and waits for
//! nobody.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use skiff_api::wire::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use crate::logs::Sink;

/// One write to a log: larger than any line that the log keeps whole, small against what a host call may copy.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// One of a guest's two output streams.
#[derive(Clone)]
pub(super) struct LogStream {
    logs: Sink,
    stream: Stream,
    /// Remembers the last of it.
    tail: Option<Tail>,
}

impl LogStream {
    pub(super) fn new(logs: Sink, stream: Stream, tail: Option<Tail>) -> Self {
        Self { logs, stream, tail }
    }

    fn take(&self, bytes: &[u8]) {
        if let Some(tail) = &self.tail {
            tail.push(bytes);
        }
        self.logs.write(self.stream, bytes);
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

/// A worker's standard input: nothing comes, and it ends when the worker is to stop. That is the one way in which a
/// component can be told.
#[derive(Clone)]
pub(super) struct Input {
    end: CancellationToken,
    watched: Arc<AtomicBool>,
}

impl Input {
    pub(super) fn new(end: CancellationToken) -> Self {
        Self { end, watched: Arc::default() }
    }

    /// Whether the worker ever looked at it: one that never did does not know that it is to stop.
    pub(super) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }
}

impl IsTerminal for Input {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Input {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        self.watched.store(true, Ordering::Relaxed);
        Box::new(UntilEnd(Box::pin(self.end.clone().cancelled_owned())))
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for Input {
    async fn ready(&mut self) {
        self.watched.store(true, Ordering::Relaxed);
        self.end.cancelled().await;
    }
}

impl InputStream for Input {
    fn read(&mut self, _: usize) -> StreamResult<Bytes> {
        self.watched.store(true, Ordering::Relaxed);
        if self.end.is_cancelled() { Err(StreamError::Closed) } else { Ok(Bytes::new()) }
    }
}

/// The same, as tokio has it.
struct UntilEnd(Pin<Box<WaitForCancellationFutureOwned>>);

impl AsyncRead for UntilEnd {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        self.0.as_mut().poll(cx).map(Ok)
    }
}

impl IsTerminal for LogStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait::async_trait]
impl Pollable for LogStream {
    async fn ready(&mut self) {}
}

impl OutputStream for LogStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl AsyncWrite for LogStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
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
        let mut input = Input::new(end.clone());
        assert!(!input.is_watched());
        assert!(input.read(10).unwrap().is_empty() && input.is_watched());
        end.cancel();
        input.ready().await;
        assert!(matches!(input.read(10), Err(StreamError::Closed)));
    }
}
