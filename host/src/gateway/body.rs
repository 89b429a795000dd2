//! Response bodies: what the gateway says itself, and a guest's with its time limits.
//!
//! ```text
//! guest done, short ──> Whole: the request ends with its head, the connection has the bytes
//! anything else ──────> Guest: the request lasts until its body is read; idle and total time, a leash for stalled clients
//! another node's ─────> Node: passed on as it comes; that node keeps the time
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::flight::Flight;
use super::leash::{self, Leash};
use super::peer::Arrives;
use super::target::Entered;
use crate::sandbox::{self, Failure};

/// A body that is not worth a place at a replica while it is sent: it fits into what the kernel buffers for a connection.
const SHORT_BYTES_MAX: u64 = 64 << 10;

/// Why a body breaks off. Its status has been sent by then: the connection or stream is reset, so that nobody takes a
/// part for the whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error(transparent)]
    Guest(#[from] Failure),
    #[error("the guest sent nothing for {} ms (hint: see http.timeout.idle)", .0.as_millis())]
    Idle(Duration),
    #[error("the request took longer than its total time (hint: see http.timeout.total)")]
    Total,
    #[error("the answer of another node broke off")]
    Node(#[source] hyper::Error),
}

impl BodyError {
    fn trouble(&self) -> Option<&'static str> {
        match self {
            Self::Guest(failure) => failure.trouble(),
            Self::Idle(_) | Self::Total => Some("TimedOut"),
            Self::Node(_) => None,
        }
    }
}

/// The body of every answer.
pub(super) enum AnswerBody {
    Whole(Option<Bytes>),
    Guest(Box<GuestBody>),
    Node(Box<NodeBody>),
}

/// The body of another node's answer.
pub(super) struct NodeBody {
    arrives: Arrives,
    flight: Flight,
}

/// A guest's body. It holds the request's place at its replica: the request lasts as long as its body does.
pub(super) struct GuestBody {
    inner: sandbox::Body,
    idle: Option<Duration>,
    total: Option<Instant>,
    timer: Timer,
    leash: Arc<Leash>,
    flight: Flight,
    _entered: Entered,
}

/// The wait for the next piece. Made only once a guest lets its client wait, as most never do.
#[derive(Default)]
enum Timer {
    #[default]
    Off,
    /// Made, but not for the wait that comes next.
    Spare(Pin<Box<Sleep>>),
    Running(Pin<Box<Sleep>>),
}

impl AnswerBody {
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self::Whole((!bytes.is_empty()).then_some(bytes))
    }

    /// The body of a guest's answer. Where the guest is done and what it said is short, the request ends here, so that
    /// its replica has a place again before the last byte is read.
    ///
    /// One that goes on in another protocol may be silent for as long as it likes.
    pub(super) fn of_guest(
        mut inner: sandbox::Body,
        started: Instant,
        mut flight: Flight,
        entered: Entered,
        is_upgraded: bool,
    ) -> Self {
        let Some(target) = flight.target().cloned() else { return Self::Whole(None) };
        let total = target.timeout.total.as_duration().map(|total| started + total);
        if total.is_none()
            && let Some(bytes) = short(&mut inner)
        {
            flight.sent(bytes.len());
            flight.ended();
            return Self::whole(bytes);
        }
        let idle = target.timeout.idle.as_duration().filter(|_| !is_upgraded);
        let leash = leash::of_stream().unwrap_or_else(|| flight.client.leash.clone());
        leash.hold(target, total);
        Self::Guest(Box::new(GuestBody { inner, idle, total, timer: Timer::Off, leash, flight, _entered: entered }))
    }

    /// The body of another node's answer.
    pub(super) fn of_node(arrives: Arrives, mut flight: Flight) -> Self {
        if arrives.incoming.is_end_stream() {
            flight.ended();
            return Self::Whole(None);
        }
        Self::Node(Box::new(NodeBody { arrives, flight }))
    }
}

/// What a body says, if all of it is there and fits into one write.
pub(super) fn short(body: &mut sandbox::Body) -> Option<Bytes> {
    if body.size_hint().exact()? > SHORT_BYTES_MAX {
        return None;
    }
    let mut cx = Context::from_waker(Waker::noop());
    let mut whole = Bytes::new();
    while let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut *body).poll_frame(&mut cx) {
        let Ok(data) = frame.into_data() else { break };
        whole = if whole.is_empty() { data } else { Bytes::from([whole, data].concat()) };
    }
    Some(whole)
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Guest(guest) => guest.poll(cx),
            Self::Node(node) => node.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Guest(guest) => guest.inner.is_end_stream(),
            Self::Node(node) => node.arrives.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Guest(guest) => guest.inner.size_hint(),
            Self::Node(node) => node.arrives.incoming.size_hint(),
        }
    }
}

impl NodeBody {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.arrives.incoming).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                self.flight.sent(frame.data_ref().map_or(0, Bytes::len));
                if self.arrives.incoming.is_end_stream() {
                    self.flight.ended();
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                self.flight.cut_off();
                Some(Err(BodyError::Node(error)))
            }
            None => {
                self.flight.ended();
                None
            }
        })
    }
}

impl GuestBody {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Pending => return self.poll_timer(cx).map(|error| Some(Err(self.broken(error)))),
            Poll::Ready(frame) => frame,
        };
        if let Timer::Running(sleep) = std::mem::take(&mut self.timer) {
            self.timer = Timer::Spare(sleep);
        }
        Poll::Ready(match frame {
            // A guest that never lets its client wait is stopped here.
            Some(Ok(_)) if self.total.is_some_and(|total| total <= Instant::now()) => {
                Some(Err(self.broken(BodyError::Total)))
            }
            Some(Ok(frame)) => {
                self.flight.sent(frame.data_ref().map_or(0, Bytes::len));
                if self.inner.is_end_stream() {
                    self.flight.ended();
                }
                Some(Ok(frame))
            }
            Some(Err(failure)) => Some(Err(self.broken(failure.into()))),
            None => {
                self.flight.ended();
                None
            }
        })
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        if !matches!(self.timer, Timer::Running(_)) {
            let idle = self.idle.map(|idle| Instant::now() + idle);
            let Some(deadline) = earlier(idle, self.total) else { return Poll::Pending };
            let sleep = match std::mem::take(&mut self.timer) {
                Timer::Spare(mut sleep) => {
                    sleep.as_mut().reset(deadline);
                    sleep
                }
                _ => Box::pin(tokio::time::sleep_until(deadline)),
            };
            self.timer = Timer::Running(sleep);
        }
        let Timer::Running(sleep) = &mut self.timer else { return Poll::Pending };
        sleep.as_mut().poll(cx).map(|()| match (self.total, self.idle) {
            (None, Some(idle)) => BodyError::Idle(idle),
            (Some(total), Some(idle)) if Instant::now() < total => BodyError::Idle(idle),
            _ => BodyError::Total,
        })
    }

    fn broken(&self, error: BodyError) -> BodyError {
        self.flight.cut_off();
        let text = format!("the answer was cut off: {error}");
        self.flight.note(&text);
        if let (Some(target), Some(reason)) = (self.flight.target(), error.trouble()) {
            target.runner.warn(reason, text);
        }
        error
    }
}

impl Drop for GuestBody {
    fn drop(&mut self) {
        self.leash.release();
        if self.leash.is_cut() {
            self.flight.cut_off();
            self.flight.note(
                "an answer was cut off: its client reads too slowly for http.timeout.total, or its replica stops",
            );
        }
    }
}

/// The earlier of two deadlines, of which each may be missing.
pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
