//! One guest at work: a future that owns its instance.
//!
//! Every poll goes through here, for three reasons: the ticker must know that something computes, the meter must know
//! when, and a panic in host code on behalf of a guest must cost that guest its request, not the node its life.
//!
//! A guest begins in the task of its caller, and moves to a lane ([`crate::sandbox::lane`]) once it is caught computing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;
use wasmtime_wasi_http::p2::bindings::Proxy;

use wasmtime::Store;

use crate::sandbox::lane::Away;
use crate::sandbox::meter::Meter;
use crate::sandbox::runner::Inner;
use crate::sandbox::state::State;

/// An instance, and how many requests it may yet serve.
pub(super) struct Instance {
    pub(super) store: Store<State>,
    pub(super) proxy: Proxy,
    pub(super) left: u32,
}

/// The end of a guest's work. The store is still there, because what a guest left unfinished can only be told from what
/// it finished while its streams exist.
pub(super) enum Ended {
    /// It did all that it was asked to.
    Done(Instance),
    Failed(Store<State>, wasmtime::Error),
}

/// The panic of host code. The store is lost to it.
#[derive(Debug)]
pub(super) struct Panicked {
    pub(super) message: String,
}

/// A guest at work. Dropping it stops it where it is.
pub(super) struct Guest {
    place: Place,
    runner: Arc<Inner>,
    /// Of one that was sent away before it began.
    _watch: Option<Watch>,
}

enum Place {
    Here(Polled),
    Away(Away),
    Gone,
}

/// Looks at a guest's use once it is over, however it ends.
struct Watch {
    meter: Arc<Meter>,
    runner: Arc<Inner>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.runner.conduct.saw(self.meter.used());
    }
}

/// A guest's work and what must be told of each poll.
pub(super) struct Polled {
    work: Pin<Box<dyn Future<Output = Ended> + Send>>,
    meter: Arc<Meter>,
}

impl Guest {
    pub(super) fn new(
        work: impl Future<Output = Ended> + Send + 'static,
        meter: Arc<Meter>,
        runner: Arc<Inner>,
    ) -> Self {
        let polled = Polled { work: Box::pin(work), meter: meter.clone() };
        let mut guest = Self { place: Place::Here(polled), runner, _watch: None };
        if guest.runner.conduct.is_hot() {
            guest._watch = Some(Watch { meter, runner: guest.runner.clone() });
            guest.leave();
        }
        guest
    }

    /// One that begins in a lane, whatever is expected of it: nobody waits for its first answer.
    pub(super) fn apart(
        work: impl Future<Output = Ended> + Send + 'static,
        meter: Arc<Meter>,
        runner: Arc<Inner>,
    ) -> Self {
        let mut guest = Self::new(work, meter, runner);
        guest.leave();
        guest
    }

    /// Whether it is polled by others.
    pub(super) fn is_away(&self) -> bool {
        matches!(self.place, Place::Away(_))
    }

    /// Moves to a lane. Outside of a runtime it stays: it would have no clock there.
    fn leave(&mut self) {
        let Ok(runtime) = Handle::try_current() else { return };
        self.place = match std::mem::replace(&mut self.place, Place::Gone) {
            Place::Here(polled) => {
                let runner = &self.runner;
                Place::Away(runner.lanes.take(polled, runner.number, runtime))
            }
            place => place,
        };
    }
}

impl Future for Guest {
    type Output = Result<Ended, Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let guest = &mut *self;
        if let Place::Here(polled) = &mut guest.place {
            let (ended, took) = polled.poll(cx);
            if ended.is_ready() {
                guest.runner.conduct.saw(took);
                return ended;
            }
            if !polled.meter.was_caught() {
                return Poll::Pending;
            }
            guest.runner.conduct.saw(took);
            guest.leave();
        }
        match &mut guest.place {
            Place::Away(away) => away.poll(cx),
            Place::Here(_) | Place::Gone => Poll::Pending,
        }
    }
}

impl Polled {
    pub(super) fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Polls the work. Says how long that took.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> (Poll<Result<Ended, Panicked>>, Duration) {
        let _running = self.meter.terms().ticker.running();
        let entered = self.meter.enter();
        // The work is not polled again after a panic: its owner drops it.
        let polled = catch_unwind(AssertUnwindSafe(|| self.work.as_mut().poll(cx)));
        let took = self.meter.leave(entered);
        let polled = match polled {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(Panicked { message: message(&*panic) })),
        };
        (polled, took)
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
        .to_owned()
}
