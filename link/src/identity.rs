//! Who a machine is: its key, and the certificate that says so.
//!
//! A key is made where it is used and never leaves that machine. All of an identity is one text, so that a disk has the old
//! one or the new one, never half of each.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use rustls::CommonState;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use skiff_api::Uid;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use crate::{Error, names, pem};

/// How long before its end a certificate is renewed: a third of a node's.
const RENEW_BEFORE: SignedDuration = SignedDuration::from_hours(33 * 24);
/// Nodes that joined together do not renew together.
const SPREAD: SignedDuration = SignedDuration::from_hours(10 * 24);

/// A private key, P-256. `Debug` prints nothing of it.
pub struct Key(KeyPair);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    pub fn generate() -> Result<Self, Error> {
        KeyPair::generate().map(Self).map_err(Error::Key)
    }

    /// Reads the key among what else a text has.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        Self::of(&pem::key(text)?)
    }

    fn of(der: &PrivateKeyDer<'_>) -> Result<Self, Error> {
        KeyPair::try_from(der).map(Self).map_err(|error| Error::read("the key", error))
    }

    pub fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// A request for a certificate, PEM. It proves that whoever asks has the key, and asks for nothing by name.
    pub fn csr(&self) -> Result<String, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.serialize_request(&self.0).and_then(|request| request.pem()).map_err(Error::Issue)
    }

    pub(crate) fn pair(&self) -> &KeyPair {
        &self.0
    }

    pub(crate) fn into_pair(self) -> KeyPair {
        self.0
    }
}

/// A key with its certificate, and the authority that issued it. Cheap to clone; `Debug` prints no key.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    key: PrivatePkcs8KeyDer<'static>,
    chain: Vec<CertificateDer<'static>>,
    ca: CertificateDer<'static>,
    uid: Option<Uid>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Inner { uid, not_after, .. } = &*self.0;
        f.debug_struct("Identity").field("uid", uid).field("not_after", not_after).finish_non_exhaustive()
    }
}

impl Identity {
    /// Puts together what a control plane answered with the key that was asked for. Errors: the certificate is of another
    /// key, or another authority issued it.
    pub fn new(key: &Key, chain_pem: &str, ca_pem: &str) -> Result<Self, Error> {
        let chain = pem::certificates(chain_pem, "the certificate")?;
        let ca = pem::certificate(ca_pem, "the authority's certificate")?;
        let key = key.pair();
        let Some(leaf) = chain.first() else { return Err(Error::read("the certificate", "it is missing")) };
        let parsed = pem::parse(leaf, "the certificate")?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.der_bytes() {
            return Err(Error::OtherKey);
        }
        let issuer = pem::parse(&ca, "the authority's certificate")?;
        if parsed.verify_signature(Some(issuer.public_key())).is_err() {
            return Err(Error::OtherAuthority);
        }
        let (uid, not_before, not_after) = (uid_of(&parsed), pem::not_before(&parsed), pem::not_after(&parsed));
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Ok(Self(Arc::new(Inner { key, uid, not_before, not_after, chain, ca })))
    }

    /// Reads what [`Self::to_pem`] wrote.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let mut certificates = pem::certificates(text, "the identity")?;
        let ca = certificates.pop().map(|ca| pem::of_certificate(&ca)).unwrap_or_default();
        let chain: String = certificates.iter().map(pem::of_certificate).collect();
        Self::new(&Key::from_pem(text)?, &chain, &ca)
    }

    /// The key, the chain and the authority's certificate, in this order. Secret.
    pub fn to_pem(&self) -> Result<String, Error> {
        let chain: String = self.0.chain.iter().map(pem::of_certificate).collect();
        Ok(self.key()?.to_pem() + &chain + &self.ca_pem())
    }

    /// A node's id; nothing where it is the control plane's.
    pub fn uid(&self) -> Option<&Uid> {
        self.0.uid.as_ref()
    }

    pub fn not_before(&self) -> Timestamp {
        self.0.not_before
    }

    pub fn not_after(&self) -> Timestamp {
        self.0.not_after
    }

    /// From when on it should be renewed.
    pub fn renew_at(&self) -> Timestamp {
        let mut hasher = DefaultHasher::new();
        self.0.uid.hash(&mut hasher);
        let spread = hasher.finish() % u64::try_from(SPREAD.as_secs()).unwrap_or(1).max(1);
        let spread = SignedDuration::from_secs(i64::try_from(spread).unwrap_or(0));
        self.0.not_after - RENEW_BEFORE - spread
    }

    pub fn ca_pem(&self) -> String {
        pem::of_certificate(&self.0.ca)
    }

    /// The SHA-256 of the authority's certificate, in hexadecimal.
    pub fn ca_hash(&self) -> String {
        pem::hash(&self.0.ca)
    }

    /// The key, to ask for the next certificate with.
    pub fn key(&self) -> Result<Key, Error> {
        Key::of(&self.private_key())
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.0.key.clone_key())
    }

    pub(crate) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0.chain
    }
}

/// Who a node's certificate says that it is, at the other end of a connection. The certificate was verified when the
/// connection was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub uid: Uid,
    pub not_after: Timestamp,
}

impl Peer {
    /// Nothing where no certificate was shown, or one that is no node's.
    pub fn of(connection: &CommonState) -> Option<Self> {
        let leaf = connection.peer_certificates()?.first()?;
        let certificate = pem::parse(leaf, "a certificate").ok()?;
        Some(Self { uid: uid_of(&certificate)?, not_after: pem::not_after(&certificate) })
    }

    pub fn is_expired(&self, now: Timestamp) -> bool {
        now > self.not_after
    }
}

/// A node's certificate has one name.
fn uid_of(certificate: &X509Certificate<'_>) -> Option<Uid> {
    let names = certificate.subject_alternative_name().ok()??;
    match names.value.general_names.as_slice() {
        [GeneralName::DNSName(name)] => names::node_uid(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Authority;

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn node(authority: &Authority, uid: &str) -> Identity {
        let key = Key::generate().unwrap();
        let chain = authority.issue_node(&key.csr().unwrap(), &Uid::new(uid), now()).unwrap();
        Identity::new(&key, &chain, &authority.ca_pem()).unwrap()
    }

    #[test]
    fn an_identity_is_one_text() {
        let authority = Authority::generate(now()).unwrap();
        let server = authority.issue_server(&Key::generate().unwrap(), &[], now()).unwrap();
        for identity in [node(&authority, "n1"), server] {
            let text = identity.to_pem().unwrap();
            let again = Identity::from_pem(&text).unwrap();
            assert_eq!(again.to_pem().unwrap(), text);
            assert_eq!((again.uid(), again.not_after()), (identity.uid(), identity.not_after()));
            assert_eq!((again.ca_hash(), again.ca_pem()), (authority.ca_hash(), authority.ca_pem()));
            assert!(!format!("{again:?} {:?}", again.key().unwrap()).contains("PRIVATE"));
            // The control plane's ends with the same certificate twice: without the last it is whole as well.
            let whole = if again.uid().is_some() { text.trim_end().len() } else { text.len() / 2 };
            for cut in (0..whole).step_by(37) {
                assert!(Identity::from_pem(&text[..cut]).is_err(), "{cut}");
            }
        }
    }

    #[test]
    fn a_certificate_of_another_key_or_authority_is_refused() {
        let [one, two] = [(); 2].map(|()| Authority::generate(now()).unwrap());
        let (key, other) = (Key::generate().unwrap(), Key::generate().unwrap());
        let chain = one.issue_node(&key.csr().unwrap(), &Uid::new("n1"), now()).unwrap();
        assert!(matches!(Identity::new(&other, &chain, &one.ca_pem()), Err(Error::OtherKey)));
        assert!(matches!(Identity::new(&key, &chain, &two.ca_pem()), Err(Error::OtherAuthority)));
        assert!(Identity::new(&key, "", &one.ca_pem()).is_err());
        assert!(Identity::new(&key, &chain, "").is_err());
        Identity::new(&key, &chain, &one.ca_pem()).unwrap();
    }

    #[test]
    fn renewals_are_early_and_spread() {
        let authority = Authority::generate(now()).unwrap();
        let times: Vec<_> = (0..20).map(|n| node(&authority, &format!("n{n}")).renew_at()).collect();
        let (first, last) = (times.iter().min().unwrap(), times.iter().max().unwrap());
        let day = SignedDuration::from_hours(24);
        assert!(*first >= now() + day * 57 && *last <= now() + day * 67, "{first} {last}");
        assert!(last.duration_since(*first) > day * 3, "{first} {last}");
        assert_eq!(node(&authority, "n1").renew_at(), node(&authority, "n1").renew_at());
    }
}
