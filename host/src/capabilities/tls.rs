//! TLS to servers outside: verified against the machine's certificate authorities, h2 or HTTP/1.1 by ALPN.

use std::io;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use skiff_api::grant::{Host, Origin};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use wasmtime_wasi_http::Error as HttpError;

/// The configuration for all connections, made when the first one needs it.
#[derive(Debug, Default)]
pub(super) struct Tls(OnceLock<Arc<ClientConfig>>);

/// Why there is no TLS: what the guest gets, and what its people read.
#[derive(Debug)]
pub(super) struct TlsFailure {
    pub(super) error: HttpError,
    pub(super) why: String,
}

impl Tls {
    /// Also says whether h2 was agreed on.
    pub(super) async fn connect(
        &self,
        origin: &Origin,
        stream: TcpStream,
    ) -> Result<(TlsStream<TcpStream>, bool), TlsFailure> {
        let name = match &origin.host {
            Host::Ip(ip) => ServerName::from(*ip),
            Host::Name(name) => ServerName::try_from(name.clone())
                .map_err(|e| TlsFailure { error: HttpError::HttpRequestUriInvalid, why: e.to_string() })?,
        };
        let connector = TlsConnector::from(self.config().await?);
        let stream = connector.connect(name, stream).await.map_err(|error| failure(&error))?;
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok((stream, is_h2))
    }

    async fn config(&self) -> Result<Arc<ClientConfig>, TlsFailure> {
        if let Some(config) = self.0.get() {
            return Ok(config.clone());
        }
        // Reads files. A failure is not kept: certificates may be installed while the node runs.
        let made = spawn_blocking(machines_config).await;
        let made = made.unwrap_or_else(|e| Err(e.to_string()));
        let config = made.map_err(|why| TlsFailure { error: HttpError::TlsProtocolError, why })?;
        Ok(self.0.get_or_init(|| config).clone())
    }
}

fn machines_config() -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why =
            "this node has no certificate authorities (hint: install ca-certificates there, or set SSL_CERT_FILE)";
        return Err(why.to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn failure(error: &io::Error) -> TlsFailure {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    let error_code = match cause {
        Some(rustls::Error::InvalidCertificate(_)) => HttpError::TlsCertificateError,
        Some(rustls::Error::AlertReceived(alert)) => {
            HttpError::TlsAlertReceived { alert_id: Some(u8::from(*alert)), alert_message: Some(format!("{alert:?}")) }
        }
        Some(_) => HttpError::TlsProtocolError,
        None => HttpError::ConnectionTerminated,
    };
    TlsFailure { error: error_code, why: error.to_string() }
}
