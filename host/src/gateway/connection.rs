//! One client connection, from its first byte to its end.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::io::Heard;
use super::leash::{Streams, Watch};
use super::serve::serve;

/// For a request's head, and between two requests: what browsers keep idle connections for is longer, but they take a
/// closed one well.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A request's head, and what is buffered of its body: no sane head is larger, and a slow one costs no more.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// Header fields of a request: twice what browsers and proxies send.
pub(super) const HEADERS_MAX: usize = 100;
/// Requests at once on one h2 connection: browsers use 100; more of them is one client taking all of a service.
const H2_STREAMS_MAX: u32 = 256;
/// Finds h2 clients that are gone without a word, whose streams hold places.
const H2_PING_EVERY: Duration = Duration::from_secs(30);
const H2_PING_TIMEOUT: Duration = Duration::from_secs(15);
/// How long an h2 connection may go without a request before it ends, give or take as much: its client answers pings, and
/// would hold its place for ever. Browsers and proxies take it well; they connect again.
const H2_IDLE_MAX: Duration = Duration::from_secs(300);
/// When it drains, a connection serves what was on its way for so long before it is told to end: a request that crosses
/// the goodbye would be lost.
const DRAIN_LINGER: Duration = Duration::from_millis(250);

pub(super) type Builder = auto::Builder<Streams>;

/// hyper's defaults bound the number of h2 streams that were reset and the frames that continue a head.
pub(super) fn builder() -> Builder {
    let mut builder = auto::Builder::new(Streams);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(BUFFER_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS_MAX)
        .max_header_list_size(BUFFER_BYTES_MAX as u32)
        .max_send_buf_size(BUFFER_BYTES_MAX)
        .keep_alive_interval(H2_PING_EVERY)
        .keep_alive_timeout(H2_PING_TIMEOUT);
    builder
}

/// Serves a connection until it ends. From the moment that `drain` is cancelled it is brought to an end without losing a
/// request.
pub(super) async fn run<S>(builder: &Builder, client: Client, stream: S, drain: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (addr, leash, client) = (client.addr, client.leash.clone(), Arc::new(client));
    let (stream, spoke) = Heard::new(stream, client.clone());
    let its = client.clone();
    let served = client.clone();
    let service = service_fn(move |request| {
        let answer = serve(served.clone(), request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    let mut watch = Watch::new(&leash);

    // hyper's clock starts with the protocol, which is known from the first byte.
    let silent = async {
        tokio::time::sleep(HEAD_TIMEOUT).await;
        // In HTTP/1.1 the silence between two requests is a head that does not come.
        while spoke.load(Ordering::Relaxed) {
            let before = client.begun();
            tokio::time::sleep(H2_IDLE_MAX).await;
            if !client.is_served() && client.begun() == before {
                return;
            }
        }
    };
    let mut end = pin!(async {
        tokio::select! {
            () = silent => {}
            () = drain.cancelled() => tokio::time::sleep(DRAIN_LINGER).await,
        }
    });
    let mut is_ending = false;
    // In this order: the connection is what takes hold of the leash.
    let ended = loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => break ended,
            () = watch.ended() => return,
            () = &mut end, if !is_ending => {
                is_ending = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    if let Err(error) = ended {
        // Clients go away at any moment: that is no event for a log that people read.
        tracing::debug!(client = %addr, error, "connection ended early");
    }
    if let Some(session) = its.upgraded.take() {
        session.run().await;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Request;
    use http_body_util::Empty;
    use hyper_util::rt::TokioExecutor;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::time::Instant;

    use super::super::listen::Door;
    use super::*;

    /// The other end of a connection that is served.
    fn connect() -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let client = Client::new(Arc::default(), "192.0.2.1".parse().unwrap(), &Door::Plain { redirect_port: None });
        tokio::spawn(async move { run(&builder(), client, theirs, CancellationToken::new()).await });
        ours
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_preface_is_no_reason_to_wait_for_ever() {
        for said in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r", "GET / HTTP/1.1\r\nhost"] {
            let (start, mut stream) = (Instant::now(), connect());
            stream.write_all(said.as_bytes()).await.unwrap();
            drop(stream.read_to_end(&mut Vec::new()).await);
            assert!(start.elapsed() < HEAD_TIMEOUT + Duration::from_secs(1), "{said:?}: {:?}", start.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_h2_client_that_only_answers_pings_is_sent_home() {
        let start = Instant::now();
        let handshake =
            hyper::client::conn::http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(connect()));
        let (mut sender, connection) = handshake.await.unwrap();
        let connection = tokio::spawn(connection);
        for _ in 0..3 {
            tokio::time::sleep(H2_IDLE_MAX - Duration::from_secs(1)).await;
            let request = Request::get("http://nobody.example/").body(Empty::<Bytes>::new()).unwrap();
            assert_eq!(sender.send_request(request).await.unwrap().status(), 404);
        }
        drop(connection.await);
        let idle = start.elapsed() - 3 * H2_IDLE_MAX;
        assert!((H2_IDLE_MAX / 2..=2 * H2_IDLE_MAX).contains(&idle), "{idle:?}");
        drop(sender);
    }
}
