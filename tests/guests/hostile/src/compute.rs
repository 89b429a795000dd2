//! Processor time, on either side of the host's door, and stacks.

use std::{
    hint,
    io::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

use wasip2::{
    clocks::monotonic_clock,
    http::types::{Fields, ResponseOutparam},
    random::random::{get_random_bytes, get_random_u64},
};

use crate::answer;

pub fn spin() -> ! {
    loop {
        hint::spin_loop();
    }
}

/// Computes for so long by the host's clock.
pub fn work(ms: u64, out: ResponseOutparam) {
    compute(ms);
    answer::text(out, 200, &format!("worked {ms} ms\n"));
}

/// Computes, and ends without an answer.
pub fn work_and_drop(ms: u64, out: ResponseOutparam) {
    compute(ms);
    drop(out);
}

fn compute(ms: u64) {
    let end = monotonic_clock::now().saturating_add(ms.saturating_mul(1_000_000));
    while monotonic_clock::now() < end {
        (0..1000).for_each(|_| hint::spin_loop());
    }
}

/// A head and the first part of a body, then nothing but computing.
pub fn spin_after_part(out: ResponseOutparam) {
    answer::stream(out, 200, Fields::new(), |to| {
        _ = to.write_all(b"part of an answer\n").and_then(|()| to.flush());
        // What was written is sent while the guest waits.
        monotonic_clock::subscribe_duration(50_000_000).block();
        spin()
    });
}

pub fn clock_loop() -> ! {
    loop {
        hint::black_box(monotonic_clock::now());
    }
}

pub fn clocks(n: u64, out: ResponseOutparam) {
    (0..n).for_each(|_| _ = hint::black_box(monotonic_clock::now()));
    answer::text(out, 200, &format!("asked {n} times\n"));
}

pub fn random_loop() -> ! {
    loop {
        hint::black_box(get_random_bytes(64 << 10));
    }
}

pub fn random(n: u64, out: ResponseOutparam) {
    answer::text(out, 200, &format!("{} random bytes\n", get_random_bytes(n).len()));
}

pub fn recurse(depth: u64, out: ResponseOutparam) {
    answer::text(out, 200, &format!("{}\n", descend(depth)));
}

/// Keeps its locals out of memory, so that it is the host's stack that ends, not the guest's own stack area.
#[inline(never)]
fn descend(depth: u64) -> u64 {
    // The compiler cannot know the value, hence neither the result, nor turn what follows the call into a loop.
    static STEP: AtomicU64 = AtomicU64::new(1);
    let step = STEP.load(Ordering::Relaxed);
    if depth < step {
        return 0;
    }
    (descend(depth - step) ^ depth).wrapping_mul(31)
}

/// The host is called from every depth, also from the last one before the stack ends.
pub fn recurse_host(depth: u64, out: ResponseOutparam) {
    answer::text(out, 200, &format!("{}\n", descend_into_host(depth)));
}

#[inline(never)]
fn descend_into_host(depth: u64) -> u64 {
    if depth == 0 {
        return 0;
    }
    (descend_into_host(depth - (get_random_u64() | 1).min(1)) ^ get_random_u64()).wrapping_mul(31)
}

pub fn sleep(ms: u64, out: ResponseOutparam) {
    monotonic_clock::subscribe_duration(ms.saturating_mul(1_000_000)).block();
    answer::text(out, 200, &format!("slept {ms} ms\n"));
}

/// Goes on waiting and computing once the client has all it will get.
pub fn work_after_response(ms: u64, out: ResponseOutparam) {
    answer::text(out, 200, "answered\n");
    let end = monotonic_clock::now().saturating_add(ms.saturating_mul(1_000_000));
    while monotonic_clock::now() < end {
        monotonic_clock::subscribe_duration(10_000_000).block();
        compute(1);
    }
    println!("worked {ms} ms after the response");
}

pub fn exit(code: u64, _out: ResponseOutparam) {
    std::process::exit(i32::try_from(code).unwrap_or(1));
}
