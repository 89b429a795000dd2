//! From the host that a client names to a certificate.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use webpki::EndEntityCert;

use super::pair::{PairError, PairFiles};

/// The certificates that are served, by the names in them.
#[derive(Debug)]
pub(super) struct Chooser {
    by_name: HashMap<String, Arc<CertifiedKey>>,
    /// `example.com` stands for `*.example.com`.
    by_parent: HashMap<String, Arc<CertifiedKey>>,
    first: Arc<CertifiedKey>,
}

impl Chooser {
    /// Reads the pairs, of which there must be one. Of two that have the same name the first one is served for it.
    pub(super) fn read(first: &PairFiles, others: &[PairFiles], provider: &CryptoProvider) -> Result<Self, PairError> {
        let pair = Arc::new(first.read(provider)?);
        let mut chooser = Self { by_name: HashMap::new(), by_parent: HashMap::new(), first: pair.clone() };
        chooser.add(&pair, first)?;
        for files in others {
            let pair = Arc::new(files.read(provider)?);
            if chooser.add(&pair, files)? == 0 {
                return Err(PairError::NoName { path: files.cert.clone() });
            }
        }
        Ok(chooser)
    }

    /// Returns how many names the certificate has.
    fn add(&mut self, pair: &Arc<CertifiedKey>, files: &PairFiles) -> Result<usize, PairError> {
        let bad = |why: String| PairError::BadCertificate { path: files.cert.clone(), why };
        let der = pair.end_entity_cert().map_err(|error| bad(error.to_string()))?;
        let cert = EndEntityCert::try_from(der).map_err(|error| bad(error.to_string()))?;
        let mut count = 0;
        for name in cert.valid_dns_names() {
            let name = name.to_ascii_lowercase();
            let (names, name) = match name.strip_prefix("*.") {
                Some(parent) => (&mut self.by_parent, parent.to_owned()),
                None => (&mut self.by_name, name),
            };
            names.entry(name).or_insert_with(|| pair.clone());
            count += 1;
        }
        Ok(count)
    }

    /// `name` is in lower case, as rustls hands it over.
    pub(super) fn choose(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let found = name.and_then(|name| {
            // A wildcard stands for one label.
            let parent = || self.by_parent.get(name.split_once('.')?.1);
            self.by_name.get(name).or_else(parent)
        });
        found.unwrap_or(&self.first).clone()
    }
}
