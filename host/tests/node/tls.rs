//! The gateway's door for TLS.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use skiff_host::gateway::{PairFiles, TlsOptions};
use skiff_host::{Node, NodeHandle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::*;

/// A certificate that signs itself, in two files.
fn pair(dir: &Path, name: &str, hosts: &[&str]) -> PairFiles {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(hosts).unwrap();
    let files = PairFiles { cert: dir.join(format!("{name}.crt")), key: dir.join(format!("{name}.key")) };
    std::fs::write(&files.cert, made.cert.pem()).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    files
}

fn certificate(path: &PathBuf) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The probe behind TLS.
struct Secure {
    world: World,
    node: NodeHandle,
    _control: Control,
    addr: SocketAddr,
    pairs: Vec<PairFiles>,
}

impl Secure {
    async fn new(redirect_port: Option<u16>) -> Self {
        let world = World::new().await;
        let dir = world.dir.path();
        let pairs =
            vec![pair(dir, "first", &["first.example"]), pair(dir, "shop", &["shop.example", "*.shop.example"])];
        let mut options = world.options();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        options.gateway.tls = Some(TlsOptions { listener, pairs: pairs.clone(), redirect_port });
        let node = Node::start(options).await.unwrap();
        let mut control = Control::of(&node).await;
        control.route([routes("app", &[(None, "/")])]).await;
        control.desire([assignment("app", "app-1-a", world.template("probe"))]).await;
        control.until_ready("app-1-a").await;
        let addr = node.gateway_tls_addr().unwrap();
        Self { world, node, _control: control, addr, pairs }
    }

    /// Trusts what the files say now.
    async fn connect(&self, host: &str, alpn: &str) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        for files in &self.pairs {
            roots.add(certificate(&files.cert)).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        let stream = TcpStream::connect(self.addr).await?;
        let name = ServerName::try_from(host.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    async fn get(&self, host: &str, alpn: &str, path: &str) -> (u16, String) {
        let stream = self.connect(host, alpn).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(alpn.as_bytes()));
        let request = Request::get(format!("https://{host}{path}")).header("host", host);
        let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
        if alpn == "h2" {
            let (mut sender, connection) =
                http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            text(sender.send_request(request).await.unwrap()).await
        } else {
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            let (mut parts, body) = request.into_parts();
            parts.uri = path.parse().unwrap();
            text(sender.send_request(Request::from_parts(parts, body)).await.unwrap()).await
        }
    }
}

async fn text(response: Response<Incoming>) -> (u16, String) {
    let status = response.status().as_u16();
    (status, String::from_utf8_lossy(&response.into_body().collect().await.unwrap().to_bytes()).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_host_has_its_certificate_over_both_protocols() {
    let secure = Secure::new(None).await;
    for alpn in ["h2", "http/1.1"] {
        let (status, body) = secure.get("shop.example", alpn, "/headers").await;
        assert_eq!(status, 200, "{body}");
        assert!(body.lines().any(|line| line == "x-forwarded-proto: https"), "{alpn}: {body}");
        let (_, target) = secure.get("shop.example", alpn, "/target").await;
        assert_eq!(target, "https shop.example /target\n", "{alpn}");
    }
    for (host, by) in [("first.example", 0), ("shop.example", 1), ("a.shop.example", 1)] {
        let stream = secure.connect(host, "http/1.1").await.unwrap();
        let seen = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        assert_eq!(seen, certificate(&secure.pairs[by].cert), "{host}");
    }
    // A wildcard stands for one label; who is nobody's gets the first one, and sees that it is not the one.
    for host in ["a.b.shop.example", "nobody.example"] {
        let refused = secure.connect(host, "http/1.1").await.unwrap_err();
        assert!(refused.to_string().contains("certificate"), "{refused}");
    }
    until_metric(&secure.node, "skiff_gateway_handshakes_total{outcome=\"failed\"}", |value| value == 2).await;
    // The plain door still serves.
    assert_eq!(Web::h1(secure.node.gateway_addr()).get("/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_files_are_served_and_no_connection_is_lost() {
    let secure = Secure::new(None).await;
    let stream = secure.connect("shop.example", "http/1.1").await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let old = certificate(&secure.pairs[1].cert);

    // Halfway through: the key is still the old one.
    let dir = secure.world.dir.path();
    let renewed = pair(dir, "renewed", &["shop.example"]);
    std::fs::rename(&renewed.cert, &secure.pairs[1].cert).unwrap();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let refused = secure.connect("shop.example", "http/1.1").await.unwrap_err();
    assert!(refused.to_string().contains("certificate"), "a half renewed pair is served: {refused}");
    std::fs::rename(&renewed.key, &secure.pairs[1].key).unwrap();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    // The first client after it gets the new one already.
    let stream = secure.connect("shop.example", "http/1.1").await.unwrap();
    let seen = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    assert!(seen != old && seen == certificate(&secure.pairs[1].cert));

    let request = Request::get("/").header("host", "shop.example").body(Empty::<bytes::Bytes>::new()).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200, "the old connection is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stalls_a_handshake_holds_nobody_up() {
    let secure = Secure::new(None).await;
    let mut stalled = Vec::new();
    for number in 0..200 {
        let mut stream = TcpStream::connect(secure.addr).await.unwrap();
        if number % 2 == 0 {
            // The beginning of a client's hello.
            stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0]).await.unwrap();
        }
        stalled.push(stream);
    }
    assert_eq!(secure.get("shop.example", "h2", "/").await.0, 200);
    // What is no TLS at all ends at once.
    let mut plain = TcpStream::connect(secure.addr).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(5), plain.read_to_end(&mut rest)).await.expect("it stays open");
    assert!(!rest.starts_with(b"HTTP"));
    let late = "skiff_gateway_handshakes_total{outcome=\"too-slow\"}";
    until_metric(&secure.node, late, |value| value == 200).await;
    until_metric(&secure.node, "skiff_gateway_connections", |value| value == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_clients_are_sent_to_tls_if_it_is_asked_for() {
    let secure = Secure::new(Some(443)).await;
    let sent = Web::h1(secure.node.gateway_addr()).get_from("shop.example:8080", "/cart?id=1").await;
    assert_eq!(sent.status, 308);
    assert_eq!(sent.headers["location"], "https://shop.example/cart?id=1");
    assert_eq!(secure.get("shop.example", "http/1.1", "/").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_served_are_refused_at_the_start() {
    let world = World::new().await;
    let dir = world.dir.path();
    let (good, other) = (pair(dir, "good", &["a.example"]), pair(dir, "other", &["b.example"]));
    let nameless = pair(dir, "nameless", &[]);
    let file = |name: &str, text: &str| {
        std::fs::write(dir.join(name), text).unwrap();
        dir.join(name)
    };
    let cut = std::fs::read_to_string(&good.cert).unwrap();
    let cases = [
        (PairFiles { cert: dir.join("none.crt"), ..good.clone() }, "failed to read", "none.crt"),
        (PairFiles { cert: good.key.clone(), ..good.clone() }, "no certificate", "good.key"),
        (PairFiles { key: good.cert.clone(), ..good.clone() }, "no private key", "good.crt"),
        (PairFiles { key: other.key.clone(), ..good.clone() }, "is not that of", "other.key"),
        (PairFiles { cert: file("cut.crt", &cut[..cut.len() - 30]), ..good.clone() }, "not valid PEM", "cut.crt"),
        (PairFiles { cert: file("empty.crt", ""), ..good.clone() }, "no certificate", "empty.crt"),
        (nameless, "names no host", "nameless.crt"),
    ];
    for (pair, why, name) in cases {
        let mut options = world.options();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        options.gateway.tls = Some(TlsOptions { listener, pairs: vec![good.clone(), pair], redirect_port: None });
        let error = Node::start(options).await.unwrap_err();
        let mut said = String::new();
        let mut next: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = next {
            said.push_str(&format!("{error}: "));
            next = error.source();
        }
        assert!(said.contains(why) && said.contains(name), "{said}");
    }
}
