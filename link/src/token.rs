//! The token that a machine joins a cluster with: `skiff1.ID.SECRET.CAHASH`.
//!
//! It says which token it is, proves that whoever shows it was given it, and says which cluster this is: the machine talks
//! to nobody whose certificate does not come from the authority with that hash, so a stranger in between gets no secret.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use skiff_api::Name;

use crate::Error;
use crate::pem::hex;

const FORMAT: &str = "skiff1";
/// Nobody guesses 128 random bits.
const SECRET_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// What whoever joins must know. Not printed by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn generate() -> Result<Self, Error> {
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes).map_err(Error::Randomness)?;
        Ok(Self(hex(&bytes)))
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What the control plane keeps of it.
    pub fn hash(&self) -> String {
        hash(&self.0)
    }
}

/// The hash of a secret that somebody claims to know. As long as the secret has 128 random bits, it needs no salt.
pub fn hash(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A token as its owner has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    pub id: Name,
    pub secret: Secret,
    /// The SHA-256 of the authority's certificate, in hexadecimal.
    pub ca_hash: String,
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FORMAT}.{}.{}.{}", self.id, self.secret.0, self.ca_hash)
    }
}

/// Why a text is no token. Does not repeat the text, most of which may be secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is no join token: {why} (hint: paste the whole line that `skiff token create --node` printed)")]
pub struct InvalidToken {
    why: &'static str,
}

impl FromStr for JoinToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |why| Err(InvalidToken { why });
        let mut parts = text.trim().split('.');
        let (format, id, secret, ca_hash, rest) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next());
        if format != Some(FORMAT) {
            return fail("it does not begin with `skiff1.`");
        }
        let (Some(id), Some(secret), Some(ca_hash), None) = (id, secret, ca_hash, rest) else {
            return fail("it has not four parts");
        };
        let Ok(id) = id.parse() else { return fail("its id is none") };
        if !is_hex(secret, SECRET_BYTES) {
            return fail("its secret is damaged");
        }
        if !is_hex(ca_hash, HASH_BYTES) {
            return fail("the hash of the cluster's authority is damaged");
        }
        Ok(Self { id, secret: Secret(secret.to_owned()), ca_hash: ca_hash.to_owned() })
    }
}

fn is_hex(text: &str, bytes: usize) -> bool {
    text.len() == bytes * 2 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken { id: "k3f9".parse().unwrap(), secret: Secret::generate().unwrap(), ca_hash: "ab".repeat(32) }
    }

    #[test]
    fn a_token_is_read_as_it_was_printed_and_shows_no_secret_in_debug() {
        let token = token();
        let text = token.to_string();
        assert_eq!(text.parse(), Ok(token.clone()));
        assert_eq!(format!(" {text}\n").parse(), Ok(token.clone()));
        assert!(!format!("{token:?}").contains(token.secret.reveal()));
        assert_eq!(token.secret.hash(), hash(token.secret.reveal()));
        assert_ne!(token.secret, Secret::generate().unwrap());
    }

    #[test]
    fn what_is_wrong_is_said_and_the_text_is_not() {
        let text = token().to_string();
        let cut = &text[..text.len() - 1];
        let upper = text.to_uppercase();
        let bad = [
            ("", "begin"),
            ("skiff2.a.b.c", "begin"),
            (upper.as_str(), "begin"),
            ("skiff1.a.b", "four parts"),
            (&format!("{text}.x"), "four parts"),
            (&text.replacen("k3f9", "", 1), "id"),
            ("skiff1.a.secret.hash", "secret"),
            (cut, "hash"),
        ];
        for (text, why) in bad {
            let error = text.parse::<JoinToken>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
    }
}
