//! Response headers that HTTP or the host forbids, and too many of them; request headers as they came.

use std::fmt::Write as _;

use wasip2::http::types::{Fields, HeaderError, IncomingRequest, ResponseOutparam};

use crate::answer;

/// Answers with `n` headers, each of so many bytes.
pub fn many(n: u64, bytes: Option<&str>, out: ResponseOutparam) {
    let value = vec![b'v'; usize::try_from(crate::number(bytes).unwrap_or(1)).unwrap_or(usize::MAX)];
    let headers = Fields::new();
    for i in 0..n {
        if let Err(error) = headers.append(&format!("x-{i}"), &value) {
            return answer::refused(out, format_args!("header {i}: {error:?}"));
        }
    }
    answer::stream(out, 200, headers, |_| {});
}

/// Tries to set what belongs to the connection; says what it was let.
pub fn forbidden(out: ResponseOutparam) {
    let headers = Fields::new();
    let mut text = String::new();
    for (name, value) in [
        ("connection", "close, x-kept"),
        ("keep-alive", "timeout=1000"),
        ("proxy-authenticate", "Basic"),
        ("proxy-authorization", "Basic"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("host", "elsewhere"),
        ("http2-settings", "AAMAAABkAAQAAP__"),
        ("x-skiff-error", "no-route"),
        ("x-kept", "1"),
    ] {
        match headers.append(name, value.as_bytes()) {
            Ok(()) => _ = writeln!(text, "{name}: set"),
            Err(error) => _ = writeln!(text, "{name}: {error:?}"),
        }
    }
    answer::stream(out, 200, headers, |to| _ = std::io::Write::write_all(to, text.as_bytes()));
}

/// Tries to make two responses of one; says what it was let.
pub fn invalid(out: ResponseOutparam) {
    let headers = Fields::new();
    let mut text = String::new();
    let cases: [(&str, &[u8]); 9] = [
        ("x-cr-lf", b"a\r\nset-cookie: b"),
        ("x-lf", b"a\nset-cookie: b"),
        ("x-cr", b"a\rb"),
        ("x-nul", b"a\0b"),
        ("x-delete", b"a\x7fb"),
        ("x space", b"a"),
        ("x-name\r\nset-cookie", b"a"),
        ("", b"a"),
        ("x-n\u{e4}me", b"a"),
    ];
    for (name, value) in cases {
        match headers.append(name, value) {
            Ok(()) => _ = writeln!(text, "{name:?}: set"),
            Err(HeaderError::InvalidSyntax) => {}
            Err(error) => _ = writeln!(text, "{name:?}: {error:?}"),
        }
    }
    // Bytes above ASCII are allowed, if of no known meaning.
    match headers.append("x-latin", b"caf\xe9") {
        Ok(()) => _ = writeln!(text, "latin: set"),
        Err(error) => _ = writeln!(text, "latin: {error:?}"),
    }
    answer::stream(out, 200, headers, |to| _ = std::io::Write::write_all(to, text.as_bytes()));
}

/// The request as the guest sees it: method, path and query, authority, then a header a line, values as Rust writes bytes.
pub fn seen(request: &IncomingRequest, out: ResponseOutparam) {
    let mut text = format!(
        "{:?} {} {}\n",
        request.method(),
        request.path_with_query().unwrap_or_default(),
        request.authority().unwrap_or_default()
    );
    for (name, value) in request.headers().entries() {
        _ = writeln!(text, "{name}: {}", value.escape_ascii());
    }
    answer::text(out, 200, &text);
}

/// Tries to give a body two lengths.
pub fn lengths(out: ResponseOutparam) {
    let headers = Fields::new();
    let first = headers.append("content-length", b"5");
    let second = headers.append("content-length", b"50");
    let set = headers.set("content-length", &[b"5".to_vec(), b"50".to_vec()]);
    let words = headers.append("content-length", b"many");
    if second.is_ok() || set.is_ok() || words.is_ok() {
        return answer::stream(out, 200, headers, |to| _ = std::io::Write::write_all(to, b"hello"));
    }
    answer::refused(out, format_args!("{first:?} {second:?} {set:?} {words:?}"));
}
