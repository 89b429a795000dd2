//! What the gateway wants to know of a connection's bytes: whether the client ever spoke, whether it has said all, and
//! whether it reads.
//!
//! ```text
//! hyper ── Heard ── (TLS) ── Watched ── TCP
//! ```

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::client::Client;
use super::leash::Leash;

/// A client that reads nothing for so long holds a replica's place for nothing.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// A client that has said all may still listen, or may be gone: TCP does not tell before something is written to it. So
/// long it gets the benefit of the doubt; then its guest computes for nobody, and is cancelled.
const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(2);

/// How a connection of HTTP/2 begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Gives up on a client that does not read, and tells the leash of its answer that it does not.
pub(super) struct Watched {
    stream: TcpStream,
    leash: Arc<Leash>,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Watched {
    pub(super) fn new(stream: TcpStream, leash: Arc<Leash>) -> Self {
        Self { stream, leash, stalled: None }
    }

    fn write<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(written) = write(Pin::new(&mut self.stream), cx) {
            if self.stalled.take().is_some() {
                self.leash.set_stalled(false);
            }
            return Poll::Ready(written);
        }
        let leash = &self.leash;
        let stalled = self.stalled.get_or_insert_with(|| {
            leash.set_stalled(true);
            Box::pin(tokio::time::sleep(WRITE_TIMEOUT))
        });
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.write(cx, |stream, cx| stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, |stream, cx| stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Notes whether a client has said enough to know which protocol it speaks, and keeps from hyper for a while that nothing
/// more will come: hyper drops the request of a client that has said all, as it cannot tell it from one that is gone.
///
/// What is written goes out once the thread's other connections have had their turn: those that are ready together compute
/// first, then write. Answers that go out one after another wake a client on this machine once; each for itself would
/// interrupt the computing of the next.
pub(super) struct Heard<S> {
    stream: S,
    client: Arc<Client>,
    /// How much of the preface came, as long as nothing else did.
    preface: Option<usize>,
    spoke: Arc<AtomicBool>,
    half_closed: Option<Pin<Box<Sleep>>>,
    /// Whether something is to be written, and has let others go first.
    is_writing: bool,
}

impl<S> Heard<S> {
    /// The flag is set by the first byte that is not HTTP/2's preface, or by all of that.
    pub(super) fn new(stream: S, client: Arc<Client>) -> (Self, Arc<AtomicBool>) {
        let spoke = Arc::new(AtomicBool::new(false));
        (Self { stream, client, preface: Some(0), spoke: spoke.clone(), half_closed: None, is_writing: false }, spoke)
    }

    /// Nothing more comes. Ready when hyper may know it: when no answer is on its way, or it has had its time.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.client.is_served() && !self.is_writing {
            return Poll::Ready(());
        }
        let wait = self.half_closed.get_or_insert_with(|| Box::pin(tokio::time::sleep(HALF_CLOSED_TIMEOUT)));
        wait.as_mut().poll(cx)
    }

    fn write(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>>
    where
        S: Unpin,
    {
        if !std::mem::replace(&mut self.is_writing, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let written = ready!(write(Pin::new(&mut self.stream), cx));
        self.is_writing = false;
        Poll::Ready(written)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.half_closed.is_none() {
            let (room, before) = (buf.remaining(), buf.filled().len());
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
            if let Some(begun) = self.preface {
                self.preface = goes_on(begun, &buf.filled()[before..]);
                if self.preface.is_none() {
                    self.spoke.store(true, Ordering::Relaxed);
                }
            }
            if room == 0 || buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
        self.poll_end(cx).map(Ok)
    }
}

/// How much of the preface there is then; `None` once it is whole, or none.
fn goes_on(begun: usize, came: &[u8]) -> Option<usize> {
    let left = &PREFACE[begun..];
    (came.len() < left.len() && left.starts_with(came)).then(|| begun + came.len())
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.write(cx, |stream, cx| stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(cx, |stream, cx| stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_protocol_is_known_when_the_preface_ends_one_way_or_another() {
        let all = PREFACE.len();
        assert_eq!(goes_on(0, b""), Some(0));
        assert_eq!(goes_on(0, b"PRI"), Some(3));
        assert_eq!(goes_on(3, &PREFACE[3..all - 1]), Some(all - 1));
        assert_eq!(goes_on(all - 1, b"\n"), None);
        assert_eq!(goes_on(0, &[PREFACE, b"more"].concat()), None);
        assert_eq!(goes_on(0, b"GET /"), None);
        assert_eq!(goes_on(1, b"PUT"), None);
    }
}
