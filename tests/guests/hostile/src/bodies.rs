//! Bodies that never end, end early, or are not what was promised.

use std::{arch::wasm32, io::Write as _};

use wasip2::{
    clocks::monotonic_clock,
    http::types::{Fields, IncomingRequest, OutgoingBody, ResponseOutparam},
    io::streams::{OutputStream, StreamError},
};

use crate::answer;

const PIECE: [u8; 16 << 10] = [b'x'; 16 << 10];

pub fn endless(out: ResponseOutparam) {
    answer::stream(out, 200, Fields::new(), |to| while to.write_all(&PIECE).is_ok() {});
}

pub fn bytes(count: u64, out: ResponseOutparam) {
    answer::stream(out, 200, Fields::new(), |to| write(to, count));
}

fn write(to: &mut OutputStream, count: u64) {
    let mut left = count;
    while left > 0 {
        let part = left.min(PIECE.len() as u64);
        if to.write_all(&PIECE[..part as usize]).is_err() {
            return;
        }
        left -= part;
    }
}

/// Promises a length of `n`, and sends so many; says in the log what it was told at the end.
pub fn promise(n: u64, sent: Option<&str>, out: ResponseOutparam) {
    let headers = Fields::new();
    headers.append("content-length", n.to_string().as_bytes()).expect("a length may be set");
    let (body, mut to) = answer::begin(out, 200, headers);
    write(&mut to, crate::number(sent).unwrap_or(n));
    drop(to);
    println!("finish: {:?}", OutgoingBody::finish(body, None));
}

/// A byte, a wait, a byte, for ever.
pub fn drip(ms: u64, out: ResponseOutparam) {
    answer::stream(out, 200, Fields::new(), |to| {
        while to.write_all(b".").and_then(|()| to.flush()).is_ok() {
            monotonic_clock::subscribe_duration(ms.saturating_mul(1_000_000)).block();
        }
    });
}

/// A short body and `n` trailers.
pub fn trailers(n: u64, out: ResponseOutparam) {
    let (body, mut to) = answer::begin(out, 200, Fields::new());
    _ = to.write_all(b"body\n").and_then(|()| std::io::Write::flush(&mut to));
    // The head is sent while the guest waits.
    monotonic_clock::subscribe_duration(50_000_000).block();
    drop(to);
    let trailers = Fields::new();
    for i in 0..n {
        trailers.append(&format!("x-{i}"), &[b'v'; 256]).expect("trailers may be set");
    }
    _ = OutgoingBody::finish(body, Some(trailers));
}

/// Returns with its body neither finished nor dropped by it.
pub fn unfinished(out: ResponseOutparam) {
    let (body, mut to) = answer::begin(out, 200, Fields::new());
    _ = to.write_all(b"part of an answer\n");
    std::mem::forget((body, to));
}

/// Traps once a part of the body is on its way.
pub fn trap_after_part(out: ResponseOutparam) {
    answer::stream(out, 200, Fields::new(), |to| {
        _ = to.write_all(b"part of an answer\n").and_then(|()| to.flush());
        // What was written is sent while the guest waits.
        monotonic_clock::subscribe_duration(50_000_000).block();
        wasm32::unreachable()
    });
}

/// Reads the whole request before it answers.
pub fn read(request: &IncomingRequest, out: ResponseOutparam) {
    let body = request.consume().expect("the body is taken once");
    let from = body.stream().expect("the stream is taken once");
    let mut count = 0;
    loop {
        match from.blocking_read(64 << 10) {
            Ok(piece) => count += piece.len(),
            Err(StreamError::Closed) => return answer::text(out, 200, &format!("{count} bytes\n")),
            Err(error) => return answer::text(out, 400, &format!("after {count} bytes: {error:?}\n")),
        }
    }
}

pub fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    let body = request.consume().expect("the body is taken once");
    let from = body.stream().expect("the stream is taken once");
    // Ends with the request's body, or when the caller no longer reads.
    answer::stream(out, 200, Fields::new(), |to| while to.blocking_splice(&from, 64 << 10).is_ok() {});
}
