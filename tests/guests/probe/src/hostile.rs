//! What a host must survive.

use std::{
    arch::wasm32,
    hint,
    io::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

use wasip2::http::types::ResponseOutparam;

use crate::answer;

pub fn spin() -> ! {
    loop {
        hint::spin_loop();
    }
}

/// Keeps its locals out of memory, so that it is the host's stack that ends, not the guest's own stack area.
#[inline(never)]
pub fn recurse(depth: u64) -> u64 {
    // The compiler cannot know the value, hence neither the result, nor turn what follows the call into a loop.
    static STEP: AtomicU64 = AtomicU64::new(1);
    let step = STEP.load(Ordering::Relaxed);
    if depth < step {
        return 0;
    }
    (recurse(depth - step) ^ depth).wrapping_mul(31)
}

pub fn alloc(mb: u64, out: ResponseOutparam) {
    let bytes = usize::try_from(mb.saturating_mul(1 << 20)).unwrap_or(usize::MAX);
    let mut memory: Vec<u8> = Vec::new();
    if let Err(error) = memory.try_reserve_exact(bytes) {
        return answer::refused(out, error);
    }
    memory.resize(bytes, 1);
    hint::black_box(&memory);
    answer::text(out, 200, &format!("touched {mb} MiB\n"));
}

/// Traps once the head, and `part` of the body, are the host's.
pub fn trap_amid(out: ResponseOutparam, part: &[u8]) {
    answer::stream(out, 200, |to| {
        _ = to.write_all(part).and_then(|()| to.flush());
        wasm32::unreachable()
    });
}
