//! One HTTP request: enough to show that a service answers, without a client library to compile first.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// A fresh service answers in milliseconds; this is an end to waiting.
const WITHIN: Duration = Duration::from_secs(10);
/// What a demo's answer may have at most.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// `HTTP/1.1 200 OK`.
    pub(super) status: String,
    pub(super) body: String,
}

/// `GET PATH` from `server`, which is `http://HOST:PORT`; anything but a success is an error.
pub(super) fn get(server: &str, path: &str) -> Result<Answer> {
    ask(server, "GET", path, "")
}

/// `POST PATH` of a JSON text.
pub(super) fn post(server: &str, path: &str, body: &str) -> Result<Answer> {
    ask(server, "POST", path, body)
}

fn ask(server: &str, method: &str, path: &str, body: &str) -> Result<Answer> {
    let failed = || format!("failed to {method} {server}{path}");
    let answer = exchange(server, method, path, body).with_context(failed)?;
    if !answer.status.split(' ').nth(1).is_some_and(|status| status.starts_with('2')) {
        bail!("{server}{path} answered {}: {}", answer.status, answer.body.trim_end());
    }
    Ok(answer)
}

fn exchange(server: &str, method: &str, path: &str, body: &str) -> Result<Answer> {
    let address = server.strip_prefix("http://").context("the address is not http://HOST:PORT")?;
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(WITHIN))?;
    stream.set_write_timeout(Some(WITHIN))?;
    // By 1.0 the answer ends with the connection: there are no chunks to put together.
    let about = match body.len() {
        0 => String::new(),
        length => format!("content-type: application/json\r\ncontent-length: {length}\r\n"),
    };
    write!(stream, "{method} {path} HTTP/1.0\r\nhost: {address}\r\n{about}connection: close\r\n\r\n{body}")?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
    parse(&String::from_utf8_lossy(&bytes))
}

fn parse(answer: &str) -> Result<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no end of headers")?;
    let status = head.lines().next().unwrap_or_default();
    Ok(Answer { status: status.to_owned(), body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    fn server(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            stream.write_all(answer.as_bytes()).unwrap();
        });
        format!("http://{address}")
    }

    #[test]
    fn an_answer_is_its_status_and_its_body() {
        let answer = get(&server("HTTP/1.0 200 OK\r\na: b\r\n\r\nhello"), "/").unwrap();
        assert_eq!(answer, Answer { status: "HTTP/1.0 200 OK".into(), body: "hello".into() });
    }

    #[test]
    fn another_status_is_an_error_with_what_was_said() {
        let error = get(&server("HTTP/1.0 503 Service Unavailable\r\n\r\nfull\n"), "/a").unwrap_err().to_string();
        assert!(error.ends_with("/a answered HTTP/1.0 503 Service Unavailable: full"), "{error}");
    }
}
