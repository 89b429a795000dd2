//! One guest at work: a future that owns its instance.
//!
//! Every poll goes through here, for three reasons: the ticker must know that something computes, the meter must know
//! when, and a panic in host code on behalf of a guest must cost that guest its request, not the node its life.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use wasmtime::Store;

use crate::sandbox::meter::Meter;
use crate::sandbox::state::State;
use crate::sandbox::ticker::Ticker;

/// The end of a guest's work. The store is still there, because what a guest left unfinished can only be told from what
/// it finished while its streams exist.
pub(super) struct Ended {
    pub(super) store: Store<State>,
    pub(super) result: wasmtime::Result<()>,
}

/// The panic of host code. The store is lost to it.
#[derive(Debug)]
pub(super) struct Panicked {
    pub(super) message: String,
}

/// A guest at work. Dropping it stops it where it is.
pub(super) struct Guest {
    work: Pin<Box<dyn Future<Output = Ended> + Send>>,
    meter: Arc<Meter>,
    ticker: Arc<Ticker>,
}

impl Guest {
    pub(super) fn new(
        work: impl Future<Output = Ended> + Send + 'static,
        meter: Arc<Meter>,
        ticker: Arc<Ticker>,
    ) -> Self {
        Self { work: Box::pin(work), meter, ticker }
    }
}

impl Future for Guest {
    type Output = Result<Ended, Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let guest = &mut *self;
        let _running = guest.ticker.running();
        guest.meter.enter();
        // The work is not polled again after a panic: its owner drops it.
        let polled = catch_unwind(AssertUnwindSafe(|| guest.work.as_mut().poll(cx)));
        guest.meter.leave();
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(panic) => Poll::Ready(Err(Panicked { message: message(&*panic) })),
        }
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
        .to_owned()
}
