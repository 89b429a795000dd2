//! Whether a container is well: how one is asked.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Request};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use skiff_api::resource::Health;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::engine::Engine;
use super::exec;
use crate::gateway::CHECKER;
use crate::health::{self, Check};

/// A container, and how it is asked.
pub(super) struct Patient<'a> {
    pub(super) engine: &'a Engine,
    pub(super) name: &'a str,
    pub(super) ip: IpAddr,
    /// Its port for requests.
    pub(super) http: Option<u16>,
    pub(super) health: &'a Health,
}

impl Patient<'_> {
    /// Waits until it is well, but no longer than that. Returns what was last wrong.
    pub(super) async fn recovers(&self, until: Instant) -> Result<(), String> {
        health::recovers(self.health, until, self).await
    }

    /// Returns once it is to be replaced, with what was last wrong.
    pub(super) async fn ails(&self) -> String {
        health::ails(self.health, self).await
    }
}

impl Check for Patient<'_> {
    async fn check(&self) -> Result<(), String> {
        match (&self.health.path, self.health.port.or(self.http)) {
            (Some(path), Some(port)) => get(SocketAddr::new(self.ip, port), path).await,
            (Some(_), None) => Err("it has no port for requests".to_owned()),
            (None, Some(port)) if self.health.exec.is_empty() => {
                let dialled = TcpStream::connect((self.ip, port)).await;
                dialled.map(drop).map_err(|error| format!("port {port} takes no connection: {error}"))
            }
            (None, _) => exec::check(self.engine, self.name, &self.health.exec).await,
        }
    }
}

async fn get(to: SocketAddr, path: &str) -> Result<(), String> {
    let failed = |error: &dyn std::error::Error| format!("GET {path} on port {} failed: {error}", to.port());
    let stream = TcpStream::connect(to).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let host = HeaderValue::from_str(&to.to_string()).unwrap_or(HeaderValue::from_static("localhost"));
    let request = Request::get(path).header(HOST, host).header(USER_AGENT, CHECKER);
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| failed(&error))?;
    // It ends with its only request.
    tokio::spawn(connection);
    let status = sender.send_request(request).await.map_err(|error| failed(&error))?.status();
    match status.is_success() || status.is_redirection() {
        true => Ok(()),
        false => Err(format!("GET {path} on port {} was answered with {}", to.port(), status.as_u16())),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request.
    async fn server(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        address
    }

    #[tokio::test]
    async fn what_answers_is_well_by_its_status() {
        assert_eq!(get(server("HTTP/1.1 204 No Content\r\n\r\n").await, "/").await, Ok(()));
        let closing = "HTTP/1.1 302 Found\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi";
        assert_eq!(get(server(closing).await, "/a").await, Ok(()));
        let ill = server("HTTP/1.1 503 Ill\r\ncontent-length: 0\r\n\r\n").await;
        let expected = format!("GET /a on port {} was answered with 503", ill.port());
        assert_eq!(get(ill, "/a").await, Err(expected));
        let why = get(server("gibberish").await, "/a").await.unwrap_err();
        assert!(why.starts_with("GET /a on port"), "{why}");
        assert!(get(SocketAddr::from(([127, 0, 0, 1], 1)), "/").await.is_err());
    }
}
