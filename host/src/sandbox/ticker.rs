//! The clock that interrupts guests: one thread that raises the engine's epoch, and sleeps when no guest computes.
//!
//! A guest checks the epoch at loops and calls, which is how a computing guest gives way to its neighbours and is held to
//! its processor time. Raising it wakes a core some hundred times a second, too often for an idle machine on a battery:
//! so the thread parks itself once nothing has run for a while, and the first guest to run unparks it. Between requests
//! that follow each other closely it keeps ticking, so that a busy node does not pay for a wake-up with each of them.
//!
//! It ticks slowly while all guests are quick, and at the pace of slices once one was caught computing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use wasmtime::{Engine, EngineWeak};

use crate::sandbox::meter::SLICE;
use crate::sandbox::shard::{Padded, mine, shards};

/// How long a guest that nobody expects to compute may hold its thread until it is noticed, which happens once: what
/// computes moves to threads of its own.
const TICK: Duration = Duration::from_millis(5);

/// How long the clock stays at the pace of slices after the last guest was caught.
const FAST_FOR: Duration = Duration::from_millis(200);

/// How long without a guest until the thread parks: a node counts as busy so long.
const IDLE_MAX: Duration = Duration::from_millis(100);

/// The running clock; stops when dropped.
#[derive(Debug)]
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
    handle: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// Guests that compute at this moment, counted by the threads that poll them: one counter would be fought over.
    running: Box<[Padded<AtomicU32>]>,
    parked: AtomicBool,
    /// A guest was caught since the last tick.
    caught: AtomicBool,
    stop: AtomicBool,
    ticks: AtomicU64,
}

impl Ticker {
    pub(super) fn start(engine: &Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            running: shards(AtomicU32::default),
            parked: AtomicBool::new(false),
            caught: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            ticks: AtomicU64::new(0),
        });
        let handle = thread::Builder::new().name("skiff-ticker".to_owned()).spawn({
            let (shared, engine) = (shared.clone(), engine.weak());
            move || tick(&shared, &engine)
        })?;
        Ok(Self { shared, thread: handle.thread().clone(), handle: Some(handle) })
    }

    /// Says that a guest computes until the result is dropped.
    pub(super) fn running(&self) -> Running<'_> {
        let running = mine(&self.shared.running);
        // Pairs with the ticker's "announce that I park, then look for guests": in the one total order of these four
        // accesses, either the ticker sees this guest or this guest sees it parked.
        running.fetch_add(1, Ordering::SeqCst);
        if self.shared.parked.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Running(running)
    }

    /// A guest was caught computing: for a while the clock ticks fast.
    pub(super) fn caught(&self) {
        self.shared.caught.store(true, Ordering::Relaxed);
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

impl Shared {
    fn is_idle(&self) -> bool {
        self.running.iter().all(|running| running.0.load(Ordering::SeqCst) == 0)
    }
}

fn tick(shared: &Shared, engine: &EngineWeak) {
    let mut busy = Instant::now();
    let mut caught: Option<Instant> = None;
    while !shared.stop.load(Ordering::SeqCst) {
        if busy.elapsed() >= IDLE_MAX {
            shared.parked.store(true, Ordering::SeqCst);
            while shared.is_idle() && !shared.stop.load(Ordering::SeqCst) {
                thread::park();
            }
            shared.parked.store(false, Ordering::SeqCst);
            busy = Instant::now();
            continue;
        }
        let fast = caught.is_some_and(|caught| caught.elapsed() < FAST_FOR);
        // Not a sleep: a park that ends early when the sandbox stops.
        thread::park_timeout(if fast { SLICE } else { TICK });
        let Some(engine) = engine.upgrade() else { return };
        engine.increment_epoch();
        shared.ticks.fetch_add(1, Ordering::Relaxed);
        if shared.caught.swap(false, Ordering::Relaxed) {
            caught = Some(Instant::now());
        }
        if !shared.is_idle() {
            busy = Instant::now();
        }
    }
}
