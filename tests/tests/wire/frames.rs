//! Frames that nobody can read, peers that do not read, and peers that say nothing.

use std::time::{Duration, Instant};

use skiff_api::wire::FromNode;
use skiff_link::{Identity, frame, tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::node::{Node, PATIENCE, dial, hello};
use crate::server::Server;

type Halves = (ReadHalf<TlsStream<TcpStream>>, WriteHalf<TlsStream<TcpStream>>);

/// A connection of that machine, in the test's hands.
async fn raw(server: &Server, identity: &Identity, alpn: &[u8]) -> Halves {
    tokio::io::split(dial(server, Some(identity), alpn).await.unwrap())
}

/// How long it takes until the server ends the connection.
async fn ends(mut read: ReadHalf<TlsStream<TcpStream>>) -> Duration {
    let start = Instant::now();
    let mut bytes = [0; 4096];
    let ended = async { while read.read(&mut bytes).await.is_ok_and(|count| count > 0) {} };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
    start.elapsed()
}

fn encoded(message: &FromNode) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::encode(message, frame::FROM_NODE_BYTES_MAX, &mut bytes).unwrap();
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_nobody_can_read_end_their_link_only() {
    let server = Server::start();
    let (mut bystander, _) = Node::good(&server, "good").await;
    let identity = server.joined("bad").await;
    let greeting = encoded(&FromNode::Hello(hello("bad", identity.uid().unwrap(), "1")));
    let with = |head: [u8; 6], payload: &[u8]| [&head[..], payload].concat();
    let bad: Vec<(&str, Vec<u8>)> = vec![
        ("no frame", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec()),
        ("no JSON", with([0, 0, 0, 5, 1, 0], b"\"xy")),
        ("no message", with([0, 0, 0, 5, 1, 0], b"123")),
        ("deep", with([0, 0, 3, 0xea, 1, 0], &[b'['; 1000])),
        ("another version", with([0, 0, 0, 5, 2, 0], b"\"x\"")),
        ("unknown flags", with([0, 0, 0, 5, 1, 8], b"\"x\"")),
        ("empty", with([0, 0, 0, 2, 1, 0], b"")),
        ("a heartbeat with something in it", with([0, 0, 0, 3, 1, 2], b"x")),
        ("too short", vec![0, 0, 0, 1, 1]),
        ("oversized", with([0, 0x10, 0, 1, 1, 0], b"")),
        ("huge", with([0xff, 0xff, 0xff, 0xff, 1, 0], b"")),
    ];
    for alpn in [tls::ALPN_CONTROL, tls::ALPN_BULK] {
        for (what, bytes) in &bad {
            let (read, mut write) = raw(&server, &identity, alpn).await;
            if alpn == tls::ALPN_CONTROL {
                write.write_all(&greeting).await.unwrap();
            }
            // The server may have ended it before all was written.
            let _ = write.write_all(bytes).await;
            let _ = write.flush().await;
            // At once, not only for the silence that follows.
            let took = ends(read).await;
            assert!(took < Duration::from_millis(900), "{what}: {took:?}");
        }
    }
    // Parts without an end: the server takes as much as a node may say, and no more.
    let (read, mut write) = raw(&server, &identity, tls::ALPN_CONTROL).await;
    let part = with([0, 0x10, 0, 0, 1, 1], &vec![b' '; (1 << 20) - 2]);
    let mut sent = 0;
    while write.write_all(&part).await.is_ok() && write.flush().await.is_ok() {
        sent += part.len();
        assert!(sent <= frame::FROM_NODE_BYTES_MAX + (8 << 20), "{sent}");
    }
    ends(read).await;
    bystander.lives().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_silent_is_missed_in_a_second_and_one_that_reads_nothing_soon() {
    let server = Server::start();
    let (mut bystander, _) = Node::good(&server, "good").await;
    let silent = server.joined("silent").await;
    let (read, mut write) = raw(&server, &silent, tls::ALPN_CONTROL).await;
    write.write_all(&encoded(&FromNode::Hello(hello("silent", silent.uid().unwrap(), "1")))).await.unwrap();
    let start = Instant::now();
    server.until_liveness("silent", "Alive").await;
    let took = ends(read).await;
    server.until_liveness("silent", "Suspect").await;
    assert!(start.elapsed() < Duration::from_secs(2), "{took:?} {:?}", start.elapsed());
    // One that does not even say hello has five seconds, whatever it beats.
    let (read, mut write) = raw(&server, &silent, tls::ALPN_CONTROL).await;
    let beats = tokio::spawn(async move {
        let mut beat = Vec::new();
        frame::heartbeat(&mut beat);
        while write.write_all(&beat).await.is_ok() && write.flush().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let took = ends(read).await;
    assert!((4..8).contains(&took.as_secs()), "{took:?}");
    beats.abort();

    // One that asks for the whole again and again, and takes nothing of it.
    let deaf = server.joined("deaf").await;
    let (_unread, mut write) = raw(&server, &deaf, tls::ALPN_CONTROL).await;
    write.write_all(&encoded(&FromNode::Hello(hello("deaf", deaf.uid().unwrap(), "1")))).await.unwrap();
    let resync = encoded(&FromNode::Resync).repeat(64);
    let start = Instant::now();
    let flood = async { while write.write_all(&resync).await.is_ok() && write.flush().await.is_ok() {} };
    tokio::time::timeout(PATIENCE, flood).await.unwrap();
    server.until_liveness("deaf", "Suspect").await;
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    bystander.lives().await;
}
