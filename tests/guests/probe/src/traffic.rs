//! What well-behaved services do: bodies, headers, time, logs.

use std::{
    fmt::Write as _,
    io::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

use wasip2::{
    clocks::monotonic_clock,
    http::types::{IncomingRequest, ResponseOutparam, Scheme},
    random::random::get_random_bytes,
};

use crate::answer;

pub fn count(out: ResponseOutparam) {
    static REQUESTS: AtomicU64 = AtomicU64::new(0);
    let count = REQUESTS.fetch_add(1, Ordering::Relaxed) + 1;
    answer::text(out, 200, &format!("{count}\n"));
}

pub fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    let body = request.consume().expect("the body is taken once");
    let from = body.stream().expect("the stream is taken once");
    // Ends with the request's body, or when the caller no longer reads.
    answer::stream(out, 200, |to| while to.blocking_splice(&from, 64 << 10).is_ok() {});
}

pub fn headers(request: &IncomingRequest, out: ResponseOutparam) {
    let mut text = String::new();
    for (name, value) in request.headers().entries() {
        _ = writeln!(text, "{name}: {}", String::from_utf8_lossy(&value));
    }
    answer::text(out, 200, &text);
}

pub fn target(request: &IncomingRequest, out: ResponseOutparam) {
    let scheme = match request.scheme() {
        Some(Scheme::Http) => "http".to_owned(),
        Some(Scheme::Https) => "https".to_owned(),
        Some(Scheme::Other(other)) => other,
        None => "none".to_owned(),
    };
    let (authority, path) = (request.authority().unwrap_or_default(), request.path_with_query().unwrap_or_default());
    answer::text(out, 200, &format!("{scheme} {authority} {path}\n"));
}

pub fn status(code: u64, out: ResponseOutparam) {
    answer::stream(out, u16::try_from(code).unwrap_or(0), |_| {});
}

pub fn bytes(count: u64, out: ResponseOutparam) {
    let chunk = [b'x'; 16 << 10];
    answer::stream(out, 200, |to| {
        let mut left = count;
        while left > 0 {
            let part = left.min(chunk.len() as u64);
            if to.write_all(&chunk[..part as usize]).is_err() {
                return;
            }
            left -= part;
        }
    });
}

pub fn random(count: u64, out: ResponseOutparam) {
    let mut hex = String::new();
    for byte in get_random_bytes(count) {
        _ = write!(hex, "{byte:02x}");
    }
    answer::text(out, 200, &format!("{hex}\n"));
}

pub fn sleep(ms: u64, out: ResponseOutparam) {
    monotonic_clock::subscribe_duration(ms.saturating_mul(1_000_000)).block();
    answer::text(out, 200, &format!("slept {ms} ms\n"));
}

pub fn log(lines: u64, out: ResponseOutparam) {
    for line in 1..=lines {
        println!("probe out {line}");
        eprintln!("probe err {line}");
    }
    answer::text(out, 200, &format!("logged {lines} lines twice\n"));
}
