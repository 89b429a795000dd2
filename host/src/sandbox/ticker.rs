//! The clock that interrupts guests: one thread that raises the engine's epoch, and sleeps when no guest computes.
//!
//! A guest checks the epoch at loops and calls, which is how a computing guest gives way to its neighbours and is held to
//! its processor time. Raising it wakes a core a hundred times a second, too often for an idle machine on a battery: so
//! the thread parks itself once nothing has run for a while, and the first guest to run unparks it. Between requests that
//! follow each other closely it keeps ticking, so that a busy node does not pay for a wake-up with each of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use wasmtime::{Engine, EngineWeak};

/// How long a computing guest keeps a thread from its other connections: short against what people notice, long
/// against the cost of switching (some microseconds).
pub(super) const TICK: Duration = Duration::from_millis(10);

/// Ticks without a guest after which the thread parks: a tenth of a second, during which a node counts as busy.
const IDLE_TICKS_MAX: u32 = 10;

/// The running clock; stops when dropped.
#[derive(Debug)]
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
    handle: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Guests that compute at this moment.
    running: AtomicU32,
    parked: AtomicBool,
    stop: AtomicBool,
    ticks: AtomicU64,
}

impl Ticker {
    pub(super) fn start(engine: &Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let handle = thread::Builder::new().name("skiff-ticker".to_owned()).spawn({
            let (shared, engine) = (shared.clone(), engine.weak());
            move || tick(&shared, &engine)
        })?;
        Ok(Self { shared, thread: handle.thread().clone(), handle: Some(handle) })
    }

    /// Says that a guest computes until the result is dropped.
    pub(super) fn running(&self) -> Running<'_> {
        // Pairs with the ticker's "announce that I park, then look for guests": in the one total order of these four
        // accesses, either the ticker sees this guest or this guest sees it parked.
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.parked.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Running(&self.shared.running)
    }

    /// How often the epoch was raised.
    pub(super) fn ticks(&self) -> u64 {
        self.shared.ticks.load(Ordering::Relaxed)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.thread.unpark();
        if let Some(handle) = self.handle.take() {
            // The thread has no way to fail.
            let _ = handle.join();
        }
    }
}

/// A guest that computes.
#[derive(Debug)]
pub(super) struct Running<'a>(&'a AtomicU32);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn tick(shared: &Shared, engine: &EngineWeak) {
    let mut idle_ticks = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        if idle_ticks >= IDLE_TICKS_MAX {
            shared.parked.store(true, Ordering::SeqCst);
            while shared.running.load(Ordering::SeqCst) == 0 && !shared.stop.load(Ordering::SeqCst) {
                thread::park();
            }
            shared.parked.store(false, Ordering::SeqCst);
            idle_ticks = 0;
            continue;
        }
        // Not a sleep: a park that ends early when the sandbox stops.
        thread::park_timeout(TICK);
        let Some(engine) = engine.upgrade() else { return };
        engine.increment_epoch();
        shared.ticks.fetch_add(1, Ordering::Relaxed);
        idle_ticks = if shared.running.load(Ordering::SeqCst) == 0 { idle_ticks + 1 } else { 0 };
    }
}
