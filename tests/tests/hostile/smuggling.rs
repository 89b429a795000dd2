//! Requests that two readers could read in two ways, or that are not HTTP at all: one reading, one answer, and never a
//! second request out of what was the first one's body.

use crate::case::{Case, Lane, case};
use crate::client::raw;

/// What is smuggled: if it ever counts as a request, its answer is a 299.
const SMUGGLED: &str = "GET /status?code=299 HTTP/1.1\r\nhost: plain.default.localhost\r\nconnection: close\r\n\r\n";

/// A request that reads its body, with these lines in its head, these bytes behind it, and what they come to.
const BODIES: &[(&str, &str, &str, &str)] = &[
    // Lengths.
    ("two equal lengths", "content-length: 3\r\ncontent-length: 3\r\n", "abc", "200, open"),
    (
        "two lengths, of which one hides a request",
        "content-length: 0\r\ncontent-length: 93\r\n",
        SMUGGLED,
        "400, closed",
    ),
    ("a list of lengths", "content-length: 3, 0\r\n", SMUGGLED, "400, closed"),
    ("a length with a sign", "content-length: +3\r\n", "abc", "400, closed"),
    ("a length in hexadecimal", "content-length: 0x3\r\n", "abc", "400, closed"),
    ("a length with a word", "content-length: 3 bytes\r\n", "abc", "400, closed"),
    ("no length where there should be one", "content-length: \r\n", "abc", "400, closed"),
    ("a length of 2^64", "content-length: 18446744073709551616\r\n", "abc", "400, closed"),
    ("a length of 2^64 - 1", "content-length: 18446744073709551615\r\n", "abc", "431, closed"),
    // Both.
    (
        "chunks and a length that hides a request",
        "transfer-encoding: chunked\r\ncontent-length: 98\r\n",
        "0\r\n\r\n",
        "200, closed",
    ),
    // Encodings.
    ("an encoding after chunks", "transfer-encoding: chunked, identity\r\n", "0\r\n\r\n", "400, closed"),
    ("an unknown encoding", "transfer-encoding: xchunked\r\n", "0\r\n\r\n", "400, closed"),
    ("an encoding with a vertical tab", "transfer-encoding: \u{b}chunked\r\n", "0\r\n\r\n", "400, closed"),
    (
        "an encoding and another",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        "0\r\n\r\n",
        "400, closed",
    ),
    ("chunks in capitals", "transfer-encoding: ChunKed\r\n", "3\r\nabc\r\n0\r\n\r\n", "200, open"),
    // Chunks.
    (
        "a chunk with an extension",
        "transfer-encoding: chunked\r\n",
        "3;name=\"va lue\"\r\nabc\r\n0\r\n\r\n",
        "200, open",
    ),
    (
        "a chunk of more than can be",
        "transfer-encoding: chunked\r\n",
        "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "400, closed",
    ),
    ("a chunk of a negative size", "transfer-encoding: chunked\r\n", "-3\r\nabc\r\n0\r\n\r\n", "400, closed"),
    ("a chunk's size with a prefix", "transfer-encoding: chunked\r\n", "0x3\r\nabc\r\n0\r\n\r\n", "400, closed"),
    ("a chunk without a size", "transfer-encoding: chunked\r\n", "\r\nabc\r\n0\r\n\r\n", "400, closed"),
    (
        "a chunk's size that ends in a bare line feed",
        "transfer-encoding: chunked\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "400, closed",
    ),
    ("a chunk longer than its size", "transfer-encoding: chunked\r\n", "3\r\nabcd\r\n0\r\n\r\n", "400, closed"),
    (
        "a trailer that is a header",
        "transfer-encoding: chunked\r\n",
        "3\r\nabc\r\n0\r\nhost: other\r\n\r\n",
        "200, open",
    ),
    ("a trailer that is none", "transfer-encoding: chunked\r\n", "3\r\nabc\r\n0\r\nno colon\r\n\r\n", "400, closed"),
];

/// A head as it is sent, and what it comes to.
const HEADS: &[(&str, &[u8], &str)] = &[
    ("a carriage return in a value", b"GET /seen HTTP/1.1\r\nhost: plain.default.localhost\r\nx: a\rb\r\n\r\n", "400, closed"),
    ("a space before the first header", b"GET /seen HTTP/1.1\r\n host: plain.default.localhost\r\n\r\n", "400, closed"),
    ("a header without a name", b"GET /seen HTTP/1.1\r\nhost: plain.default.localhost\r\n: x\r\n\r\n", "400, closed"),
    ("a tab before the colon", b"GET /seen HTTP/1.1\r\nhost\t: plain.default.localhost\r\n\r\n", "400, closed"),
    ("two spaces in the request line", b"GET  /seen HTTP/1.1\r\nhost: plain.default.localhost\r\n\r\n", "400, closed"),
    ("a space in the path", b"GET /se en HTTP/1.1\r\nhost: plain.default.localhost\r\n\r\n", "400, closed"),
    ("a path that is not UTF-8", b"GET /\xff\xfe HTTP/1.1\r\nhost: plain.default.localhost\r\n\r\n", "400, closed"),
    ("a NUL in the path", b"GET /a\0b HTTP/1.1\r\nhost: plain.default.localhost\r\n\r\n", "400, closed"),
    ("no version", b"GET /seen\r\nhost: plain.default.localhost\r\n\r\n", "400, closed"),
    ("a version without a dot", b"GET /seen HTTP/11\r\nhost: plain.default.localhost\r\n\r\n", "400, closed"),
    ("chunks in HTTP/1.0", b"POST /read HTTP/1.0\r\nhost: plain.default.localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "400, closed"),
    ("a host that is not UTF-8", b"GET /seen HTTP/1.1\r\nhost: \xff\r\nconnection: close\r\n\r\n", "400 bad-host, closed"),
    ("a host with a path", b"GET /seen HTTP/1.1\r\nhost: plain.default.localhost/x\r\nconnection: close\r\n\r\n", "400 bad-host, closed"),
    ("a host with a user", b"GET /seen HTTP/1.1\r\nhost: user@plain.default.localhost\r\nconnection: close\r\n\r\n", "400 bad-host, closed"),
    ("climbing out of the root", b"GET /../seen HTTP/1.1\r\nhost: plain.default.localhost\r\nconnection: close\r\n\r\n", "400 bad-path, closed"),
    ("climbing, encoded twice over", b"GET /a/%2E%2e%5c..%2Fseen HTTP/1.1\r\nhost: plain.default.localhost\r\nconnection: close\r\n\r\n", "400 bad-path, closed"),
    ("an upgrade to HTTP/2", b"GET /seen HTTP/1.1\r\nhost: plain.default.localhost\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\nconnection: upgrade, http2-settings, close\r\n\r\n", "200, closed"),
    ("line feeds without carriage returns", b"GET /seen HTTP/1.1\nhost: plain.default.localhost\nconnection: close\n\n", "200, closed"),
    ("a header behind a bare line feed", b"GET /seen HTTP/1.1\r\nhost: plain.default.localhost\r\nx: a\ncontent-length: 30\r\nconnection: close\r\n\r\nGET /status?code=299 HTTP/1.1\n\n", "200, closed"),
    ("a target of another host than the header's", b"GET http://plain.default.localhost/seen HTTP/1.1\r\nhost: nobody.example\r\nconnection: close\r\n\r\n", "200, closed"),
    ("a host and port as the target", b"GET plain.default.localhost:80 HTTP/1.1\r\nhost: plain.default.localhost:80\r\nconnection: close\r\n\r\n", "400 bad-target, closed"),
    ("a target of another protocol", b"GET ftp://plain.default.localhost/seen HTTP/1.1\r\nhost: plain.default.localhost\r\nconnection: close\r\n\r\n", "400 bad-target, closed"),
    ("a star as the target", b"GET * HTTP/1.1\r\nhost: plain.default.localhost\r\nconnection: close\r\n\r\n", "400 bad-target, closed"),
    ("a tunnel", b"CONNECT plain.default.localhost:80 HTTP/1.1\r\nhost: plain.default.localhost:80\r\nconnection: close\r\n\r\n", "405 method-not-allowed, closed"),
    ("a method that nobody knows", b"BREW /seen HTTP/1.1\r\nhost: plain.default.localhost\r\nconnection: close\r\n\r\n", "200, closed"),
];

pub(crate) fn cases() -> Vec<Case> {
    let good = |name: &str| match name {
        name if name.contains("chunk") || name.contains("encoding") || name.contains("trailer") => {
            "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        }
        _ => "content-length: 3\r\n\r\nabc",
    };
    let bodies = BODIES.iter().map(|(name, lines, body, expected)| {
        let request = format!("POST /read HTTP/1.1\r\nhost: plain.default.localhost\r\n{lines}\r\n{body}");
        // What hides behind the end of a body is looked for as well.
        let request = if *name == "chunks and a length that hides a request" { request + SMUGGLED } else { request };
        let twin = format!("POST /read HTTP/1.1\r\nhost: plain.default.localhost\r\n{}", good(name));
        case(*name, raw(request), *expected).twin(raw(twin), "200, open").lane(Lane::Waiting)
    });
    let heads = HEADS.iter().map(|(name, bytes, expected)| {
        let twin = b"GET /seen?a=b HTTP/1.1\r\nhost: plain.default.localhost\r\nx: a\tb\r\nconnection: close\r\n\r\n";
        case(*name, raw(*bytes), *expected).twin(raw(*twin), "200, closed").lane(Lane::Waiting)
    });
    bodies.chain(heads).chain(long()).collect()
}

/// Too long to write down.
fn long() -> Vec<Case> {
    let chunked = "POST /read HTTP/1.1\r\nhost: plain.default.localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    let of_extension = |bytes: usize| raw(format!("{chunked}3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(bytes)));
    let of_trailers = |count: usize| raw(format!("{chunked}3\r\nabc\r\n0\r\n{}\r\n", "x: y\r\n".repeat(count)));
    let method = format!("{} /seen HTTP/1.1\r\nhost: plain.default.localhost\r\n\r\n", "M".repeat(100_000));
    let short = "MOVE /seen HTTP/1.1\r\nhost: plain.default.localhost\r\n\r\n";
    let many = |count: usize| {
        let one = "GET /status?code=200 HTTP/1.1\r\nhost: plain.default.localhost\r\n\r\n";
        raw(one.repeat(count - 1) + SMUGGLED)
    };
    let answers = |count: usize| "200, ".repeat(count - 1) + "299, closed";
    vec![
        case("a chunk with an extension of 100 kB", of_extension(100_000), "400, closed")
            .twin(of_extension(1000), "200, open")
            .lane(Lane::Waiting),
        case("ten thousand trailers", of_trailers(10_000), "400, closed")
            .twin(of_trailers(50), "200, open")
            .lane(Lane::Waiting),
        case("a method of 100 kB", raw(method), "431, closed").twin(raw(short), "200, open").lane(Lane::Waiting),
        case("five hundred requests in one breath", many(500), answers(500)).twin(many(2), answers(2)),
    ]
}
