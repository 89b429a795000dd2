//! Bytes on their way between a guest and somebody far away. Bounded: whoever writes more than is read waits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

/// What is on its way: enough for a slow line to be kept busy, little for a node with many of them.
const PIPE_BYTES_MAX: usize = 256 << 10;

/// One direction, with one that writes and one that reads. Clones are the same pipe.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pipe(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Bytes>,
    used: usize,
    has_ended: bool,
    is_abandoned: bool,
}

/// What a look at a pipe finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    Some(Bytes),
    NothingYet,
    End,
}

impl Pipe {
    /// How much may be written now. There is always room where nobody reads any more.
    pub(crate) fn room(&self) -> usize {
        let state = self.lock();
        if state.is_abandoned { usize::MAX } else { PIPE_BYTES_MAX.saturating_sub(state.used) }
    }

    pub(crate) async fn until_room(&self) {
        self.until(|state| state.is_abandoned || state.used < PIPE_BYTES_MAX).await;
    }

    /// Never waits: whoever writes has looked for room.
    pub(crate) fn push(&self, bytes: impl Into<Bytes>) {
        let (bytes, mut state) = (bytes.into(), self.lock());
        if !state.is_abandoned && !state.has_ended && !bytes.is_empty() {
            state.used += bytes.len();
            state.queue.push_back(bytes);
            self.change(state);
        }
    }

    /// Nothing more is written.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.has_ended = true;
        self.change(state);
    }

    /// Nobody reads any more: what is written is dropped.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        *state = State { is_abandoned: true, has_ended: state.has_ended, ..State::default() };
        self.change(state);
    }

    /// Up to so many bytes, if some are there.
    pub(crate) fn take(&self, max: usize) -> Taken {
        let mut state = self.lock();
        let Some(mut first) = state.queue.pop_front() else {
            return if state.has_ended { Taken::End } else { Taken::NothingYet };
        };
        if first.len() > max {
            let rest = first.split_off(max);
            state.queue.push_front(rest);
        }
        state.used -= first.len();
        self.change(state);
        Taken::Some(first)
    }

    /// Waits until there is something to take, or the end.
    pub(crate) async fn until_some(&self) {
        self.until(|state| state.has_ended || !state.queue.is_empty()).await;
    }

    /// What comes next; `None` at the end.
    pub(crate) async fn next(&self) -> Option<Bytes> {
        loop {
            match self.take(usize::MAX) {
                Taken::Some(bytes) => return Some(bytes),
                Taken::End => return None,
                Taken::NothingYet => self.until_some().await,
            }
        }
    }

    async fn until(&self, is_so: impl Fn(&State) -> bool) {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            if is_so(&self.lock()) {
                return;
            }
            changed.await;
        }
    }

    fn change(&self, state: MutexGuard<'_, State>) {
        drop(state);
        self.0.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_in_order_and_then_it_ends() {
        let pipe = Pipe::default();
        assert_eq!(pipe.take(10), Taken::NothingYet);
        let reader = tokio::spawn({
            let pipe = pipe.clone();
            async move {
                let mut all = Vec::new();
                while let Some(bytes) = pipe.next().await {
                    all.extend_from_slice(&bytes);
                }
                all
            }
        });
        for number in 0..100_u8 {
            pipe.until_room().await;
            pipe.push(vec![number; 10_000]);
            tokio::task::yield_now().await;
        }
        pipe.end();
        pipe.push(b"too late".to_vec());
        let expected: Vec<u8> = (0..100).flat_map(|number| [number; 10_000]).collect();
        assert!(reader.await.unwrap() == expected);
    }

    #[tokio::test]
    async fn whoever_writes_waits_for_room_until_nobody_reads() {
        let pipe = Pipe::default();
        pipe.push(vec![0; PIPE_BYTES_MAX]);
        assert_eq!(pipe.room(), 0);
        let waits = tokio::spawn({
            let pipe = pipe.clone();
            async move { pipe.until_room().await }
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        assert!(matches!(pipe.take(1), Taken::Some(bytes) if bytes.len() == 1));
        waits.await.unwrap();
        assert_eq!(pipe.room(), 1);
        pipe.abandon();
        pipe.push(vec![0; PIPE_BYTES_MAX]);
        assert_eq!((pipe.room(), pipe.take(1)), (usize::MAX, Taken::NothingYet));
    }
}
