//! The gateway, which anybody may talk to: what is not HTTP, what is two things at once, and who says nothing at all.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use skiff_tests::http::{connect, exchange};

use super::super::golden::Golden;
use super::{serving, shown, still_serves};

/// The gateway gives a head 30 seconds; a loaded machine gets some more.
const HEAD_TIMEOUT_MAX: Duration = Duration::from_secs(45);

#[test]
fn bad_requests_to_the_gateway() {
    let cluster = serving();
    let mut golden = Golden::new("gateway", &cluster);
    let huge = format!("GET / HTTP/1.1\r\nhost: hello.default.localhost\r\nx: {}\r\n\r\n", "x".repeat(1 << 20));
    let many: String = (0..500).map(|i| format!("x{i}: y\r\n")).collect();
    let many = format!("GET / HTTP/1.1\r\nhost: hello.default.localhost\r\n{many}\r\n");
    let long = format!(
        "GET /{} HTTP/1.1\r\nhost: hello.default.localhost\r\nconnection: close\r\n\r\n",
        "x".repeat(100 << 10)
    );
    let cases: &[(&str, &str)] = &[
        ("not HTTP", "GARBAGE\r\n\r\n"),
        ("bad request line", "GET /\r\n\r\n"),
        ("version of a later day", "GET / HTTP/9.9\r\nhost: hello.default.localhost\r\n\r\n"),
        ("bad method", "G<T / HTTP/1.1\r\nhost: hello.default.localhost\r\n\r\n"),
        ("bad header", "GET / HTTP/1.1\r\nhost: hello.default.localhost\r\nno colon\r\n\r\n"),
        ("space before the colon", "GET / HTTP/1.1\r\nhost : hello.default.localhost\r\n\r\n"),
        ("folded header", "GET / HTTP/1.1\r\nhost: hello.default.localhost\r\nx: y\r\n z\r\nconnection: close\r\n\r\n"),
        ("NUL in a header", "GET / HTTP/1.1\r\nhost: hello.default.localhost\r\nx: \0\r\n\r\n"),
        (
            "two lengths",
            "POST / HTTP/1.1\r\nhost: hello.default.localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        ),
        (
            "length and chunks",
            "POST / HTTP/1.1\r\nhost: hello.default.localhost\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n0\r\n\r\n",
        ),
        ("negative length", "POST / HTTP/1.1\r\nhost: hello.default.localhost\r\ncontent-length: -1\r\n\r\n"),
        ("unknown encoding", "POST / HTTP/1.1\r\nhost: hello.default.localhost\r\ntransfer-encoding: wavy\r\n\r\n"),
        (
            "bad chunk",
            "POST / HTTP/1.1\r\nhost: hello.default.localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        ),
        ("bare line feeds", "GET / HTTP/1.1\nhost: hello.default.localhost\nconnection: close\n\n"),
        ("no host", "GET / HTTP/1.1\r\nconnection: close\r\n\r\n"),
        ("two hosts", "GET / HTTP/1.1\r\nhost: hello.default.localhost\r\nhost: b\r\nconnection: close\r\n\r\n"),
        ("huge header", &huge),
        ("too many headers", &many),
        ("long path", &long),
        ("no route", "GET /nothing HTTP/1.1\r\nhost: hello.default.localhost\r\nconnection: close\r\n\r\n"),
        ("unknown host", "GET / HTTP/1.1\r\nhost: shop.nowhere.localhost\r\nconnection: close\r\n\r\n"),
        (
            "upgrade",
            "GET / HTTP/1.1\r\nhost: hello.default.localhost\r\nupgrade: websocket\r\nconnection: upgrade, close\r\n\r\n",
        ),
        ("CONNECT", "CONNECT example.com:80 HTTP/1.1\r\nhost: example.com:80\r\nconnection: close\r\n\r\n"),
        ("TLS", "\u{16}\u{3}\u{1}\u{0}\u{5}hello\r\n\r\n"),
    ];
    for (name, request) in cases {
        let said = match exchange(cluster.gateway_addr(), request.as_bytes()) {
            Ok(said) => without_date(&said),
            Err(error) => format!("(the connection: {})", error.kind()),
        };
        let said = if said.is_empty() { "(closed without a word)".to_owned() } else { said };
        golden.case(name, &shown(request.escape_default().to_string().as_bytes()), &said);
        still_serves(name, &cluster);
    }
    golden.check(cases.len());
}

/// The head's lines with `\n`, but for the date, and the body.
fn without_date(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said).replace("\r\n", "\n");
    let kept: Vec<_> = said.lines().filter(|line| !line.starts_with("date: ")).collect();
    kept.join("\n")
}

#[test]
fn whoever_is_slow_or_gone_holds_nobody_up() {
    let cluster = serving();
    let start = Instant::now();
    // Slower than any client, and silent ones: many more than there are threads.
    let silent: Vec<_> = (0..64).map(|_| connect(cluster.gateway_addr()).unwrap()).collect();
    let mut slow: Vec<_> = (0..64).map(|_| connect(cluster.gateway_addr()).unwrap()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: hello.default.localhost\r\nx: ").unwrap();
    }
    still_serves("128 connections that say nothing", &cluster);

    // Half closed: whoever has said all may still listen.
    let mut half = connect(cluster.gateway_addr()).unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nhost: hello.default.localhost\r\nconnection: close\r\n\r\n").unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    let mut said = String::new();
    half.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 200"), "to a half-open connection: {said}");

    // Gone amid a body.
    for _ in 0..32 {
        let mut gone = connect(cluster.gateway_addr()).unwrap();
        gone.write_all(b"POST / HTTP/1.1\r\nhost: hello.default.localhost\r\ncontent-length: 100\r\n\r\nonly this")
            .unwrap();
    }
    still_serves("clients that left amid a body", &cluster);

    // A head that never ends is ended.
    for mut stream in slow {
        let mut said = Vec::new();
        // A reset ends it as well.
        drop(stream.read_to_end(&mut said));
        let took = start.elapsed();
        assert!(took < HEAD_TIMEOUT_MAX, "a slow head was still waited for after {took:?}");
    }
    drop(silent);
    still_serves("slow heads", &cluster);
}
