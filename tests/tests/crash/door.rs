//! The API and the registry of one run of the process, over one connection that stays open.

use std::io::{self, BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use skiff_tests::Cluster;
use skiff_tests::http::{self, Response};

/// Where to knock, and with which token. Cheap to clone; a clone has a connection of its own.
#[derive(Debug)]
pub(crate) struct Door {
    addr: SocketAddr,
    token: String,
    stream: Option<BufReader<TcpStream>>,
}

impl Clone for Door {
    fn clone(&self) -> Self {
        Self { addr: self.addr, token: self.token.clone(), stream: None }
    }
}

impl Door {
    pub(crate) fn new(cluster: &Cluster) -> Self {
        Self { addr: cluster.api_addr(), token: cluster.token(), stream: None }
    }

    /// An error means that the process is gone, or broken.
    pub(crate) fn send(&mut self, method: &str, path: &str, kind: &str, body: &[u8]) -> io::Result<Response> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => self.stream.insert(BufReader::new(http::connect(self.addr)?)),
        };
        let mut bytes = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n",
            self.addr,
            self.token,
            body.len()
        )
        .into_bytes();
        bytes.extend(body);
        let answer = stream.get_mut().write_all(&bytes).and_then(|()| http::read_response(stream));
        if answer.as_ref().map_or(true, |answer| answer.header("connection") == Some("close")) {
            self.stream = None;
        }
        answer
    }

    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.send("GET", path, "text/plain", b"").unwrap_or_else(|error| panic!("failed to get {path}: {error}"))
    }
}
