//! Clients of the gateway's door for TLS.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use skiff_tests::http::{connect, read_response};

use crate::case::{Attack, Case, Lane, case};
use crate::client::tally;
use crate::world::World;

const HANDSHAKES: &str = "skiff_gateway_handshakes_total";
/// The gateway gives a handshake 10 s; a loaded machine gets some more.
const HANDSHAKE_MAX: Duration = Duration::from_secs(60);
/// The beginning of a client's hello.
const HELLO: &[u8] = b"\x16\x03\x01\x02\0\x01\0";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("handshakes that stall", stalled(100), "100 x closed, innocent 200")
            .counts(HANDSHAKES, "outcome=\"too-slow\"", 100)
            .twin(honest(), "200")
            .lane(Lane::Waiting),
        case("a handshake that is none", raw(b"GET / HTTP/1.1\r\nhost: secure.example\r\n\r\n"), "closed")
            .counts(HANDSHAKES, "outcome=\"failed\"", 1)
            .twin(honest(), "200")
            .lane(Lane::Waiting),
        case("a client that is gone amid its handshake", gone(40), "40 x gone, innocent 200")
            .counts(HANDSHAKES, "outcome=\"failed\"", 40)
            .twin(honest(), "200"),
        case("a handshake of ten thousand records", records(10_000), "closed")
            .counts(HANDSHAKES, "outcome=\"failed\"", 1)
            .twin(honest(), "200"),
    ]
}

fn open(world: &World) -> TcpStream {
    connect(world.cluster.gateway_tls_addr()).unwrap()
}

/// The status of an answer to a client that shakes hands as it should.
fn ask(world: &World) -> String {
    let mut roots = RootCertStore::empty();
    roots.add(world.certificate.der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("secure.example").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, open(world));
    let head = format!("GET / HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", World::host("innocent"));
    stream.write_all(head.as_bytes()).unwrap();
    read_response(&mut std::io::BufReader::new(stream)).unwrap().status.to_string()
}

fn honest() -> Attack {
    Box::new(ask)
}

/// What becomes of a connection.
fn end(mut stream: TcpStream) -> String {
    stream.set_read_timeout(Some(HANDSHAKE_MAX)).unwrap();
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
            "open".to_owned()
        }
        // An alert at most.
        _ if said.starts_with(b"HTTP") => "answered".to_owned(),
        _ => "closed".to_owned(),
    }
}

/// Half of them begin.
fn stalled(count: usize) -> Attack {
    Box::new(move |world| {
        let streams: Vec<_> = (0..count)
            .map(|number| {
                let mut stream = open(world);
                if number % 2 == 0 {
                    stream.write_all(HELLO).unwrap();
                }
                stream
            })
            .collect();
        let innocent = ask(world);
        format!("{}, innocent {innocent}", tally(streams.into_iter().map(end)))
    })
}

fn raw(bytes: &'static [u8]) -> Attack {
    Box::new(move |world| {
        let mut stream = open(world);
        stream.write_all(bytes).unwrap();
        end(stream)
    })
}

fn gone(count: usize) -> Attack {
    Box::new(move |world| {
        let ended = (0..count).map(|_| {
            open(world).write_all(HELLO).unwrap();
            "gone".to_owned()
        });
        let ended = tally(ended);
        format!("{ended}, innocent {}", ask(world))
    })
}

/// A message of the handshake in pieces of one byte each, which never ends.
fn records(count: usize) -> Attack {
    Box::new(move |world| {
        let mut stream = open(world);
        // A hello of 16 MB, which is the most that its length can say.
        drop(stream.write_all(b"\x16\x03\x01\0\x04\x01\xff\xff\xff"));
        for _ in 0..count {
            if stream.write_all(b"\x16\x03\x01\0\x01x").is_err() {
                break;
            }
        }
        end(stream)
    })
}
