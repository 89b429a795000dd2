//! The clock that interrupts guests: one thread that raises the engine's epoch, and sleeps when no guest computes.
//!
//! A guest checks the epoch at loops and calls, which is how a computing guest gives way to its neighbours and is held to
//! its processor time. Raising it wakes a core some hundred times a second, too often for an idle machine on a battery:
//! so the thread parks itself once nothing has run for a while, and the first guest to run unparks it. Between requests
//! that follow each other closely it keeps ticking, so that a busy node does not pay for a wake-up with each of them.
//!
//! Some seconds after the last guest it also does what is to be done once the node has come to rest, before it parks for
//! good: giving back memory must wait until nobody needs it, and needs no thread of its own.
//!
//! It ticks slowly while all guests are quick, and at the pace of slices once one was caught computing.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
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

/// How long without a guest until the node has come to rest: long against the pauses of a busy day, and short enough that
/// whoever looks at an idle machine sees its memory free.
const REST_AFTER: Duration = Duration::from_secs(5);

/// What is done once the node has come to rest. Answers with the engine that guests run in from then on, if it is another.
type AtRest = Box<dyn Fn() -> Option<Engine> + Send + Sync>;

/// The running clock; stops when dropped.
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
    handle: Option<JoinHandle<()>>,
}

struct Shared {
    /// The engine, and former ones while guests are left in them.
    engines: Mutex<Vec<EngineWeak>>,
    at_rest: OnceLock<AtRest>,
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
            engines: Mutex::new(vec![engine.weak()]),
            at_rest: OnceLock::new(),
            running: shards(AtomicU32::default),
            parked: AtomicBool::new(false),
            caught: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            ticks: AtomicU64::new(0),
        });
        let handle = thread::Builder::new().name("skiff-ticker".to_owned()).spawn({
            let shared = shared.clone();
            move || tick(&shared)
        })?;
        Ok(Self { shared, thread: handle.thread().clone(), handle: Some(handle) })
    }

    /// What to do once nothing has run for some seconds; each time anew. Said once.
    pub(super) fn at_rest(&self, act: impl Fn() -> Option<Engine> + Send + Sync + 'static) {
        let _ = self.shared.at_rest.set(Box::new(act));
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

    /// Raises the epoch of every engine. Answers whether there is any.
    fn raise(&self) -> bool {
        let mut engines = self.engines.lock().unwrap_or_else(PoisonError::into_inner);
        engines.retain(|engine| {
            engine.upgrade().is_some_and(|engine| {
                engine.increment_epoch();
                true
            })
        });
        !engines.is_empty()
    }

    fn rest(&self) {
        if let Some(engine) = self.at_rest.get().and_then(|act| act()) {
            self.engines.lock().unwrap_or_else(PoisonError::into_inner).push(engine.weak());
        }
    }
}

fn tick(shared: &Shared) {
    let mut busy = Instant::now();
    let mut caught: Option<Instant> = None;
    while !shared.stop.load(Ordering::SeqCst) {
        if busy.elapsed() >= IDLE_MAX {
            shared.parked.store(true, Ordering::SeqCst);
            let mut rested = false;
            while shared.is_idle() && !shared.stop.load(Ordering::SeqCst) {
                match REST_AFTER.checked_sub(busy.elapsed()).filter(|_| !rested) {
                    Some(left) => thread::park_timeout(left),
                    None if rested => thread::park(),
                    None => {
                        rested = true;
                        shared.rest();
                    }
                }
            }
            shared.parked.store(false, Ordering::SeqCst);
            busy = Instant::now();
            continue;
        }
        let fast = caught.is_some_and(|caught| caught.elapsed() < FAST_FOR);
        // Not a sleep: a park that ends early when the sandbox stops.
        thread::park_timeout(if fast { SLICE } else { TICK });
        if !shared.raise() {
            return;
        }
        shared.ticks.fetch_add(1, Ordering::Relaxed);
        if shared.caught.swap(false, Ordering::Relaxed) {
            caught = Some(Instant::now());
        }
        if !shared.is_idle() {
            busy = Instant::now();
        }
    }
}
