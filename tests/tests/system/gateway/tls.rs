//! TLS, with a client of rustls' own.

use std::fs;
use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use skiff_tests::http::{Response, read_response};
use skiff_tests::{Cluster, Request};

use super::{PROBE_HOST, run_probe};

/// Two files with a certificate that signs itself, and their paths.
fn certificate(dir: &std::path::Path, name: &str, host: &str) -> [String; 2] {
    let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
    let [cert, key] = ["crt", "key"].map(|end| dir.join(format!("{name}.{end}")));
    fs::write(&cert, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    [cert, key].map(|path| path.to_str().unwrap().to_owned())
}

fn get(addr: SocketAddr, host: &str, cert: &str, path: &str) -> std::io::Result<Response> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&fs::read(cert)?).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(addr)?);
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").as_bytes())?;
    read_response(&mut BufReader::new(stream))
}

#[test]
fn each_host_answers_with_its_own_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let [first_cert, first_key] = certificate(dir.path(), "first", "first.example");
    let [probe_cert, probe_key] = certificate(dir.path(), "probe", PROBE_HOST);
    let cluster = ["--gateway-tls", "127.0.0.1:0", "--gateway-redirect", "8443"]
        .into_iter()
        .chain(["--tls-cert", &first_cert, "--tls-key", &first_key, "--tls-cert", &probe_cert, "--tls-key", &probe_key])
        .fold(Cluster::builder(), |builder, arg| builder.arg(arg))
        .start();
    let tls = cluster.gateway_tls_addr();
    run_probe(&cluster);
    let headers = get(tls, PROBE_HOST, &probe_cert, "/headers").unwrap();
    assert_eq!(headers.status, 200, "{}", headers.text());
    assert!(headers.text().contains("x-forwarded-proto: https\n"), "{}", headers.text());
    assert_eq!(get(tls, "first.example", &first_cert, "/").unwrap().status, 404);
    assert!(get(tls, PROBE_HOST, &first_cert, "/").is_err(), "a certificate that nobody vouches for is taken");

    let sent = Request::new(cluster.gateway_addr(), "GET", "/a?b=c").host(PROBE_HOST).send().unwrap();
    assert_eq!(sent.status, 308);
    assert_eq!(sent.header("location"), Some(format!("https://{PROBE_HOST}:8443/a?b=c").as_str()));
}
