//! Threads of low priority for guests that compute.
//!
//! ```text
//!  connection's task --poll--> guest --caught computing--> lane: ready jobs, by replica, in turns
//!        ^                                                    | one slice each
//!        '------------------- its end, by a channel ----------'
//! ```
//!
//! A guest is polled by its connection's task as long as it is quick. One that computes would keep all connections of that
//! thread waiting, and not only for its slices: growing into fresh memory, or giving it back, takes milliseconds that no
//! epoch interrupts. So it moves here for the rest of its request, to threads that the kernel puts aside whenever a
//! gateway thread has something to do. They get what the gateway leaves, and a tenth of a core that it wants whole, so a
//! computing guest never starves.
//!
//! Among themselves such guests take turns by replica: one with sixty spinning requests has no more turns than one with
//! a single. A replica that has overdrawn its processor time has none until it is paid off.
//!
//! What a guest leaves behind is dropped here too: wiping its memory is part of its work.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::sandbox::guest::{Ended, Panicked, Polled};
use crate::sandbox::meter::Meter;

/// Of 20 steps of courtesy: a thread of usual priority that wants the core has nine tenths of it, and gets it at once.
const NICE: i32 = 10;

/// The lanes of one sandbox; its threads end when it is dropped.
#[derive(Debug)]
pub(super) struct Lanes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    news: Condvar,
}

#[derive(Default)]
struct Queue {
    /// Replicas that have ready jobs, next first.
    turns: VecDeque<u64>,
    ready: HashMap<u64, VecDeque<Arc<Job>>>,
    dead: VecDeque<Box<dyn Send>>,
    stop: bool,
}

/// A guest in the lanes.
struct Job {
    lanes: Arc<Shared>,
    replica: u64,
    state: AtomicU8,
    cancelled: AtomicBool,
    meter: Arc<Meter>,
    work: Mutex<Option<Work>>,
}

struct Work {
    guest: Polled,
    /// Where it came from: its timers and tasks stay there.
    runtime: Handle,
    done: oneshot::Sender<Result<Ended, Panicked>>,
}

/// Waits to be woken.
const IDLE: u8 = 0;
/// Is in the queue.
const READY: u8 = 1;
/// Has its turn.
const RUNNING: u8 = 2;
/// Has its turn, and was woken meanwhile.
const WOKEN: u8 = 3;

/// A guest that moved to the lanes. Dropped, it ends.
pub(super) struct Away {
    job: Arc<Job>,
    done: oneshot::Receiver<Result<Ended, Panicked>>,
}

impl Lanes {
    /// One for each core: as many guests as can compute at once.
    pub(super) fn start() -> std::io::Result<Self> {
        let lanes = Self(Arc::new(Shared { queue: Mutex::default(), news: Condvar::new() }));
        for number in 0..thread::available_parallelism().map_or(1, usize::from) {
            let shared = lanes.0.clone();
            thread::Builder::new().name(format!("skiff-lane-{number}")).spawn(move || {
                // Where the kernel does not allow it, guests compute at usual priority, in turns at least.
                if let Err(error) = rustix::process::setpriority_process(None, NICE) {
                    tracing::warn!(%error, "failed to lower the priority of computing guests");
                }
                shared.run();
            })?;
        }
        Ok(lanes)
    }

    /// Takes a guest over; `runtime` is the one that it has been polled in.
    pub(super) fn take(&self, guest: Polled, replica: u64, runtime: Handle) -> Away {
        let (sender, done) = oneshot::channel();
        let meter = guest.meter().clone();
        let work = Mutex::new(Some(Work { guest, runtime, done: sender }));
        let (state, cancelled) = (AtomicU8::new(IDLE), AtomicBool::new(false));
        let job = Arc::new(Job { lanes: self.0.clone(), replica, state, cancelled, meter, work });
        job.wake_by_ref();
        Away { job, done }
    }

    /// Drops one of those that wait to be dropped, on this thread: for who needs what it holds. Says whether there was one.
    pub(super) fn help(&self) -> bool {
        let dead = self.0.queue().dead.pop_front();
        dead.is_some()
    }

    /// Drops something here rather than on the caller's thread.
    pub(super) fn bury(&self, dead: impl Send + 'static) {
        self.0.bury(Box::new(dead));
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.0.queue().stop = true;
        self.0.news.notify_all();
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("turns", &self.turns).finish_non_exhaustive()
    }
}

enum Next {
    Job(Arc<Job>),
    Dead(Box<dyn Send>),
    /// Nothing may run, or nothing for so long.
    Wait(Option<Duration>),
    Stop,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bury(&self, dead: Box<dyn Send>) {
        self.queue().dead.push_back(dead);
        self.news.notify_one();
    }

    fn run(&self) {
        let mut queue = self.queue();
        loop {
            let next = queue.next();
            queue = match next {
                Next::Stop => return,
                Next::Wait(None) => self.news.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Next::Wait(Some(at_most)) => {
                    self.news.wait_timeout(queue, at_most).unwrap_or_else(PoisonError::into_inner).0
                }
                next => {
                    drop(queue);
                    // What panics here is a guest's remains; the lane goes on.
                    let _ = catch_unwind(AssertUnwindSafe(|| match next {
                        Next::Job(job) => job.turn(),
                        Next::Dead(dead) => drop(dead),
                        _ => {}
                    }));
                    // The kernel looks for others by itself, but on some machines only every few milliseconds.
                    thread::yield_now();
                    self.queue()
                }
            };
        }
    }
}

impl Queue {
    fn next(&mut self) -> Next {
        if let Some(dead) = self.dead.pop_front() {
            return Next::Dead(dead);
        }
        let mut wait: Option<Duration> = None;
        for _ in 0..self.turns.len() {
            let Some(replica) = self.turns.pop_front() else { break };
            let Some(jobs) = self.ready.get_mut(&replica) else { continue };
            let overdrawn = jobs.front().and_then(|job| job.meter.terms().account.overdrawn());
            if let Some(overdrawn) = overdrawn {
                wait = Some(wait.map_or(overdrawn, |wait| wait.min(overdrawn)));
                self.turns.push_back(replica);
                continue;
            }
            let job = jobs.pop_front();
            match jobs.is_empty() {
                true => drop(self.ready.remove(&replica)),
                false => self.turns.push_back(replica),
            }
            if let Some(job) = job {
                return Next::Job(job);
            }
        }
        if self.stop { Next::Stop } else { Next::Wait(wait) }
    }

    fn push(&mut self, job: Arc<Job>) {
        let replica = job.replica;
        let jobs = self.ready.entry(replica).or_default();
        if jobs.is_empty() {
            self.turns.push_back(replica);
        }
        jobs.push_back(job);
    }
}

impl Wake for Job {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let woken = |state| match state {
            IDLE => Some(READY),
            RUNNING => Some(WOKEN),
            _ => None,
        };
        if self.state.fetch_update(Ordering::SeqCst, Ordering::SeqCst, woken) == Ok(IDLE) {
            self.enqueue();
        }
    }
}

impl Job {
    fn enqueue(self: &Arc<Self>) {
        self.lanes.queue().push(self.clone());
        self.lanes.news.notify_one();
    }

    fn turn(self: Arc<Self>) {
        self.state.store(RUNNING, Ordering::SeqCst);
        let ended = {
            let mut slot = self.work.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(work) = slot.as_mut() else { return };
            let runtime = work.runtime.clone();
            let _entered = runtime.enter();
            let waker = Waker::from(self.clone());
            match work.guest.poll(&mut Context::from_waker(&waker)).0 {
                Poll::Pending => None,
                Poll::Ready(ended) => slot.take().map(|work| (work.done, ended)),
            }
        };
        if let Some((done, ended)) = ended {
            // Where nobody waits any more it is dropped, here.
            drop(done.send(ended));
            return;
        }
        if self.cancelled.load(Ordering::SeqCst) {
            drop(self.take_work());
            return;
        }
        let idle = self.state.compare_exchange(RUNNING, IDLE, Ordering::SeqCst, Ordering::SeqCst);
        if idle.is_err() {
            self.state.store(READY, Ordering::SeqCst);
            self.enqueue();
        }
    }

    fn take_work(&self) -> Option<Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Away {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Ended, Panicked>> {
        let gone = || Panicked { message: "the lane of a guest ended before the guest".to_owned() };
        std::pin::Pin::new(&mut self.done).poll(cx).map(|ended| ended.unwrap_or_else(|_| Err(gone())))
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        self.job.meter.stop();
        self.job.cancelled.store(true, Ordering::SeqCst);
        // Whoever has the lock is polling it, and looks at the flag after.
        if let Ok(mut slot) = self.job.work.try_lock()
            && let Some(work) = slot.take()
        {
            drop(slot);
            self.job.lanes.bury(Box::new(work));
        }
    }
}
