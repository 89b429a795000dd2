//! What ends an answer from outside of it.
//!
//! hyper asks an answer for more only while its client takes what comes. So an answer whose client has stopped reading
//! cannot notice that its time is over, or that its replica is stopping. The task around it can: the connection's for
//! HTTP/1.1, which has one answer at a time, and the stream's for h2.
//!
//! ```text
//! h1: connection ──holds── leash <──watches── the connection's task: ends the connection
//! h2: stream ──────holds── leash <──watches── the stream's task: resets the stream
//! ```
//! An answer that is all there when its head is, and short, needs no leash: it goes with its head, and costs nothing here.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hyper::rt::Executor;
use tokio::time::Instant;

use super::target::Target;

/// Of one answer at a time.
#[derive(Debug, Default)]
pub(super) struct Leash {
    state: Mutex<State>,
    /// Written bytes wait for the client.
    stalled: AtomicBool,
    /// The answer was ended from here.
    cut: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    /// Which answer it is.
    number: u64,
}

#[derive(Debug)]
struct Held {
    target: Arc<Target>,
    total: Option<Instant>,
    /// The body has not ended. When it has, its last bytes may still wait for the client.
    open: bool,
}

impl Leash {
    /// An answer begins.
    pub(super) fn hold(&self, target: Arc<Target>, total: Option<Instant>) {
        let mut state = self.lock();
        state.number += 1;
        state.held = Some(Held { target, total, open: true });
    }

    /// Its body has ended, or is dropped.
    pub(super) fn release(&self) {
        let mut state = self.lock();
        match &mut state.held {
            Some(held) if held.total.is_some() => held.open = false,
            held => *held = None,
        }
    }

    pub(super) fn set_stalled(&self, stalled: bool) {
        self.stalled.store(stalled, Ordering::Relaxed);
    }

    /// Whether the answer was ended from outside.
    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Watches a leash. It is polled after the task that holds the leash, and woken with it, so it needs no waker for that.
pub(super) struct Watch<'l> {
    leash: &'l Leash,
    wait: Option<(u64, Wait)>,
}

/// Until an answer has had its time.
type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<'l> Watch<'l> {
    pub(super) fn new(leash: &'l Leash) -> Self {
        Self { leash, wait: None }
    }

    /// Returns when the answer has to end.
    pub(super) async fn ended(&mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.leash.lock();
        let number = state.number;
        let open = state.held.as_ref().map(|held| held.open || self.leash.stalled.load(Ordering::Relaxed));
        let (Some(true), Some(held)) = (open, &state.held) else {
            state.held = None;
            self.wait = None;
            return Poll::Pending;
        };
        let wait = match &mut self.wait {
            Some((of, wait)) if *of == number => wait,
            stale => &mut stale.insert((number, wait(held))).1,
        };
        if wait.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.leash.cut.store(true, Ordering::Relaxed);
        Poll::Ready(())
    }
}

fn wait(held: &Held) -> Wait {
    let (cut, total) = (held.target.cut.clone(), held.total);
    // A task that has used up its budget must still see that its time is over.
    Box::pin(tokio::task::unconstrained(async move {
        let total = async {
            match total {
                Some(total) => tokio::time::sleep_until(total).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = total => {}
            () = cut.cancelled() => {}
        }
    }))
}

tokio::task_local! {
    /// The leash of the h2 stream that is polled.
    static STREAM: Arc<Leash>;
}

/// The leash of the h2 stream that this runs in; none elsewhere.
pub(super) fn of_stream() -> Option<Arc<Leash>> {
    STREAM.try_with(Arc::clone).ok()
}

/// Runs h2 streams, each on a leash of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streams;

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(async move {
            let leash = Arc::new(Leash::default());
            let mut watch = Watch::new(&leash);
            tokio::select! {
                biased;
                () = STREAM.scope(leash.clone(), stream) => {}
                // What is dropped here resets the stream.
                () = watch.ended() => {}
            }
        });
    }
}
