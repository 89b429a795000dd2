//! Crash safety of the real binary: what it has acknowledged it keeps, whatever happens to the process or the disk.
//!
//! - [`storm`]: kill -9 at random moments, in the middle of applies and pushes.
//! - [`full_disk`]: no room: nothing is lost, and everything works again once there is some.
//! - [`failed_sync`]: a disk that loses what it was given: the process says so and ends.
//! - [`idle`]: nothing is written when nothing happens.
//!
//! Power cuts are not here but with the parts that write, where a simulated disk forgets what was not synced: `disk`,
//! the store's and the registry's `tests/it`, and the units of the node's state and artifacts and of the data folder.
//!
//! `SKIFF_LONG=1` runs longer: 200 kills, a minute of idling. `SKIFF_SEED=N` repeats the choices of a storm; the moments at
//! which the machine does things it does not repeat.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod door;
mod failed_sync;
mod full_disk;
mod idle;
mod image;
mod process;
mod rng;
mod storm;
mod witness;

/// Whether there is time for the long version of a test.
fn is_long() -> bool {
    std::env::var_os("SKIFF_LONG").is_some_and(|value| value == "1")
}
