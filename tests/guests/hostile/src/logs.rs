//! Writing logs: too many, too long, too strange.

use std::io::{self, Write as _};

use wasip2::{clocks::monotonic_clock, http::types::ResponseOutparam};

use crate::answer;

/// Lines on both streams, as fast as the host takes them, for so long.
pub fn flood(ms: u64, out: ResponseOutparam) {
    let end = monotonic_clock::now().saturating_add(ms.saturating_mul(1_000_000));
    let line = "a flood of words, ".repeat(50);
    let mut lines = 0u64;
    while monotonic_clock::now() < end {
        println!("{lines} {line}");
        eprintln!("{lines} {line}");
        lines += 1;
    }
    answer::text(out, 200, &format!("logged {lines} lines twice\n"));
}

/// So many MiB, and never the end of a line.
pub fn unended(mb: u64, out: ResponseOutparam) {
    let piece = vec![b'x'; 64 << 10];
    let mut stdout = io::stdout().lock();
    for _ in 0..mb.saturating_mul(16) {
        _ = stdout.write_all(&piece).and_then(|()| stdout.flush());
    }
    answer::text(out, 200, &format!("logged {mb} MiB without an end\n"));
}

/// What is not text, and what a terminal would obey.
pub fn garbage(out: ResponseOutparam) {
    _ = io::stdout().write_all(b"\xff\xfe\0not text\n\x1b]0;title\x07\x1b[2Jcleared\r\n");
    answer::text(out, 200, "logged garbage\n");
}
