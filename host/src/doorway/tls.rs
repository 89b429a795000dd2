//! Which server a TLS handshake is for. It is read and passed on as it came: nobody but the server answers it.

use std::time::Duration;

use rustls::server::Acceptor;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A client's first message: two kilobytes with keys of the newest kind.
const HELLO_BYTES_MAX: usize = 16 << 10;
/// It comes at once.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// The first byte of a TLS connection.
pub(super) const FIRST_BYTE: u8 = 0x16;

/// What is known of a handshake.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// More of it is to come.
    Part,
    Name(String),
    /// It names nobody, or it is none.
    Nobody,
}

/// The name of the server, and what was read until it was known.
pub(super) async fn hello(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    timeout(HELLO_WITHIN, read(stream)).await.ok().flatten()
}

async fn read(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let (mut acceptor, mut bytes) = (Acceptor::default(), Vec::new());
    while bytes.len() < HELLO_BYTES_MAX {
        let start = bytes.len();
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        match hear(&mut acceptor, &bytes[start..]) {
            Heard::Part => {}
            Heard::Name(name) => return Some((name, bytes)),
            Heard::Nobody => return None,
        }
    }
    None
}

/// Takes in the next part of it.
fn hear(acceptor: &mut Acceptor, mut part: &[u8]) -> Heard {
    while !part.is_empty() {
        if !matches!(acceptor.read_tls(&mut part), Ok(1..)) {
            return Heard::Nobody;
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                return accepted
                    .client_hello()
                    .server_name()
                    .map_or(Heard::Nobody, |name| Heard::Name(name.to_owned()));
            }
            Err(_) => return Heard::Nobody,
        }
    }
    Heard::Part
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    /// What a client says first to a server of that name.
    fn first(name: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    fn heard(bytes: &[u8], at_once: usize) -> Heard {
        let mut acceptor = Acceptor::default();
        let parts = bytes.chunks(at_once).map(|part| hear(&mut acceptor, part));
        parts.into_iter().find(|heard| *heard != Heard::Part).unwrap_or(Heard::Part)
    }

    #[test]
    fn the_name_is_heard_however_it_comes() {
        let bytes = first("api.example");
        assert_eq!(bytes[0], FIRST_BYTE);
        for at_once in [1, 7, bytes.len()] {
            assert_eq!(heard(&bytes, at_once), Heard::Name("api.example".to_owned()), "{at_once}");
        }
        assert_eq!(heard(&bytes[..bytes.len() - 1], 7), Heard::Part);
        assert_eq!(heard(&first("192.0.2.1"), 100), Heard::Nobody, "an address is no name");
        assert_eq!(heard(b"GET / HTTP/1.1\r\n\r\n", 100), Heard::Nobody);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 1..300), at in 0..200usize, at_once in 1..40usize) {
            heard(&bytes, at_once);
            let mut hello = first("api.example");
            for (n, byte) in bytes.iter().take(5).enumerate() {
                let length = hello.len();
                hello[(at + n * 17) % length] = *byte;
            }
            heard(&hello, at_once);
        }
    }
}
