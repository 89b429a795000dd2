//! The cluster's own certificate authority, which only the control plane has.
//!
//! Certificates hold from the authority's own beginning on, not from when they were issued: a machine whose clock is behind
//! must not refuse another that joined later. The authority itself never ends: it is pinned, and changed by changing the pin.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
    SerialNumber,
};
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use skiff_api::Uid;

use crate::identity::{Identity, Key};
use crate::{Error, names, pem};

/// A node that is away for a season comes back without help.
pub const NODE_VALIDITY: SignedDuration = SignedDuration::from_hours(100 * 24);
/// The control plane issues its own again at each start, and when a third of it is left.
pub const SERVER_VALIDITY: SignedDuration = SignedDuration::from_hours(365 * 24);
/// RFC 5280's "never".
const NEVER: (i32, u8, u8) = (9999, 12, 31);
/// A request for a certificate has some hundred bytes.
const CSR_BYTES_MAX: usize = 16 << 10;
/// As all ids.
const UID_BYTES: usize = 16;

/// Issues certificates. `Debug` prints no key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    ca: CertificateDer<'static>,
    /// From when it holds.
    since: Timestamp,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("ca_hash", &self.ca_hash()).finish_non_exhaustive()
    }
}

impl Authority {
    pub fn generate(now: Timestamp) -> Result<Self, Error> {
        let key = KeyPair::generate().map_err(Error::Key)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name("Skiff cluster");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        hold(&mut params, now, now);
        params.not_after = rcgen::date_time_ymd(NEVER.0, NEVER.1, NEVER.2);
        params.serial_number = Some(serial()?);
        let ca = params.self_signed(&key).map_err(Error::Issue)?;
        Self::of(ca.der().clone(), key)
    }

    fn of(ca: CertificateDer<'static>, key: KeyPair) -> Result<Self, Error> {
        let parsed = pem::parse(&ca, "the authority's certificate")?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.der_bytes() {
            return Err(Error::OtherKey);
        }
        let since = pem::not_before(&parsed);
        drop(parsed);
        let issuer = Issuer::from_ca_cert_der(&ca, key).map_err(|error| Error::read("the authority", error))?;
        Ok(Self { issuer, ca, since })
    }

    /// Reads what [`Self::to_pem`] wrote.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let key = Key::from_pem(text)?.into_pair();
        Self::of(pem::certificate(text, "the authority's certificate")?, key)
    }

    /// Its key and its certificate. Secret.
    pub fn to_pem(&self) -> String {
        self.issuer.key().serialize_pem() + &self.ca_pem()
    }

    pub fn ca_pem(&self) -> String {
        pem::of_certificate(&self.ca)
    }

    /// The SHA-256 of its certificate, in hexadecimal.
    pub fn ca_hash(&self) -> String {
        pem::hash(&self.ca)
    }

    /// Who a machine with that key is: the same, however often it asks. Errors: the request is none.
    pub fn uid_of(csr_pem: &str) -> Result<Uid, Error> {
        let request = request(csr_pem)?;
        let digest = Sha256::digest(request.public_key.der_bytes());
        Ok(Uid::new(pem::hex(&digest[..UID_BYTES])))
    }

    /// A node's certificate for the key that signed the request. Of the request nothing else counts: who it is for is the
    /// control plane's to say.
    pub fn issue_node(&self, csr_pem: &str, uid: &Uid, now: Timestamp) -> Result<String, Error> {
        let request = request(csr_pem)?;
        let name = names::node_name(uid)?;
        let mut params = self.params(&name, now + NODE_VALIDITY)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = vec![dns(&name)?];
        let issued = params.signed_by(&request.public_key, &self.issuer).map_err(Error::Issue)?;
        Ok(pem::of_certificate(issued.der()))
    }

    /// The control plane's certificate, which also has the hosts and addresses that it is reached by.
    pub fn issue_server(&self, key: &Key, hosts: &[String], now: Timestamp) -> Result<Identity, Error> {
        let mut params = self.params(names::CONTROL_PLANE, now + SERVER_VALIDITY)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = vec![dns(names::CONTROL_PLANE)?];
        for host in hosts {
            let name = match host.parse::<IpAddr>() {
                Ok(addr) => SanType::IpAddress(addr),
                Err(_) => dns(host)?,
            };
            if !params.subject_alt_names.contains(&name) {
                params.subject_alt_names.push(name);
            }
        }
        let issued = params.signed_by(key.pair(), &self.issuer).map_err(Error::Issue)?;
        // With the authority's own certificate: whoever joins knows only its hash.
        let chain = pem::of_certificate(issued.der()) + &self.ca_pem();
        Identity::new(key, &chain, &self.ca_pem())
    }

    fn params(&self, common_name: &str, not_after: Timestamp) -> Result<CertificateParams, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = name(common_name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        hold(&mut params, self.since, not_after);
        params.serial_number = Some(serial()?);
        Ok(params)
    }
}

/// A request whose signature is that of the key in it.
fn request(csr_pem: &str) -> Result<CertificateSigningRequestParams, Error> {
    let fail = |why: &dyn ToString| Error::read("the request for a certificate", why.to_string());
    if csr_pem.len() > CSR_BYTES_MAX {
        return Err(fail(&"it is too long"));
    }
    let request = CertificateSigningRequestParams::from_pem(csr_pem).map_err(|error| fail(&error))?;
    match request.public_key.algorithm() == &PKCS_ECDSA_P256_SHA256 {
        true => Ok(request),
        false => Err(fail(&"its key is not of P-256")),
    }
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn dns(name: &str) -> Result<SanType, Error> {
    let is_name = rustls::pki_types::DnsName::try_from(name).is_ok();
    match name.try_into() {
        Ok(name) if is_name => Ok(SanType::DnsName(name)),
        _ => Err(Error::read("a host name", format!("{name:?} is none"))),
    }
}

/// The same key gets several certificates, so its hash is no serial number.
fn serial() -> Result<SerialNumber, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(Error::Randomness)?;
    // Positive, whatever the first bit is read as.
    bytes[0] &= 0x7f;
    Ok(SerialNumber::from_slice(&bytes))
}

fn hold(params: &mut CertificateParams, from: Timestamp, until: Timestamp) {
    let seconds = |time: Timestamp| std::time::Duration::from_secs(u64::try_from(time.as_second()).unwrap_or(0));
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + seconds(from);
    params.not_after = epoch + seconds(until);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn an_authority_is_the_same_after_it_was_stored() {
        let authority = Authority::generate(at(NOW)).unwrap();
        let again = Authority::from_pem(&authority.to_pem()).unwrap();
        assert_eq!((again.ca_hash(), again.ca_pem()), (authority.ca_hash(), authority.ca_pem()));
        assert!(!format!("{authority:?}").contains("PRIVATE"));
        let key = Key::generate().unwrap();
        let chain = again.issue_node(&key.csr().unwrap(), &Uid::new("n1"), at(NOW)).unwrap();
        Identity::new(&key, &chain, &authority.ca_pem()).unwrap();
    }

    #[test]
    fn a_key_of_another_authority_is_refused() {
        let [one, two] = [(); 2].map(|()| Authority::generate(at(NOW)).unwrap());
        let mixed = one.issuer.key().serialize_pem() + &two.ca_pem();
        assert!(matches!(Authority::from_pem(&mixed), Err(Error::OtherKey)));
        for text in ["", &one.ca_pem(), &one.issuer.key().serialize_pem()] {
            assert!(Authority::from_pem(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_nodes_certificate_says_what_the_control_plane_says_and_not_what_was_asked() {
        let authority = Authority::generate(at(NOW)).unwrap();
        let key = Key::generate().unwrap();
        let chain = authority.issue_node(&key.csr().unwrap(), &Uid::new("n1"), at(NOW + 1000)).unwrap();
        let identity = Identity::new(&key, &chain, &authority.ca_pem()).unwrap();
        assert_eq!(identity.uid(), Some(&Uid::new("n1")));
        assert_eq!(identity.not_before(), at(NOW));
        assert_eq!(identity.not_after(), at(NOW + 1000) + NODE_VALIDITY);

        // Somebody asks to be the control plane, and an authority.
        let mut params = CertificateParams::new(vec![names::CONTROL_PLANE.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let csr = params.serialize_request(key.pair()).unwrap().pem().unwrap();
        let chain = authority.issue_node(&csr, &Uid::new("n1"), at(NOW)).unwrap();
        let der = pem::certificate(&chain, "it").unwrap();
        let certificate = pem::parse(&der, "it").unwrap();
        assert!(!certificate.is_ca());
        let names = certificate.subject_alternative_name().unwrap().unwrap().value.general_names.clone();
        assert_eq!(format!("{names:?}"), "[DNSName(\"n1.node.skiff.internal\")]");
    }

    #[test]
    fn a_request_that_is_none_gets_nothing() {
        let authority = Authority::generate(at(NOW)).unwrap();
        let key = Key::generate().unwrap();
        let csr = key.csr().unwrap();
        let mut damaged = csr.clone().into_bytes();
        let middle = damaged.len() / 2;
        damaged[middle] = if damaged[middle] == b'A' { b'B' } else { b'A' };
        let damaged = String::from_utf8(damaged).unwrap();
        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let other = CertificateParams::default().serialize_request(&other).unwrap().pem().unwrap();
        for bad in ["", "nonsense", &damaged, &authority.ca_pem(), &other, &"x".repeat(CSR_BYTES_MAX + 1)] {
            assert!(authority.issue_node(bad, &Uid::new("n1"), at(NOW)).is_err(), "{bad}");
        }
        assert!(authority.issue_node(&csr, &Uid::new("n.1"), at(NOW)).is_err());
        let (uid, other) = (Authority::uid_of(&csr).unwrap(), Key::generate().unwrap().csr().unwrap());
        assert_eq!(Authority::uid_of(&key.csr().unwrap()).unwrap(), uid);
        assert_ne!(Authority::uid_of(&other).unwrap(), uid);
        names::node_name(&uid).unwrap();
        authority.issue_node(&csr, &Uid::new("n1"), at(NOW)).unwrap();
    }

    #[test]
    fn the_control_plane_has_a_name_of_its_own_and_those_of_its_hosts() {
        let authority = Authority::generate(at(NOW)).unwrap();
        let key = Key::generate().unwrap();
        let hosts = ["localhost", "127.0.0.1", "::1", "a.example", "localhost"].map(str::to_owned);
        let identity = authority.issue_server(&key, &hosts, at(NOW)).unwrap();
        assert_eq!(identity.uid(), None);
        assert_eq!(identity.chain().len(), 2);
        let certificate = pem::parse(&identity.chain()[0], "it").unwrap();
        let names = &certificate.subject_alternative_name().unwrap().unwrap().value.general_names;
        assert_eq!(names.len(), 5, "{names:?}");
        assert!(authority.issue_server(&key, &["no host".to_owned()], at(NOW)).is_err());
    }
}
