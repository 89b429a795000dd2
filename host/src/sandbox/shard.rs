//! Counters and lists that each thread has to itself.
//!
//! What all threads write for every request moves a cache line between cores each time, which costs more than the write.
//! So it is kept once per thread, up to a bound, and whoever wants the whole adds it up.

use std::sync::atomic::{AtomicUsize, Ordering};

/// On a cache line of its own, and on a pair of them, which processors fetch together.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Padded<T>(pub(super) T);

/// Beyond this many threads some share a place: machines with more cores have room for a few collisions.
const SHARDS_MAX: usize = 64;

/// As many places as there are cores, and as many again for threads that come and go.
pub(super) fn shards<T>(make: impl Fn() -> T) -> Box<[Padded<T>]> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (0..(2 * cores).min(SHARDS_MAX)).map(|_| Padded(make())).collect()
}

/// This thread's place.
pub(super) fn mine<T>(shards: &[Padded<T>]) -> &T {
    &shards[thread_number() % shards.len()].0
}

/// Threads in the order in which they first asked.
pub(super) fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}
