//! Private keys, as openssl and cosign keep them: PKCS#8 in PEM, plain or under a passphrase in cosign's own form.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crypto_secretbox::aead::{Aead, KeyInit};
use crypto_secretbox::{Key, Nonce, XSalsa20Poly1305};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use serde::{Deserialize, Serialize};
use skiff_api::trust::{InvalidKey, KeyAlgorithm, PublicKey};

/// A key's file has some hundred bytes.
pub const KEY_BYTES_MAX: usize = 16 << 10;

const PLAIN: &str = "PRIVATE KEY";
/// The second is what cosign called it first.
const SEALED: [&str; 2] = ["ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY"];

/// What it takes to try a passphrase: cosign's choice, about 0.1 s and 32 MiB; and the most that is accepted of a file.
const SCRYPT_LOG_N: u8 = 15;
const SCRYPT_LOG_N_MAX: u8 = 20;
const SCRYPT_R: u32 = 8;
const SCRYPT_P: u32 = 1;

const KDF: &str = "scrypt";
const CIPHER: &str = "nacl/secretbox";
const SALT_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// A key that signs.
pub struct SigningKey {
    pair: Pair,
    public: PublicKey,
}

enum Pair {
    P256(Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

/// Why a text is no key to sign with.
#[derive(Debug, thiserror::Error)]
pub enum InvalidPrivateKey {
    #[error("it is not one PEM block (hint: `skiff sign --generate-key FILE` makes a key)")]
    NotPem,
    #[error("it is a public key (hint: sign with the private one; the public one belongs into an ImagePolicy)")]
    Public,
    #[error("it is {found} (hint: openssl pkcs8 -topk8 -nocrypt -in KEY writes it as it is understood here)")]
    Other { found: String },
    #[error("it is neither a P-256 nor an Ed25519 key in PKCS#8 (hint: `skiff sign --generate-key FILE` makes one)")]
    Algorithm,
    #[error("its passphrase is needed")]
    NoPassphrase,
    #[error("the passphrase is wrong, or the file is damaged")]
    Passphrase,
    #[error("it is encrypted in a way that is not understood")]
    Sealing,
    #[error(transparent)]
    Key(#[from] InvalidKey),
}

#[derive(Debug, thiserror::Error)]
#[error("failed to sign: the system has no randomness")]
pub struct SignError;

/// A new pair, in PEM.
pub struct GeneratedKey {
    pub private: String,
    pub public: PublicKey,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
struct Kdf {
    name: String,
    params: ScryptParams,
    salt: String,
}

#[derive(Serialize, Deserialize)]
struct ScryptParams {
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
}

#[derive(Serialize, Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

impl SigningKey {
    /// Whether a text is a key under a passphrase.
    pub fn is_sealed(text: &str) -> bool {
        SEALED.iter().any(|tag| text.contains(&format!("-----BEGIN {tag}-----")))
    }

    /// Reads a key. The passphrase is for one that is sealed.
    pub fn read(text: &str, passphrase: Option<&str>) -> Result<Self, InvalidPrivateKey> {
        if text.len() > KEY_BYTES_MAX {
            return Err(InvalidPrivateKey::NotPem);
        }
        let blocks = pem::parse_many(text).map_err(|_| InvalidPrivateKey::NotPem)?;
        let [block] = blocks.as_slice() else { return Err(InvalidPrivateKey::NotPem) };
        match block.tag() {
            PLAIN => Self::from_pkcs8(block.contents()),
            tag if SEALED.contains(&tag) => {
                Self::from_pkcs8(&opened(block.contents(), passphrase.ok_or(InvalidPrivateKey::NoPassphrase)?)?)
            }
            "PUBLIC KEY" => Err(InvalidPrivateKey::Public),
            tag => Err(InvalidPrivateKey::Other {
                found: format!("called {:?}", tag.chars().take(40).collect::<String>()),
            }),
        }
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, InvalidPrivateKey> {
        let random = SystemRandom::new();
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der, &random) {
            let public = PublicKey::new(KeyAlgorithm::P256, pair.public_key().as_ref())?;
            return Ok(Self { pair: Pair::P256(Box::new(pair)), public });
        }
        // openssl and Go leave the public half out, which then cannot disagree.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| InvalidPrivateKey::Algorithm)?;
        let public = PublicKey::new(KeyAlgorithm::Ed25519, pair.public_key().as_ref())?;
        Ok(Self { pair: Pair::Ed25519(Box::new(pair)), public })
    }

    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a message: a P-256 signature in DER, or the 64 bytes of Ed25519.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        match &self.pair {
            Pair::P256(pair) => {
                pair.sign(&SystemRandom::new(), message).map(|it| it.as_ref().to_vec()).map_err(|_| SignError)
            }
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl GeneratedKey {
    /// A new pair of P-256, which every tool understands; the private half under a passphrase, if there is one.
    pub fn new(passphrase: Option<&str>) -> Result<Self, InvalidPrivateKey> {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
            .map_err(|_| InvalidPrivateKey::Algorithm)?;
        let public = SigningKey::from_pkcs8(pkcs8.as_ref())?.public;
        let (tag, contents) = match passphrase {
            None => (PLAIN, pkcs8.as_ref().to_vec()),
            Some(passphrase) => (SEALED[0], sealed(pkcs8.as_ref(), passphrase)?),
        };
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        Ok(Self { private: pem::encode_config(&pem::Pem::new(tag, contents), config), public })
    }
}

fn stretched(passphrase: &str, salt: &[u8], log_n: u8, r: u32, p: u32) -> Result<Key, InvalidPrivateKey> {
    let params = scrypt::Params::new(log_n, r, p, 32).map_err(|_| InvalidPrivateKey::Sealing)?;
    let mut key = Key::default();
    scrypt::scrypt(passphrase.as_bytes(), salt, &params, &mut key).map_err(|_| InvalidPrivateKey::Sealing)?;
    Ok(key)
}

fn opened(json: &[u8], passphrase: &str) -> Result<Vec<u8>, InvalidPrivateKey> {
    let Sealed { kdf, cipher, ciphertext } = serde_json::from_slice(json).map_err(|_| InvalidPrivateKey::Sealing)?;
    let ScryptParams { n, r, p } = kdf.params;
    let log_n = u8::try_from(n.trailing_zeros()).unwrap_or(u8::MAX);
    // What a file may make a machine spend: 1 GiB at most.
    let is_bounded = n.is_power_of_two() && log_n <= SCRYPT_LOG_N_MAX && r == SCRYPT_R && p == SCRYPT_P;
    if kdf.name != KDF || cipher.name != CIPHER || !is_bounded {
        return Err(InvalidPrivateKey::Sealing);
    }
    let decode = |text: &str| STANDARD.decode(text).map_err(|_| InvalidPrivateKey::Sealing);
    let (salt, nonce, ciphertext) = (decode(&kdf.salt)?, decode(&cipher.nonce)?, decode(&ciphertext)?);
    let nonce: [u8; NONCE_BYTES] = nonce.try_into().map_err(|_| InvalidPrivateKey::Sealing)?;
    let key = stretched(passphrase, &salt, log_n, r, p)?;
    let secretbox = XSalsa20Poly1305::new(&key);
    secretbox.decrypt(&Nonce::from(nonce), ciphertext.as_slice()).map_err(|_| InvalidPrivateKey::Passphrase)
}

fn sealed(pkcs8: &[u8], passphrase: &str) -> Result<Vec<u8>, InvalidPrivateKey> {
    let random = SystemRandom::new();
    let (mut salt, mut nonce) = ([0; SALT_BYTES], [0; NONCE_BYTES]);
    let filled = random.fill(&mut salt).and_then(|()| random.fill(&mut nonce));
    filled.map_err(|_| InvalidPrivateKey::Sealing)?;
    let key = stretched(passphrase, &salt, SCRYPT_LOG_N, SCRYPT_R, SCRYPT_P)?;
    let ciphertext =
        XSalsa20Poly1305::new(&key).encrypt(&Nonce::from(nonce), pkcs8).map_err(|_| InvalidPrivateKey::Sealing)?;
    let sealed = Sealed {
        kdf: Kdf {
            name: KDF.to_owned(),
            params: ScryptParams { n: 1 << SCRYPT_LOG_N, r: SCRYPT_R, p: SCRYPT_P },
            salt: STANDARD.encode(salt),
        },
        cipher: Cipher { name: CIPHER.to_owned(), nonce: STANDARD.encode(nonce) },
        ciphertext: STANDARD.encode(ciphertext),
    };
    serde_json::to_vec(&sealed).map_err(|_| InvalidPrivateKey::Sealing)
}
