//! Taking memory, all at once, bit by bit, and together.

use std::hint;

use wasip2::{clocks::monotonic_clock, http::types::ResponseOutparam};

use crate::answer;

/// Takes and touches so much in one piece; without asking first whether there is any.
pub fn grow(mb: u64, out: ResponseOutparam) {
    hint::black_box(vec![1u8; bytes(mb)]);
    answer::text(out, 200, &format!("touched {mb} MiB\n"));
}

/// A page at a time, as a leak does.
pub fn grow_slowly(mb: u64, out: ResponseOutparam) {
    const PIECE: usize = 64 << 10;
    let mut pieces: Vec<Box<[u8]>> = Vec::new();
    for _ in 0..bytes(mb) / PIECE {
        pieces.push(vec![1u8; PIECE].into_boxed_slice());
        hint::black_box(&pieces);
    }
    answer::text(out, 200, &format!("touched {mb} MiB in {} pieces\n", pieces.len()));
}

/// Keeps it for a while, as many at once do.
pub fn hold(mb: u64, ms: Option<&str>, out: ResponseOutparam) {
    let memory = vec![1u8; bytes(mb)];
    let ms = crate::number(ms).unwrap_or(100);
    monotonic_clock::subscribe_duration(ms.saturating_mul(1_000_000)).block();
    hint::black_box(&memory);
    answer::text(out, 200, &format!("held {mb} MiB for {ms} ms\n"));
}

fn bytes(mb: u64) -> usize {
    usize::try_from(mb.saturating_mul(1 << 20)).unwrap_or(usize::MAX)
}
