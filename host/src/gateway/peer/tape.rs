//! A request's body that can be sent again.
//!
//! A node that does not begin with a request reads nothing of its body. What has been sent to it by then is bounded by the
//! window of the stream, and kept here: the next node gets it first, and then the rest. Once more than that was taken, the
//! node has begun to read, nothing is kept, and the request cannot be sent again.
//!
//! The body of a request that was given up may still be polled, by the task that sent it: it ends with an error then, and
//! its stream with it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;

use super::pool::STREAM_WINDOW_BYTES;

/// What may be on its way to a node that reads nothing: its window, and the two pieces behind it, of which none is longer
/// than what a connection buffers.
const KEPT_BYTES_MAX: usize = STREAM_WINDOW_BYTES as usize + 2 * (64 << 10);

/// What a request to another node is sent with.
pub(super) type PeerBody = UnsyncBoxBody<Bytes, BrokenOff>;

/// Why a body ends early.
#[derive(Debug, thiserror::Error)]
#[error("the request's body broke off")]
pub(in super::super) struct BrokenOff;

/// The body itself, and what of it was sent.
pub(in super::super) struct Tape {
    reel: Option<Arc<Mutex<Reel>>>,
}

struct Reel {
    source: UnsyncBoxBody<Bytes, BrokenOff>,
    kept: Vec<Kept>,
    kept_bytes: usize,
    is_kept: bool,
    state: State,
    hint: SizeHint,
    /// Which copy is read.
    copy: u32,
    waker: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Ended,
    Broken,
}

#[derive(Clone)]
enum Kept {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// The body for one node.
struct Copy {
    reel: Arc<Mutex<Reel>>,
    number: u32,
    next: usize,
}

impl Tape {
    pub(in super::super) fn new<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
    {
        if body.is_end_stream() {
            return Self { reel: None };
        }
        let hint = body.size_hint();
        let source = body.map_err(|_| BrokenOff).boxed_unsync();
        let (kept, state) = (Vec::new(), State::Open);
        let reel = Reel { source, kept, kept_bytes: 0, is_kept: true, state, hint, copy: 0, waker: None };
        Self { reel: Some(Arc::new(Mutex::new(reel))) }
    }

    /// The body from its beginning; an earlier copy breaks off. `None` where the beginning is gone.
    pub(in super::super) fn copy(&self) -> Option<PeerBody> {
        let Some(reel) = &self.reel else {
            return Some(http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync());
        };
        let mut locked = lock(reel);
        if !locked.can_restart() {
            return None;
        }
        locked.copy += 1;
        let number = locked.copy;
        let earlier = locked.waker.take();
        drop(locked);
        earlier.into_iter().for_each(Waker::wake);
        Some(Copy { reel: reel.clone(), number, next: 0 }.boxed_unsync())
    }

    /// Whether there would be another copy.
    pub(super) fn can_restart(&self) -> bool {
        self.reel.as_ref().is_none_or(|reel| lock(reel).can_restart())
    }

    /// Whether it was the body that made a request fail: its client is gone.
    pub(super) fn is_broken(&self) -> bool {
        self.reel.as_ref().is_some_and(|reel| lock(reel).state == State::Broken)
    }
}

/// The answer has begun, and the body goes on: nothing more has to be kept.
impl Drop for Tape {
    fn drop(&mut self) {
        if let Some(reel) = &self.reel {
            lock(reel).is_kept = false;
        }
    }
}

fn lock(reel: &Mutex<Reel>) -> MutexGuard<'_, Reel> {
    reel.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reel {
    fn can_restart(&self) -> bool {
        self.state != State::Broken && (self.is_kept || self.copy == 0)
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        if !self.is_kept {
            return;
        }
        self.kept_bytes += frame.data_ref().map_or(0, Bytes::len);
        if self.kept_bytes > KEPT_BYTES_MAX {
            self.is_kept = false;
            self.kept = Vec::new();
            return;
        }
        let data = frame.data_ref().cloned().map(Kept::Data);
        self.kept.extend(data.or_else(|| frame.trailers_ref().cloned().map(Kept::Trailers)));
    }
}

impl Body for Copy {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = &mut *self;
        let mut reel = lock(&this.reel);
        if reel.copy != this.number {
            return Poll::Ready(Some(Err(BrokenOff)));
        }
        if let Some(kept) = reel.kept.get(this.next) {
            this.next += 1;
            return Poll::Ready(Some(Ok(match kept.clone() {
                Kept::Data(data) => Frame::data(data),
                Kept::Trailers(trailers) => Frame::trailers(trailers),
            })));
        }
        if !reel.is_kept && !reel.kept.is_empty() {
            (reel.kept, this.next) = (Vec::new(), 0);
        }
        match reel.state {
            State::Ended => return Poll::Ready(None),
            State::Broken => return Poll::Ready(Some(Err(BrokenOff))),
            State::Open => {}
        }
        reel.waker = Some(cx.waker().clone());
        let frame = ready!(Pin::new(&mut reel.source).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                reel.keep(frame);
                this.next = reel.kept.len();
                if reel.source.is_end_stream() {
                    reel.state = State::Ended;
                }
            }
            Some(Err(_)) => reel.state = State::Broken,
            None => reel.state = State::Ended,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let reel = lock(&self.reel);
        reel.copy == self.number && self.next == reel.kept.len() && reel.state == State::Ended
    }

    /// Of the whole, as asked before it is read.
    fn size_hint(&self) -> SizeHint {
        match self.next {
            0 => lock(&self.reel).hint,
            _ => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::stream;
    use http_body_util::StreamBody;

    use super::*;

    fn tape(frames: Vec<Result<Frame<Bytes>, std::io::Error>>) -> Tape {
        Tape::new(StreamBody::new(stream::iter(frames)))
    }

    fn data(bytes: &'static [u8]) -> Result<Frame<Bytes>, std::io::Error> {
        Ok(Frame::data(Bytes::from_static(bytes)))
    }

    /// The next piece, as text; trailers in brackets.
    async fn next(body: &mut PeerBody) -> Option<Result<String, BrokenOff>> {
        let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
        Some(frame.map(|frame| match frame.into_data() {
            Ok(data) => String::from_utf8_lossy(&data).into_owned(),
            Err(frame) => format!("{:?}", frame.trailers_ref().unwrap().keys().collect::<Vec<_>>()),
        }))
    }

    async fn all(body: &mut PeerBody) -> String {
        let mut text = String::new();
        while let Some(piece) = next(body).await {
            text.push_str(&piece.unwrap());
        }
        text
    }

    #[tokio::test]
    async fn it_is_read_again_from_its_beginning() {
        let trailers = HeaderMap::from_iter([("a".parse().unwrap(), "b".parse().unwrap())]);
        let tape = tape(vec![data(b"one"), data(b"two"), Ok(Frame::trailers(trailers))]);
        let mut first = tape.copy().unwrap();
        assert_eq!(next(&mut first).await.unwrap().unwrap(), "one");
        let mut second = tape.copy().unwrap();
        assert!(next(&mut first).await.unwrap().is_err(), "the first is given up");
        assert_eq!(all(&mut second).await, "onetwo[\"a\"]");
        assert_eq!(all(&mut tape.copy().unwrap()).await, "onetwo[\"a\"]");
    }

    #[tokio::test]
    async fn what_is_too_long_is_read_once() {
        static LONG: [u8; KEPT_BYTES_MAX] = [b'x'; KEPT_BYTES_MAX];
        let tape = tape(vec![data(&LONG), data(b"y"), data(b"z")]);
        let mut first = tape.copy().unwrap();
        next(&mut first).await.unwrap().unwrap();
        let mut second = tape.copy().unwrap();
        next(&mut second).await.unwrap().unwrap();
        assert_eq!(next(&mut second).await.unwrap().unwrap(), "y");
        assert!(tape.copy().is_none());
        drop(tape);
        assert_eq!(all(&mut second).await, "z", "it goes on, without the tape");
    }

    #[tokio::test]
    async fn what_was_kept_is_sent_also_when_nothing_is_kept_any_more() {
        let tape = tape(vec![data(b"one"), data(b"two"), data(b"three"), data(b"four")]);
        let mut first = tape.copy().unwrap();
        for _ in 0..3 {
            next(&mut first).await.unwrap().unwrap();
        }
        let mut second = tape.copy().unwrap();
        assert_eq!(next(&mut second).await.unwrap().unwrap(), "one");
        drop(tape);
        assert_eq!(all(&mut second).await, "twothreefour");
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_not_sent_again() {
        let tape = tape(vec![data(b"one"), Err(std::io::ErrorKind::BrokenPipe.into())]);
        let mut body = tape.copy().unwrap();
        next(&mut body).await.unwrap().unwrap();
        assert!(!tape.is_broken());
        assert!(next(&mut body).await.unwrap().is_err());
        assert!(tape.is_broken() && tape.copy().is_none());
    }

    #[tokio::test]
    async fn nothing_is_nothing_each_time() {
        let tape = Tape::new(http_body_util::Empty::<Bytes>::new());
        for _ in 0..2 {
            let mut body = tape.copy().unwrap();
            assert!(body.is_end_stream() && next(&mut body).await.is_none());
        }
    }

    /// An exact length becomes a content-length, which must not say less the second time.
    #[tokio::test]
    async fn its_length_is_that_of_the_whole() {
        let tape = Tape::new(http_body_util::Full::new(Bytes::from_static(b"12345")));
        let mut first = tape.copy().unwrap();
        assert_eq!(first.size_hint().exact(), Some(5));
        next(&mut first).await.unwrap().unwrap();
        assert!(first.is_end_stream());
        let second = tape.copy().unwrap();
        assert!(!second.is_end_stream());
        assert_eq!(second.size_hint().exact(), Some(5));
    }
}
