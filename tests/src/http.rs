//! A blocking client for HTTP/1.1, written by hand: it shows every byte that came, sends whatever a test wants, right or
//! wrong, and needs no runtime. One connection carries one request, unless a test does the talking itself.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// How long any one read may take before the test gives up.
pub const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// An answer. Names of headers are in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// # Panics
    /// When the body is not JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }
}

/// A request that is to be sent.
#[derive(Debug, Clone)]
pub struct Request {
    addr: SocketAddr,
    head: String,
    host: Option<String>,
    body: Vec<u8>,
}

impl Request {
    /// `path` is sent as it is, query and all. Without [`Request::host`], the host is the address.
    pub fn new(addr: SocketAddr, method: &str, path: &str) -> Self {
        Self { addr, head: format!("{method} {path} HTTP/1.1\r\n"), host: None, body: Vec::new() }
    }

    #[must_use]
    pub fn host(mut self, host: &str) -> Self {
        self.host = Some(host.to_owned());
        self
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.head.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    /// The body, whose length is sent with it.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.head.push_str(&format!("content-length: {}\r\n", self.body.len()));
        self
    }

    /// Connects, sends, and reads the whole answer.
    ///
    /// # Errors
    /// When the connection cannot be made, breaks, or what comes is not an answer.
    pub fn send(self) -> io::Result<Response> {
        let mut stream = connect(self.addr)?;
        let host = self.host.unwrap_or_else(|| self.addr.to_string());
        let head = format!("{}host: {host}\r\nconnection: close\r\n\r\n", self.head);
        // Who refuses a request may answer, and close, before all of it is sent.
        let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&self.body));
        let mut from = BufReader::new(stream);
        // An answer to HEAD has no body, whatever its head says.
        let came = if head.starts_with("HEAD ") { read_head(&mut from) } else { read_response(&mut from) };
        match (came, sent) {
            (Ok(response), _) => Ok(response),
            (Err(_), Err(error)) | (Err(error), Ok(())) => Err(error),
        }
    }
}

/// A connection whose reads end after [`READ_TIMEOUT`].
///
/// # Errors
/// When nobody listens there.
pub fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    stream.set_write_timeout(Some(READ_TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends these very bytes, and returns every byte that comes until the other side closes.
///
/// # Errors
/// When the connection cannot be made, or nothing ends it within [`READ_TIMEOUT`].
pub fn exchange(addr: SocketAddr, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = connect(addr)?;
    let sent = stream.write_all(bytes);
    let mut came = Vec::new();
    match stream.read_to_end(&mut came) {
        // What came before a reset has come.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !came.is_empty() => Ok(came),
        Err(error) => Err(error),
        Ok(_) if came.is_empty() => sent.map(|()| came),
        Ok(_) => Ok(came),
    }
}

/// Reads one whole answer off a connection, and leaves what follows it there.
///
/// # Errors
/// When the connection ends early, or what comes is not an answer.
pub fn read_response(from: &mut impl BufRead) -> io::Result<Response> {
    let mut response = read_head(from)?;
    read_body(from, &mut response)?;
    Ok(response)
}

/// Reads an answer's head, and leaves its body there.
///
/// # Errors
/// When the connection ends early, or what comes is not an answer.
pub fn read_head(from: &mut impl BufRead) -> io::Result<Response> {
    let line = read_line(from)?;
    let status = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "));
    let status = status.and_then(|rest| rest.get(..3)).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| invalid(&format!("a status line {line:?}")))?;
    Ok(Response { status, headers: read_headers(from)?, body: Vec::new() })
}

/// Reads the body that follows a head. What came before an error stays in the response.
///
/// # Errors
/// When the body is cut off, or is not what the head says.
pub fn read_body(from: &mut impl BufRead, response: &mut Response) -> io::Result<()> {
    if response.header("transfer-encoding") == Some("chunked") {
        read_chunks(from, &mut response.body)?;
    } else if let Some(length) = response.header("content-length") {
        let length = length.parse().map_err(|_| invalid(&format!("a length {length:?}")))?;
        read_part(from, &mut response.body, length)?;
    } else if response.status != 204 && response.status != 304 {
        from.read_to_end(&mut response.body)?;
    }
    Ok(())
}

fn read_headers(from: &mut impl BufRead) -> io::Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    loop {
        let line = read_line(from)?;
        if line.is_empty() {
            return Ok(headers);
        }
        let (name, value) = line.split_once(':').ok_or_else(|| invalid(&format!("a header {line:?}")))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn read_chunks(from: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let line = read_line(from)?;
        let length = line.split(';').next().and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
        let length = length.ok_or_else(|| invalid(&format!("a chunk's length {line:?}")))?;
        if length == 0 {
            // Trailers, up to the empty line.
            read_headers(from)?;
            return Ok(());
        }
        read_part(from, body, length)?;
        if !read_line(from)?.is_empty() {
            return Err(invalid("more in a chunk than its length"));
        }
    }
}

/// So many bytes; what came of them stays when the rest does not come.
fn read_part(from: &mut impl BufRead, body: &mut Vec<u8>, bytes: u64) -> io::Result<()> {
    match from.take(bytes).read_to_end(body)? as u64 {
        read if read == bytes => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended amid a body")),
    }
}

/// One line, without its end.
fn read_line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    from.read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended amid an answer"));
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("what came has {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(mut bytes: &[u8]) -> io::Result<Response> {
        read_response(&mut bytes)
    }

    #[test]
    fn reads_bodies_of_a_length_in_chunks_and_up_to_the_end() {
        let of_length = read(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcrest").unwrap();
        assert_eq!((of_length.status, of_length.text().as_str()), (200, "abc"));
        let chunked =
            read(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1;x\r\nc\r\n0\r\nt: 1\r\n\r\n");
        assert_eq!(chunked.unwrap().text(), "abc");
        let to_end = read(b"HTTP/1.0 404 Not Found\r\n\r\nabc").unwrap();
        assert_eq!((to_end.status, to_end.text().as_str()), (404, "abc"));
    }

    #[test]
    fn a_body_cut_short_is_an_error() {
        assert!(read(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabc").is_err());
        assert!(read(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n").is_err());
        assert!(read(b"garbage\r\n\r\n").is_err());
    }
}
