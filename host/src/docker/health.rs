//! Whether a container is well: asked as its service says, again and again.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Request};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use skiff_api::resource::Health;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::engine::Engine;
use super::exec;

/// The first pause of one that is not well yet; the next ones are longer, up to that between two checks.
const SOON: Duration = Duration::from_millis(50);

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
        let mut pause = SOON;
        loop {
            let Err(why) = self.check().await else { return Ok(()) };
            if Instant::now() + pause > until {
                return Err(why);
            }
            sleep(pause).await;
            pause = (pause * 2).min(self.health.every.as_duration());
        }
    }

    /// Returns once so many checks have failed that it is to be replaced, with what was last wrong.
    pub(super) async fn ails(&self) -> String {
        let mut failures = 0;
        loop {
            sleep(self.health.every.as_duration()).await;
            match self.check().await {
                Ok(()) => failures = 0,
                Err(why) => {
                    failures += 1;
                    tracing::debug!(container = self.name, failures, why, "a check failed");
                    if failures >= self.health.failures {
                        return format!("{failures} checks failed one after another: {why}");
                    }
                }
            }
        }
    }

    async fn check(&self) -> Result<(), String> {
        let limit = self.health.timeout;
        let checked = timeout(limit.as_duration(), async {
            match (&self.health.path, self.health.port.or(self.http)) {
                (Some(path), Some(port)) => get(SocketAddr::new(self.ip, port), path).await,
                (Some(_), None) => Err("it has no port for requests".to_owned()),
                (None, Some(port)) if self.health.exec.is_empty() => {
                    let dialled = TcpStream::connect((self.ip, port)).await;
                    dialled.map(drop).map_err(|error| format!("port {port} takes no connection: {error}"))
                }
                (None, _) => exec::check(self.engine, self.name, &self.health.exec).await,
            }
        });
        checked.await.unwrap_or_else(|_| Err(format!("no answer within {limit}")))
    }
}

async fn get(to: SocketAddr, path: &str) -> Result<(), String> {
    let failed = |error: &dyn std::error::Error| format!("GET {path} on port {} failed: {error}", to.port());
    let stream = TcpStream::connect(to).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    let host = HeaderValue::from_str(&to.to_string()).unwrap_or(HeaderValue::from_static("localhost"));
    let request = Request::get(path).header(HOST, host).header(USER_AGENT, "skiff-health");
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

    /// Answers each request with the next of these.
    async fn server(answers: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 1024]).await;
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        address
    }

    const WELL: &str = "HTTP/1.1 204 No Content\r\n\r\n";
    const ILL: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";

    #[tokio::test]
    async fn one_that_fails_often_enough_in_a_row_ails() {
        let to = server(&[ILL, WELL, WELL, ILL, WELL, ILL, ILL, "gibberish"]).await;
        let health = r#"{"path":"/","every":"10ms","timeout":"5s","failures":3}"#;
        let health: Health = serde_json::from_str(health).unwrap();
        let engine = Engine::new("/nowhere".into());
        let patient = Patient { engine: &engine, name: "n", ip: to.ip(), http: Some(to.port()), health: &health };
        patient.recovers(Instant::now() + Duration::from_secs(10)).await.unwrap();
        let why = patient.ails().await;
        assert!(why.starts_with("3 checks failed one after another: GET / on port"), "{why}");
        // Nobody listens any more.
        let why = patient.recovers(Instant::now()).await.unwrap_err();
        assert!(why.contains("GET / on port"), "{why}");
    }
}
