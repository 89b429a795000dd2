//! Servers outside of the cluster, as far outside as a test gets: on loopback, good ones and such as no guest should have to
//! fear. What they answer depends on the path that they are asked for; a thread answers each connection.
//!
//! | path | answer |
//! |---|---|
//! | `/` | `200` and 8 bytes |
//! | `/cut` | ten bytes of a hundred |
//! | `/headers`, `/endless-head` | 50 headers; headers for as long as anybody takes them |
//! | `/silent` | nothing |
//! | `/garbage` | what is not HTTP |

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedKey, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::h2::{ACK, END_HEADERS, END_STREAM, HEADERS, PREFACE, RESET, SETTINGS, frame};

/// Longer than any case waits.
const SILENCE: Duration = Duration::from_secs(300);

/// An authority of the test's own.
pub(crate) struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let key = KeyPair::generate().unwrap();
        Self { certificate: params.self_signed(&key).unwrap(), issuer: Issuer::new(params, key) }
    }

    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A certificate of a host that was good until that year ended.
    fn certify(&self, host: &str, until: i32) -> Certificate {
        let mut params = CertificateParams::new([host.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(until, 12, 31);
        let signing_key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&signing_key, &self.issuer).unwrap();
        Certificate(CertifiedKey { cert, signing_key })
    }
}

/// A certificate and its key.
pub(crate) struct Certificate(CertifiedKey<KeyPair>);

impl Certificate {
    /// One that signs itself.
    pub(crate) fn of(host: &str) -> Self {
        Self(rcgen::generate_simple_self_signed([host.to_owned()]).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.cert.pem()
    }

    pub(crate) fn der(&self) -> rustls::pki_types::CertificateDer<'static> {
        self.0.cert.der().clone()
    }

    /// The paths of its two files.
    pub(crate) fn write(&self, folder: &Path) -> [String; 2] {
        let files = [("gateway.crt", self.pem()), ("gateway.key", self.0.signing_key.serialize_pem())];
        files.map(|(name, text)| {
            std::fs::write(folder.join(name), text).unwrap();
            folder.join(name).to_str().unwrap().to_owned()
        })
    }

    fn server(&self, protocols: &[&str]) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::try_from(self.0.signing_key.serialize_der()).unwrap();
        let mut config = config.with_no_client_auth().with_single_cert(vec![self.der()], key).unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// The servers, each with a port of its own on 127.0.0.1; the plain one on 127.0.0.2 as well.
pub(crate) struct Outside {
    /// What the cluster's guests trust.
    pub(crate) trusted: Authority,
    pub(crate) plain: u16,
    pub(crate) tls: u16,
    /// Speaks HTTP/2 only: a good answer, or a stream that it resets.
    pub(crate) h2: u16,
    /// Its certificate is nobody's.
    pub(crate) untrusted: u16,
    /// Its certificate is of another host.
    pub(crate) misnamed: u16,
    /// Its certificate was good once.
    pub(crate) expired: u16,
    /// Takes a connection, and says nothing.
    pub(crate) mute: u16,
}

impl Outside {
    pub(crate) fn start() -> Self {
        let trusted = Authority::new();
        let good = trusted.certify("localhost", 4000);
        let (h1, h2) = (good.server(&["http/1.1"]), good.server(&["h2"]));
        let untrusted = Authority::new().certify("localhost", 4000).server(&[]);
        let misnamed = trusted.certify("elsewhere.example", 4000).server(&[]);
        let expired = trusted.certify("localhost", 2001).server(&[]);
        Self {
            plain: serve_twice(answer_h1),
            tls: serve(move |stream| answer_h1(over(&h1, stream))),
            h2: serve(move |stream| answer_h2(over(&h2, stream))),
            untrusted: serve(move |stream| answer_h1(over(&untrusted, stream))),
            misnamed: serve(move |stream| answer_h1(over(&misnamed, stream))),
            expired: serve(move |stream| answer_h1(over(&expired, stream))),
            mute: serve(|stream| {
                thread::sleep(SILENCE);
                drop(stream);
                Ok(())
            }),
            trusted,
        }
    }
}

/// Serves until the test ends; what goes wrong is the client's to notice.
fn serve(answer: impl Fn(TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let port = listener.local_addr().unwrap().port();
    serve_from(listener, answer);
    port
}

/// The same port of two addresses.
fn serve_twice(answer: fn(TcpStream) -> std::io::Result<()>) -> u16 {
    loop {
        let first = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let port = first.local_addr().unwrap().port();
        // Somebody else may have it there.
        if let Ok(second) = TcpListener::bind(SocketAddr::from(([127, 0, 0, 2], port))) {
            serve_from(first, answer);
            serve_from(second, answer);
            return port;
        }
    }
}

fn serve_from(listener: TcpListener, answer: impl Fn(TcpStream) -> std::io::Result<()> + Send + Sync + 'static) {
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || drop(answer(stream)));
        }
    });
}

fn over(config: &Arc<ServerConfig>, stream: TcpStream) -> StreamOwned<ServerConnection, TcpStream> {
    StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream)
}

/// One request for each connection.
fn answer_h1(mut stream: impl Read + Write) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let headers = |count: usize| (0..count).map(|i| format!("x-{i}: y\r\n")).collect::<String>();
    match head.split(' ').nth(1).unwrap_or_default() {
        "/cut" => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nten bytes.")?,
        "/headers" => {
            let head = format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", headers(50));
            stream.write_all(head.as_bytes())?;
        }
        "/endless-head" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
            loop {
                stream.write_all(headers(100).as_bytes())?;
            }
        }
        "/silent" => thread::sleep(SILENCE),
        "/garbage" => stream.write_all(b"\x00\x01\x02 what is this?\r\n\r\n")?,
        _ => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\nconnection: close\r\n\r\noutside\n")?,
    }
    stream.flush()
}

/// Answers a request for `/` with `:status 200` and nothing more, and resets the stream of any other.
fn answer_h2(mut stream: impl Read + Write) -> std::io::Result<()> {
    let mut preface = [0; PREFACE.len()];
    stream.read_exact(&mut preface)?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[]))?;
    stream.flush()?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let bytes = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let mut payload = vec![0; bytes];
        stream.read_exact(&mut payload)?;
        match head[3] {
            SETTINGS if head[4] & ACK == 0 => stream.write_all(&frame(SETTINGS, ACK, 0, &[]))?,
            // `/` is a byte of the static table; any other path is spelled out.
            HEADERS if payload.contains(&0x84) => {
                stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, id, &[0x88]))?;
            }
            HEADERS => stream.write_all(&frame(RESET, 0, id, &2u32.to_be_bytes()))?,
            _ => {}
        }
        stream.flush()?;
    }
}
