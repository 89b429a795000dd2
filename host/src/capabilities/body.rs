//! Bodies on their way to a guest.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::Error as HttpError;

use super::outbound::Lasting;
use super::pool::{Lease, of_hyper};

/// What the task that drives a service tells the body that its caller reads.
pub(super) enum Piece {
    Frame(Frame<Bytes>),
    Broken(HttpError),
    /// Said, because a task that was stopped says nothing: its body must not look whole.
    End,
}

/// The caller's end of a service's answer. The service is driven by a task of its own, and not by whoever reads this: a
/// guest that reads would be charged for the time of the one it calls.
pub(super) struct Piped {
    pub(super) pieces: mpsc::Receiver<Piece>,
    pub(super) ended: bool,
}

impl Body for Piped {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let piece = ready!(self.pieces.poll_recv(cx));
        self.ended = !matches!(piece, Some(Piece::Frame(_)));
        Poll::Ready(match piece {
            Some(Piece::Frame(frame)) => Some(Ok(frame)),
            Some(Piece::Broken(error)) => Some(Err(error)),
            Some(Piece::End) => None,
            None => Some(Err(HttpError::HttpResponseIncomplete)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

/// A server's answer, with a limit on silence. At its end its connection is free for the next request.
pub(super) struct Received {
    pub(super) incoming: Incoming,
    pub(super) between: Duration,
    pub(super) silence: Option<Pin<Box<Sleep>>>,
    pub(super) lease: Option<Lease>,
    /// The call lasts as long as its answer.
    pub(super) _lasting: Lasting,
    pub(super) _permit: OwnedSemaphorePermit,
}

impl Body for Received {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                this.silence = None;
                match &frame {
                    None => this.give_back(),
                    Some(Err(_)) => this.lease = None,
                    Some(Ok(_)) => {}
                }
                Poll::Ready(frame.map(|frame| frame.map_err(|error| of_hyper(&error))))
            }
            Poll::Pending => {
                let until = Instant::now() + this.between;
                let silence = this.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
                ready!(silence.as_mut().poll(cx));
                this.lease = None;
                Poll::Ready(Some(Err(HttpError::ConnectionReadTimeout)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Received {
    fn give_back(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        // One without a body is not read at all.
        if self.incoming.is_end_stream() {
            self.give_back();
        }
    }
}
