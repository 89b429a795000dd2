//! Response bodies: what the gateway says itself, and a guest's with its time limits.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::metrics::Gauge;
use super::serve::Shared;
use super::target::Entered;
use crate::sandbox::{self, Failure};

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
}

/// The body of every answer.
pub(super) enum AnswerBody {
    Whole(Option<Bytes>),
    Guest(Box<GuestBody>),
}

/// A guest's body. It holds the request's place at its replica: the request lasts as long as its body does.
pub(super) struct GuestBody {
    pub(super) inner: sandbox::Body,
    pub(super) idle: Option<Duration>,
    pub(super) total: Option<Instant>,
    pub(super) timer: Timer,
    pub(super) in_flight: Counted,
    pub(super) _entered: Entered,
}

/// The wait for the next piece. Made only once a guest lets its client wait, as most never do.
#[derive(Default)]
pub(super) enum Timer {
    #[default]
    Off,
    /// Made, but not for the wait that comes next.
    Spare(Pin<Box<Sleep>>),
    Running(Pin<Box<Sleep>>),
}

/// Counts while it lives.
pub(super) struct Counted {
    pub(super) shared: Arc<Shared>,
    gauge: Gauge,
}

impl Counted {
    pub(super) fn new(shared: &Arc<Shared>, gauge: Gauge) -> Self {
        shared.metrics.add(&gauge, 1);
        Self { shared: shared.clone(), gauge }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.shared.metrics.add(&self.gauge, -1);
    }
}

impl AnswerBody {
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self::Whole((!bytes.is_empty()).then_some(bytes))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Guest(guest) => guest.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_none(),
            Self::Guest(guest) => guest.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Guest(guest) => guest.inner.size_hint(),
        }
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
            Some(Ok(frame)) => Some(Ok(frame)),
            Some(Err(failure)) => Some(Err(self.broken(failure.into()))),
            None => None,
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
        self.in_flight.shared.metrics.cut_off();
        error
    }
}

/// The earlier of two deadlines, of which each may be missing.
pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
