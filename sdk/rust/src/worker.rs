//! For components that run on their own: waiting, and learning that it is time to stop.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! fn main() {
//!     while skiff_sdk::worker::sleep(Duration::from_secs(60)) {
//!         println!("another minute has gone by");
//!     }
//!     println!("tidies up");
//! }
//! ```
//! WASI has no signals: a worker is asked to stop by the end of its standard input, and has the node's drain time to do so. One
//! that never looked at its input could not know, and ends where it is.

use std::time::Duration;

use wasip2::cli::stdin;
use wasip2::clocks::monotonic_clock;
use wasip2::io::poll;

/// What is read of the standard input at once, to get to its end.
const READ_BYTES: u64 = 4096;

/// Waits for so long, or until the worker is to stop. Answers whether it is to go on.
#[must_use]
pub fn sleep(time: Duration) -> bool {
    let input = stdin::get_stdin();
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let timer = monotonic_clock::subscribe_duration(nanos);
    loop {
        let has_input = input.subscribe();
        let ready = poll::poll(&[&has_input, &timer]);
        if ready.contains(&0) && input.read(READ_BYTES).is_err() {
            return false;
        }
        if ready.contains(&1) {
            return true;
        }
    }
}
