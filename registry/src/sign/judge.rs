//! Whether an image is signed as policies ask for.

use std::fmt;

use skiff_api::trust::{KeyAlgorithm, PublicKey};
use skiff_api::{Digest, Trust};

use super::key::{self, fingerprint};
use super::{Attached, Form, Unfit};

/// How many of what was found a message tells.
const TOLD_MAX: usize = 3;

/// What one signature turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub form: Form,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The holder of this key, one of those that were tried, signed this image.
    Signed {
        key: Digest,
        algorithm: KeyAlgorithm,
    },
    /// It is of this image, and of none of the keys that were tried.
    OtherKey {
        hint: Option<String>,
    },
    Unfit(Unfit),
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = self.form.name();
        match &self.what {
            What::Signed { key, algorithm } => {
                write!(f, "a {form} by the {} key {}:{}", algorithm.name(), key.algorithm().name(), key.short())
            }
            What::OtherKey { hint: Some(hint) } => write!(f, "a {form} by another key (it says {hint})"),
            What::OtherKey { hint: None } => write!(f, "a {form} by another key"),
            What::Unfit(unfit) => write!(f, "a {form} that does not count: {unfit}"),
        }
    }
}

/// An image that may not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub image: Digest,
    /// The policy that is not fulfilled. Missing: none covers the image.
    pub policy: Option<String>,
    /// How many keys it has.
    pub keys: usize,
    /// What was found instead.
    pub found: Vec<String>,
}

impl Refusal {
    /// What to do.
    pub fn hint(&self) -> &'static str {
        match self.policy {
            Some(_) => {
                "sign it with a key of the policy, `skiff sign IMAGE --key FILE`; `skiff inspect IMAGE` shows who signed"
            }
            None => "as long as a namespace has policies, each image needs one: add its repository to an ImagePolicy",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { image, policy, keys, found } = self;
        let image = format!("{}:{}", image.algorithm().name(), image.short());
        let Some(policy) = policy else {
            return write!(f, "no image policy of the namespace covers it ({image})");
        };
        let whose = if *keys == 1 { "the key".to_owned() } else { format!("one of the {keys} keys") };
        write!(f, "image policy {policy} wants {image} signed by {whose} that it names; found: ")?;
        match found.as_slice() {
            [] => f.write_str("no signature"),
            found => {
                f.write_str(&found.iter().take(TOLD_MAX).cloned().collect::<Vec<_>>().join("; "))?;
                match found.len().saturating_sub(TOLD_MAX) {
                    0 => Ok(()),
                    more => write!(f, "; and {more} more"),
                }
            }
        }
    }
}

impl std::error::Error for Refusal {}

/// What each signature is, as far as these keys can tell.
pub fn look(attached: &Attached, digest: &Digest, keys: &[PublicKey]) -> Vec<Seen> {
    let seen = attached.signatures.iter().map(|signature| {
        let what = match signature.claim(digest) {
            Err(unfit) => What::Unfit(unfit),
            Ok(claim) => match keys.iter().find(|key| key::verifies(key, &claim.message, &claim.signature)) {
                Some(key) => What::Signed { key: fingerprint(key), algorithm: key.algorithm() },
                None => What::OtherKey { hint: claim.hint },
            },
        };
        Seen { form: signature.form(), what }
    });
    seen.collect()
}

/// Whether each of the policies has a signature by one of its keys. Fails closed: without policies, or a key, it has none.
pub fn judge(trust: &Trust, digest: &Digest, attached: &Attached) -> Result<(), Refusal> {
    if trust.policies.is_empty() {
        return Err(Refusal { image: digest.clone(), policy: None, keys: 0, found: Vec::new() });
    }
    for (policy, keys) in &trust.policies {
        let seen = look(attached, digest, keys);
        if !seen.iter().any(|seen| matches!(seen.what, What::Signed { .. })) {
            let found = seen.iter().map(ToString::to_string).chain(attached.skipped.iter().cloned()).collect();
            return Err(Refusal { image: digest.clone(), policy: Some(policy.clone()), keys: keys.len(), found });
        }
    }
    Ok(())
}
