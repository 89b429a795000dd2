//! The body of a guest's response.
//!
//! ```text
//!            +-- Live: the guest still works, and does so while the body is polled --+
//! call ------|                                                                        |--> Settled: frames, then an end
//!            +-- the guest was done with its head: everything is here already --------+
//! ```
//!
//! A body is at its end when the guest said so, which may be before the guest is done: what is left of its work then goes
//! on by itself for a bounded time ([`limits::AFTER_RESPONSE_MAX`]). A body that is dropped before its end means that the
//! client is gone: the guest is stopped where it is.
//!
//! A guest that fails ends its body with an error, also when the bytes so far look like a whole body, so that nobody
//! takes the first part of an answer for all of it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use tokio::task::unconstrained;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use crate::sandbox::failure::Failure;
use crate::sandbox::guest::{Ended, Guest, Panicked};
use crate::sandbox::limits;
use crate::sandbox::runner::Inner;

/// What the response answers, as far as its body depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResponseTo {
    /// The body is not sent, and its length is not that of the resource.
    Head,
    Other,
}

/// A response body. While it is polled, its guest works; dropping it stops the guest.
pub struct Body {
    state: State,
    to: ResponseTo,
}

enum State {
    Live(Live),
    Settled(Settled),
    /// No guest's: what a container sends.
    Elsewhere(UnsyncBoxBody<Bytes, Failure>),
}

struct Live {
    guest: Guest,
    body: HyperOutgoingBody,
    /// The guest has finished the body.
    finished: bool,
    runner: Arc<Inner>,
}

/// What is left of a body whose guest is done.
pub(super) struct Settled {
    frames: VecDeque<Frame<Bytes>>,
    /// What to say after the last frame, if that is not the regular end.
    pub(super) failure: Option<Failure>,
}

/// Takes everything that a guest has left in its body, and ends its instance.
pub(super) fn settle(ended: Result<Ended, Panicked>, mut body: HyperOutgoingBody, runner: &Arc<Inner>) -> Settled {
    let mut frames = VecDeque::new();
    // The store is still there, if the guest did not panic: an unfinished body is one that still waits.
    let mut end = drain(&mut body, &mut frames);
    match runner.verdict(ended) {
        Ok(instance) => {
            if matches!(end, End::Open) {
                // A guest may return without finishing: the end of its streams then is the end of the body.
                drop(instance);
                end = drain(&mut body, &mut frames);
            } else {
                runner.retire(instance);
            }
            let failure = match end {
                End::Finished => None,
                End::Open => Some(Failure::IncompleteBody { why: "the guest left it open".to_owned() }),
                End::Failed(why) => Some(Failure::IncompleteBody { why }),
            };
            Settled { frames, failure }
        }
        // What the guest had finished before it failed stays finished.
        Err(failure) => Settled { frames, failure: (!matches!(end, End::Finished)).then_some(failure) },
    }
}

enum End {
    Finished,
    Open,
    Failed(String),
}

/// Takes what is there. Nobody needs to be woken: whatever could still come is there, or its sender is gone. The
/// runtime's budget must not count here: to a task that has used it up every channel looks empty.
fn drain(body: &mut HyperOutgoingBody, frames: &mut VecDeque<Frame<Bytes>>) -> End {
    let take = pin!(unconstrained(poll_fn(|cx| Poll::Ready(take_ready(body, frames, cx)))));
    match take.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(end) => end,
        Poll::Pending => End::Open,
    }
}

fn take_ready(body: &mut HyperOutgoingBody, frames: &mut VecDeque<Frame<Bytes>>, cx: &mut Context<'_>) -> End {
    loop {
        match http_body::Body::poll_frame(Pin::new(&mut *body), cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let is_trailers = frame.is_trailers();
                frames.push_back(frame);
                // Trailers are the end: the body has no second one.
                if is_trailers {
                    return End::Finished;
                }
            }
            Poll::Ready(Some(Err(e))) => return End::Failed(e.to_string()),
            Poll::Ready(None) => return End::Finished,
            Poll::Pending => return End::Open,
        }
    }
}

impl Body {
    pub(super) fn streaming(guest: Guest, body: HyperOutgoingBody, runner: Arc<Inner>, to: ResponseTo) -> Self {
        Self { state: State::Live(Live { guest, body, finished: false, runner }), to }
    }

    pub(super) fn settled(settled: Settled, to: ResponseTo) -> Self {
        Self { state: State::Settled(settled), to }
    }

    /// The body of what answers instead of a guest.
    pub(crate) fn elsewhere(body: UnsyncBoxBody<Bytes, Failure>) -> Self {
        Self { state: State::Elsewhere(body), to: ResponseTo::Other }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        if let State::Live(live) = &mut self.state {
            if live.finished {
                return Poll::Ready(None);
            }
            match Pin::new(&mut live.guest).poll(cx) {
                Poll::Pending => return live.poll_body(cx),
                Poll::Ready(ended) => {
                    let body = std::mem::take(&mut live.body);
                    let settled = settle(ended, body, &live.runner);
                    self.state = State::Settled(settled);
                }
            }
        }
        match &mut self.state {
            State::Settled(settled) => Poll::Ready(settled.next().transpose()),
            State::Elsewhere(body) => Pin::new(body).poll_frame(cx),
            State::Live(_) => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Settled(settled) => settled.frames.is_empty() && settled.failure.is_none(),
            State::Live(live) => live.finished,
            State::Elsewhere(body) => body.is_end_stream(),
        }
    }

    /// Exact only where the whole body is here: it is then sent with its length, in one piece.
    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Settled(settled) if self.to == ResponseTo::Other => {
                settled.bytes().map_or_else(SizeHint::default, SizeHint::with_exact)
            }
            _ => SizeHint::default(),
        }
    }
}

impl Settled {
    /// Unknown where something follows the data: HTTP/1.1 has no trailers after a body with a length.
    fn bytes(&self) -> Option<u64> {
        let mut lengths = self.frames.iter().map(|frame| frame.data_ref().map(|data| data.len() as u64));
        if self.failure.is_some() { None } else { lengths.try_fold(0, |sum, length| Some(sum + length?)) }
    }

    fn next(&mut self) -> Result<Option<Frame<Bytes>>, Failure> {
        match self.frames.pop_front() {
            Some(frame) => Ok(Some(frame)),
            None => self.failure.take().map_or(Ok(None), Err),
        }
    }
}

impl Live {
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        match http_body::Body::poll_frame(Pin::new(&mut self.body), cx) {
            Poll::Ready(None) => {
                self.finished = true;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(e))) => {
                self.finished = true;
                Poll::Ready(Some(Err(Failure::IncompleteBody { why: e.to_string() })))
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.finished = frame.is_trailers();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let settled = State::Settled(Settled { frames: VecDeque::new(), failure: None });
        let State::Live(mut live) = std::mem::replace(&mut self.state, settled) else { return };
        // A body with a declared length is not polled beyond it, so its end may not have been seen.
        let mut rest = VecDeque::new();
        let finished = live.finished || (matches!(drain(&mut live.body, &mut rest), End::Finished) && rest.is_empty());
        if let (true, Ok(runtime)) = (finished, tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                match tokio::time::timeout(limits::AFTER_RESPONSE_MAX, live.guest).await {
                    // The verdict is for the log: the client has its answer.
                    Ok(ended) => drop(live.runner.verdict(ended).map(|instance| live.runner.retire(instance))),
                    Err(_) => live.runner.cut_off(limits::AFTER_RESPONSE_MAX),
                }
            });
        }
    }
}
