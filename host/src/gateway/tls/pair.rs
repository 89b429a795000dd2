//! A certificate and its key, read from their files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error as TlsError, InconsistentKeys};

/// A certificate with its chain takes a few KiB; this bounds what a wrong path costs.
const PAIR_BYTES_MAX: u64 = 1 << 20;

/// Where a certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairFiles {
    /// PEM: the host's certificate first, then those that sign it.
    pub cert: PathBuf,
    /// PEM: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: PathBuf,
}

/// Why a pair cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    #[error("failed to read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is larger than {PAIR_BYTES_MAX} bytes (hint: it is no certificate or key)", path.display())]
    TooLarge { path: PathBuf },
    #[error("{} holds no certificate (hint: it must be PEM, with a line -----BEGIN CERTIFICATE-----)", path.display())]
    NoCertificate { path: PathBuf },
    #[error(
        "{} holds no private key (hint: it must be PEM, as PKCS#8, PKCS#1 or SEC1; an encrypted key must be decrypted \
         first)",
        path.display()
    )]
    NoKey { path: PathBuf },
    #[error("{} is not valid PEM: {why}", path.display())]
    BadPem { path: PathBuf, why: String },
    #[error("the certificate in {} cannot be used: {why}", path.display())]
    BadCertificate { path: PathBuf, why: String },
    #[error("the key in {} cannot be used: {why} (hint: RSA from 2048 bits, ECDSA P-256 or P-384, or Ed25519)", path.display())]
    BadKey { path: PathBuf, why: String },
    #[error(
        "the key in {} is not that of the certificate in {} (hint: the host's own certificate comes first in its file)",
        key.display(),
        cert.display()
    )]
    Mismatch { cert: PathBuf, key: PathBuf },
    #[error("the certificate in {} names no host, so no client would get it (hint: only the first pair may be without names)", path.display())]
    NoName { path: PathBuf },
}

/// What tells a file from the one that was there before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp([Option<(SystemTime, u64, u64)>; 2]);

impl PairFiles {
    pub(super) fn read(&self, provider: &CryptoProvider) -> Result<CertifiedKey, PairError> {
        let Self { cert, key } = self;
        let certs = read(cert)?;
        let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certs).collect();
        let certs = certs.map_err(|error| bad_pem(cert, &error))?;
        if certs.is_empty() {
            return Err(PairError::NoCertificate { path: cert.clone() });
        }
        let private = match PrivateKeyDer::from_pem_slice(&read(key)?) {
            Ok(private) => private,
            Err(pem::Error::NoItemsFound) => return Err(PairError::NoKey { path: key.clone() }),
            Err(error) => return Err(bad_pem(key, &error)),
        };
        let private = provider
            .key_provider
            .load_private_key(private)
            .map_err(|error| PairError::BadKey { path: key.clone(), why: error.to_string() })?;
        let pair = CertifiedKey::new(certs, private);
        match pair.keys_match() {
            // Some keys do not tell: then the first handshake does.
            Ok(()) | Err(TlsError::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(pair),
            Err(TlsError::InconsistentKeys(_)) => Err(PairError::Mismatch { cert: cert.clone(), key: key.clone() }),
            Err(error) => Err(PairError::BadCertificate { path: cert.clone(), why: error.to_string() }),
        }
    }

    pub(super) fn stamp(&self) -> Stamp {
        use std::os::unix::fs::MetadataExt;
        // A link that is pointed elsewhere, as renewals do it, is another file.
        let stamp = |path| {
            let file = fs::metadata(path).ok()?;
            Some((file.modified().ok()?, file.len(), file.ino()))
        };
        Stamp([stamp(&self.cert), stamp(&self.key)])
    }
}

fn read(path: &Path) -> Result<Vec<u8>, PairError> {
    let failed = |source| PairError::Read { path: path.to_owned(), source };
    if fs::metadata(path).map_err(failed)?.len() > PAIR_BYTES_MAX {
        return Err(PairError::TooLarge { path: path.to_owned() });
    }
    fs::read(path).map_err(failed)
}

fn bad_pem(path: &Path, error: &pem::Error) -> PairError {
    let why = match error {
        pem::Error::MissingSectionEnd { .. } => "a section does not end (hint: the file is cut short)".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a line that begins a section is malformed".to_owned(),
        pem::Error::Base64Decode(_) => "a section is not base64".to_owned(),
        error => error.to_string(),
    };
    PairError::BadPem { path: path.to_owned(), why }
}
