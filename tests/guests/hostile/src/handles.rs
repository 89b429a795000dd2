//! Host objects: kept for ever, waited for by the thousand, made up, used twice.

use std::mem;

use wasip2::{
    clocks::monotonic_clock,
    http::types::{Fields, OutgoingResponse, ResponseOutparam},
    io::poll::{self, Pollable},
};

use crate::answer;

const FAR_AWAY_NS: u64 = 3_600_000_000_000;

pub fn leak_fields(n: u64, out: ResponseOutparam) {
    (0..n).for_each(|_| mem::forget(Fields::new()));
    answer::text(out, 200, &format!("leaked {n} headers\n"));
}

/// Each with its body and that one's stream.
pub fn leak_responses(n: u64, out: ResponseOutparam) {
    for _ in 0..n {
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().expect("the body is taken once");
        mem::forget(body.write());
        mem::forget((response, body));
    }
    answer::text(out, 200, &format!("leaked {n} responses\n"));
}

pub fn leak_pollables(n: u64, out: ResponseOutparam) {
    (0..n).for_each(|_| mem::forget(monotonic_clock::subscribe_duration(FAR_AWAY_NS)));
    answer::text(out, 200, &format!("leaked {n} pollables\n"));
}

/// Waits for `n` things at once, of which one comes; for nothing at all where `n` is 0.
pub fn poll(n: u64, out: ResponseOutparam) {
    let duration = |i| if i == 0 { 10_000_000 } else { FAR_AWAY_NS };
    let pollables: Vec<Pollable> = (0..n).map(|i| monotonic_clock::subscribe_duration(duration(i))).collect();
    let ready = poll::poll(&pollables.iter().collect::<Vec<_>>());
    answer::text(out, 200, &format!("{} of {n} are ready\n", ready.len()));
}

/// Waits for one thing, named `n` times.
pub fn poll_one(n: u64, out: ResponseOutparam) {
    let pollable = monotonic_clock::subscribe_duration(10_000_000);
    let ready = poll::poll(&vec![&pollable; usize::try_from(n).unwrap_or(usize::MAX)]);
    answer::text(out, 200, &format!("ready {} times\n", ready.len()));
}

/// Uses a handle that it was never given.
pub fn foreign(out: ResponseOutparam) {
    // SAFETY: a handle is a number that the host looks up; a wrong one is what this is about.
    let fields = unsafe { Fields::from_handle(0x7fff) };
    let entries = fields.entries().len();
    answer::text(out, 200, &format!("{entries} entries\n"));
}

pub fn answer_twice(out: ResponseOutparam) {
    // SAFETY: as above; it was valid until the first answer.
    let again = unsafe { ResponseOutparam::from_handle(out.handle()) };
    answer::text(out, 200, "first\n");
    answer::text(again, 200, "second\n");
}
