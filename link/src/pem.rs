//! Certificates and keys as text.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::Error;

/// A chain has two; nobody needs more than a few.
const CERTIFICATES_MAX: usize = 8;

/// All certificates of a text, of which there must be one at least.
pub(crate) fn certificates(text: &str, what: &'static str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).take(CERTIFICATES_MAX + 1).collect();
    let found = found.map_err(|error| Error::read(what, error))?;
    match found.len() {
        0 => Err(Error::read(what, "there is no certificate in it")),
        1..=CERTIFICATES_MAX => Ok(found),
        _ => Err(Error::read(what, "there are too many certificates in it")),
    }
}

/// The one certificate of a text.
pub(crate) fn certificate(text: &str, what: &'static str) -> Result<CertificateDer<'static>, Error> {
    match <[_; 1]>::try_from(certificates(text, what)?) {
        Ok([certificate]) => Ok(certificate),
        Err(_) => Err(Error::read(what, "there is more than one certificate in it")),
    }
}

/// The key of a text, PKCS#8.
pub(crate) fn key(text: &str) -> Result<PrivateKeyDer<'static>, Error> {
    PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes())
        .map(PrivateKeyDer::Pkcs8)
        .map_err(|error| Error::read("the key", error))
}

/// A certificate as text.
pub(crate) fn of_certificate(der: &CertificateDer<'_>) -> String {
    armour("CERTIFICATE", der)
}

fn armour(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    let encoded = STANDARD.encode(der);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text + &format!("-----END {label}-----\n")
}

pub(crate) fn parse<'a>(der: &'a CertificateDer<'_>, what: &'static str) -> Result<X509Certificate<'a>, Error> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(Error::read(what, "there is more behind the certificate")),
        Err(error) => Err(Error::read(what, error)),
    }
}

/// From when a certificate holds.
pub(crate) fn not_before(certificate: &X509Certificate<'_>) -> Timestamp {
    Timestamp::from_second(certificate.validity().not_before.timestamp()).unwrap_or(Timestamp::MIN)
}

/// Until when a certificate holds.
pub(crate) fn not_after(certificate: &X509Certificate<'_>) -> Timestamp {
    Timestamp::from_second(certificate.validity().not_after.timestamp()).unwrap_or(Timestamp::MAX)
}

/// The SHA-256 of a certificate, in hexadecimal.
pub(crate) fn hash(der: &CertificateDer<'_>) -> String {
    hex(&Sha256::digest(der))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for length in 0..200 {
            let der: Vec<u8> = (0..length).map(|byte| (byte * 7) as u8).collect();
            let text = of_certificate(&der.clone().into());
            let read = certificate(&text, "a certificate");
            match length {
                0 => assert!(read.is_err() || read.unwrap().is_empty()),
                _ => assert_eq!(read.unwrap().as_ref(), der),
            }
        }
        assert!(certificate("", "a certificate").is_err());
        let text = of_certificate(&vec![1].into());
        assert!(certificate(&text.repeat(2), "a certificate").is_err());
        assert!(certificates(&text.repeat(CERTIFICATES_MAX + 1), "a chain").is_err());
    }
}
