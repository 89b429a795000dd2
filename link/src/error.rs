//! What can go wrong with keys, certificates and TLS.

/// Why something about a key, a certificate or TLS failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to make a key")]
    Key(#[source] rcgen::Error),
    #[error("failed to get random numbers")]
    Randomness(#[source] getrandom::Error),
    #[error("failed to make a certificate")]
    Issue(#[source] rcgen::Error),
    /// What was given is damaged, or something else.
    #[error("failed to read {what}: {why}")]
    Read { what: &'static str, why: String },
    #[error("failed to use a certificate: it is of another key")]
    OtherKey,
    #[error("failed to use a certificate: another authority issued it")]
    OtherAuthority,
    #[error("failed to name a node: {uid:?} is no id (hint: up to 63 lower-case letters, digits and '-')")]
    BadUid { uid: String },
    #[error("failed to set up TLS")]
    Tls(#[source] rustls::Error),
}

impl Error {
    pub(crate) fn read(what: &'static str, why: impl ToString) -> Self {
        Self::Read { what, why: why.to_string() }
    }
}
