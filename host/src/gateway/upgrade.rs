//! Connections that go on in another protocol, such as WebSocket: from a client of HTTP/1.1 to a container.
//!
//! ```text
//! client ── GET, upgrade ──> gateway ── a request whose body is what the client says ──> replica, here or on another node
//!        <── 101 ──                  <── 101, and a body that is what the replica says ──
//! ```
//! Between the two heads and after them it is a request like any other: it has a place at its replica, is counted, is cut
//! off when the replica stops, and goes to other nodes in a stream of HTTP/2, which has no upgrades of this kind: there its
//! head says so in a header of its own, and is answered with 200. Only its idle time does not count: it is for the two
//! ends to say whether the other is still there. A component cannot go on in another protocol, and answers as it likes.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, StreamExt};
use http::header::{CONNECTION, HeaderName, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, response};
use http_body::{Body, Frame};
use http_body_util::StreamBody;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::answer::Refusal;
use super::body::AnswerBody;
use super::flight::Flight;
use super::headers;
use super::peer;
use super::serve::{Answer, Place, enter, here};

/// Between nodes: the request asks for that protocol, and the answer goes on in it.
pub(super) const UPGRADE_HEADER: HeaderName = HeaderName::from_static("x-skiff-upgrade");

/// What is read of a client at once, and how many pieces wait for the replica.
const READ_BYTES: usize = 16 << 10;
const PIECES_MAX: usize = 4;
/// How long a replica may go on after its client has said all.
const LINGER: Duration = Duration::from_secs(30);

/// The protocol that a request asks for. Its body is what the client says in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Upgrade(pub(crate) HeaderValue);

impl Upgrade {
    /// What a client asks for. HTTP/2 is none of those: the gateway speaks it itself.
    pub(super) fn wanted(parts: &Parts) -> Option<Self> {
        if parts.version != Version::HTTP_11 || parts.method != Method::GET {
            return None;
        }
        let protocol = parts.headers.get(UPGRADE)?;
        let text = protocol.to_str().ok()?;
        let is_one = !text.is_empty() && !text.contains(',') && !text.to_ascii_lowercase().starts_with("h2");
        let is_meant = parts
            .headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').any(|word| word.trim().eq_ignore_ascii_case("upgrade")));
        (is_one && is_meant).then(|| Self(protocol.clone()))
    }

    /// What another node asks for, or answers.
    pub(super) fn take(headers: &mut HeaderMap) -> Option<Self> {
        headers.remove(UPGRADE_HEADER).map(Self)
    }
}

/// The client's side of an upgrade that was asked for.
pub(super) struct Handshake {
    client: OnUpgrade,
    said: mpsc::Sender<Bytes>,
    upgrade: Upgrade,
}

/// A connection that has gone on in another protocol.
pub(super) struct Session {
    client: OnUpgrade,
    said: mpsc::Sender<Bytes>,
    answer: AnswerBody,
}

/// The session of a connection, once it has one.
#[derive(Default)]
pub(super) struct Upgraded(Mutex<Option<Session>>);

impl Upgraded {
    pub(super) fn take(&self) -> Option<Session> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn begin(&self, session: Session) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
    }
}

/// Passes on a request that asks for another protocol.
pub(super) async fn forward(
    flight: &mut Flight,
    started: Instant,
    mut parts: Parts,
    upgrade: Upgrade,
) -> Result<(Answer, Option<Handshake>), Refusal> {
    let place = enter(&flight.client, &parts, started).await?;
    headers::to_guest(&mut parts, &flight.client);
    let client = parts.extensions.remove::<OnUpgrade>();
    let (said, mut says) = mpsc::channel::<Bytes>(PIECES_MAX);
    let says = stream::poll_fn(move |cx| says.poll_recv(cx));
    let body = StreamBody::new(says.map(|bytes| Ok::<_, hyper::Error>(Frame::data(bytes))));
    parts.extensions.insert(upgrade.clone());
    let answer = match place {
        Place::Here(target, entered) => {
            here(flight, (target, entered), started, Request::from_parts(parts, body)).await?
        }
        Place::There { service, is_full_here } => {
            peer::forward(flight, (service, is_full_here), started, (parts, body)).await?
        }
    };
    Ok((answer, client.map(|client| Handshake { client, said, upgrade })))
}

/// The answer that a client of HTTP/1.1 gets; what follows it is up to the connection's task.
pub(super) fn switch(
    mut head: response::Parts,
    answer: AnswerBody,
    handshake: Handshake,
    upgraded: &Upgraded,
) -> Response<AnswerBody> {
    let Handshake { client, said, upgrade } = handshake;
    head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    head.headers.insert(UPGRADE, upgrade.0);
    upgraded.begin(Session { client, said, answer });
    Response::from_parts(head, AnswerBody::Whole(None))
}

/// How another node is told that a replica here goes on in another protocol.
pub(super) fn to_node(head: &mut response::Parts) {
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        head.status = StatusCode::OK;
        head.headers.insert(UPGRADE_HEADER, HeaderValue::from_static("1"));
    }
}

/// What another node has told.
pub(super) fn from_node(head: &mut response::Parts) {
    if Upgrade::take(&mut head.headers).is_some() {
        head.status = StatusCode::SWITCHING_PROTOCOLS;
    }
}

impl Session {
    /// Until the replica has said all, or either is gone.
    pub(super) async fn run(self) {
        let Self { client, said, answer } = self;
        let Ok(client) = client.await else { return };
        let (reads, writes) = tokio::io::split(TokioIo::new(client));
        tokio::select! {
            () = hear(reads, said) => {}
            () = say(answer, writes) => {}
        }
    }
}

/// What the client says, as long as the replica may take it.
async fn hear(mut client: impl AsyncRead + Unpin, said: mpsc::Sender<Bytes>) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_BYTES);
        match client.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => break,
            // Where nobody takes it, the replica is gone, which its answer tells.
            Ok(_) => _ = said.send(buffer.split().freeze()).await,
        }
    }
    drop(said);
    tokio::time::sleep(LINGER).await;
}

/// What the replica says.
async fn say(mut answer: AnswerBody, mut client: impl AsyncWrite + Unpin) {
    while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut answer).poll_frame(cx)).await {
        if let Ok(bytes) = frame.into_data()
            && (client.write_all(&bytes).await.is_err() || client.flush().await.is_err())
        {
            return;
        }
    }
    let _ = client.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(headers: &[(&str, &str)]) -> Option<String> {
        let mut request = Request::get("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let upgrade = Upgrade::wanted(&request.body(()).unwrap().into_parts().0)?;
        Some(upgrade.0.to_str().unwrap().to_owned())
    }

    #[test]
    fn an_upgrade_is_one_that_the_connection_names() {
        let asks = [("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")];
        assert_eq!(wanted(&asks).as_deref(), Some("websocket"));
        assert_eq!(wanted(&asks[1..]), None);
        for other in ["h2c", "HTTP/2.0, websocket", ""] {
            assert_eq!(wanted(&[asks[0], ("upgrade", other)]), None, "{other}");
        }
    }
}
